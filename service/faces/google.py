"""The face that clients of Google Translate's version 2 speak, google-cloud-translate for one.

As with Google a text is HTML unless `format` says otherwise. Keys are the guard's affair.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field

from service.detection import Guess
from service.faces.fields import Fields, LanguageCode, Texts, documented, read_fields
from service.interpreter import Interpretation, Interpreter, Order
from service.invalid import validated
from service.languages import language_name, wider_codes
from service.markup import plain_document, tagged_document

_RELIABLE = 0.5  # likelier than all others together


class _GoogleFields(Fields):
    key: str | None = None
    prettyPrint: Annotated[bool, Field(description="Changes nothing.")] = False


class TranslateFields(_GoogleFields):
    """Texts, and what to make of them."""

    q: Annotated[Texts, Field(examples=[["Good morning."]])]
    target: Annotated[LanguageCode, Field(examples=["de"])]
    source: LanguageCode | None = None
    format: Literal["html", "text"] = "html"
    model: Literal["base", "nmt"] | None = None
    cid: Annotated[list[str] | None, Field(max_length=0)] = None


class DetectFields(_GoogleFields):
    """Texts whose languages are asked for."""

    q: Texts


class LanguagesFields(_GoogleFields):
    """In which language the languages' names are to be, if they are asked for."""

    target: LanguageCode | None = None
    model: Literal["base", "nmt"] | None = None


def google_router(interpreter: Interpreter) -> APIRouter:
    """Google's routes of version 2."""
    router = APIRouter(prefix="/language/translate/v2", tags=["as Google Translate"])
    max_texts = interpreter.gate.settings.max_texts

    @router.post("", summary="Translate", openapi_extra=documented(TranslateFields))
    async def translate(request: Request) -> dict[str, Any]:
        """Answers as Google does; errors are `{"error": {"code": ..., "message": ...}}`."""
        fields = validated(TranslateFields, await read_fields(request, max_texts))
        order = Order(
            _listed(fields.q),
            fields.source,
            fields.target,
            name_of=_name_of(fields.q),
            read=tagged_document if fields.format == "html" else plain_document,
        )
        results = await interpreter.translate(request, order)
        return {"data": {"translations": [_translation(result, fields) for result in results]}}

    @router.post("/detect", summary="Detect languages", openapi_extra=documented(DetectFields))
    async def detect(request: Request) -> dict[str, Any]:
        """Answers the likeliest language of each text."""
        fields = validated(DetectFields, await read_fields(request, max_texts))
        guesses = await interpreter.detect(request, _listed(fields.q), _name_of(fields.q))
        return {
            "data": {"detections": [[_detection(of_text[0])] for of_text in guesses if of_text]}
        }

    @router.get("/languages", summary="List the languages")
    async def languages(request: Request) -> dict[str, Any]:
        """Answers all languages; with `target`, their names in that language too."""
        fields = validated(LanguagesFields, await read_fields(request, max_texts))
        listed: list[dict[str, str]] = [
            {"language": code} for code in interpreter.served().by_language
        ]
        if fields.target is not None:
            for entry in listed:
                entry["name"] = language_name(entry["language"], wider_codes(fields.target)[0])
        return {"data": {"languages": listed}}

    return router


def _listed(texts: str | list[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else texts


def _name_of(texts: str | list[str]) -> Callable[[int], str]:
    return lambda index: "q" if isinstance(texts, str) else f"q[{index}]"


def _translation(result: Interpretation, fields: TranslateFields) -> dict[str, str]:
    answer = {"translatedText": result.text}
    if fields.source is None:
        answer["detectedSourceLanguage"] = result.source
    if fields.model is not None:
        answer["model"] = fields.model
    return answer


def _detection(guess: Guess) -> dict[str, Any]:
    return {
        "language": guess.language,
        "confidence": guess.confidence,
        "isReliable": guess.confidence > _RELIABLE,
    }
