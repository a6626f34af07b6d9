"""Version 2 of Google Translate's API, for google-cloud-translate and other clients.

As with Google, a text is HTML unless `format` says otherwise.
"""

from collections.abc import Callable
from typing import Annotated, Generic, Literal, NotRequired, TypeVar

from fastapi import APIRouter, Request
from pydantic import Field
from typing_extensions import TypedDict

from service.api.multilingual import Interpretation, MultilingualTranslator, Order
from service.protocol.dialects import COMPATIBLE_STATUSES, Dialect, KeyPlaces
from service.protocol.error_table import Refusal
from service.protocol.fields import Fields, LanguageCode, Texts, read_fields
from service.protocol.openapi import documented_body, documented_errors, documented_query
from service.protocol.validation import validated
from service.text.detection import Guess
from service.text.languages import language_name, wider_codes
from service.text.markup import plain_document, tagged_document

_RELIABLE = 0.5  # above: more likely than all other languages together


def _error_body(refusal: Refusal) -> object:
    reason = {"message": refusal.message, "domain": "global", "reason": refusal.code}
    return {"error": {"code": refusal.status, "message": refusal.message, "errors": [reason]}}


GOOGLE = Dialect(
    "Google Translate",
    speaks=lambda scope: scope["path"].startswith("/language/translate/"),
    error_body=_error_body,
    keys=KeyPlaces(
        "key in the query, or as Authorization: Bearer KEY",
        scheme="bearer",
        header="X-Goog-Api-Key",
        query=("key",),
        body=("key",),
    ),
    statuses=COMPATIBLE_STATUSES,
    translation_paths=frozenset({"/language/translate/v2"}),
)


class _GoogleFields(Fields):
    key: str | None = None
    alt: Literal["json"] = "json"
    prettyPrint: Annotated[bool, Field(description="No effect.")] = False


class TranslateFields(_GoogleFields):
    """Texts and options for translating them."""

    q: Annotated[Texts, Field(examples=[["Good morning."]])]
    target: Annotated[LanguageCode, Field(examples=["de"])]
    source: LanguageCode | None = None
    format: Literal["html", "text"] = "html"
    model: Literal["base", "nmt"] | None = None
    cid: Annotated[list[str] | None, Field(max_length=0)] = None


class DetectFields(_GoogleFields):
    """Texts whose languages to detect."""

    q: Texts


class LanguagesFields(_GoogleFields):
    """The language for the names of the listed languages; without it no names are listed."""

    target: LanguageCode | None = None
    model: Literal["base", "nmt"] | None = None


class GoogleTranslation(TypedDict):
    """One text's translation."""

    translatedText: str
    detectedSourceLanguage: NotRequired[str]
    model: NotRequired[str]


class Translations(TypedDict):
    """One translation for each text, in the request's order."""

    translations: list[GoogleTranslation]


class DetectionBody(TypedDict):
    """A possible language of a text."""

    language: str
    confidence: float
    isReliable: bool


class Detections(TypedDict):
    """The most likely language of each text."""

    detections: list[list[DetectionBody]]


class GoogleLanguage(TypedDict):
    """A language, with its name if the request has `target`."""

    language: str
    name: NotRequired[str]


class Languages(TypedDict):
    """All languages that are served."""

    languages: list[GoogleLanguage]


Data = TypeVar("Data")


class Answer(TypedDict, Generic[Data]):
    """The object around every answer of Google's API."""

    data: Data


def google_router(multilingual: MultilingualTranslator) -> APIRouter:
    """Google's routes of version 2."""
    router = APIRouter(
        prefix="/language/translate/v2",
        tags=["as Google Translate"],
        responses=documented_errors(GOOGLE),
    )
    limits = multilingual.translation_service.limits

    # Google accepts GET too, which clients without Google's library often use.
    @router.get("", include_in_schema=False)
    @router.post("", summary="Translate", openapi_extra=documented_body(TranslateFields))
    async def translate(request: Request) -> Answer[Translations]:
        """Translates as Google does; errors are `{"error": {"code": ..., "message": ...}}`."""
        fields = validated(TranslateFields, await read_fields(request, limits))
        order = Order(
            _listed(fields.q),
            fields.source,
            fields.target,
            name_of=_name_of(fields.q),
            read=tagged_document if fields.format == "html" else plain_document,
        )
        results = await multilingual.translate(request, order)
        return {"data": {"translations": [_translation(result, fields) for result in results]}}

    @router.get("/detect", include_in_schema=False)
    @router.post("/detect", summary="Detect languages", openapi_extra=documented_body(DetectFields))
    async def detect(request: Request) -> Answer[Detections]:
        """Returns the most likely language of each text."""
        fields = validated(DetectFields, await read_fields(request, limits))
        guesses = await multilingual.detect(request, _listed(fields.q), _name_of(fields.q))
        return {
            "data": {"detections": [[_detection(of_text[0])] for of_text in guesses if of_text]}
        }

    @router.get(
        "/languages",
        summary="List the languages",
        openapi_extra=documented_query(LanguagesFields),
    )
    async def languages(request: Request) -> Answer[Languages]:
        """Returns all languages; with `target`, their names in that language too."""
        fields = validated(LanguagesFields, await read_fields(request, limits))
        listed: list[GoogleLanguage] = [
            {"language": code} for code in multilingual.served().by_language
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


def _translation(result: Interpretation, fields: TranslateFields) -> GoogleTranslation:
    answer: GoogleTranslation = {"translatedText": result.text}
    if fields.source is None:
        answer["detectedSourceLanguage"] = result.source
    if fields.model is not None:
        answer["model"] = fields.model
    return answer


def _detection(guess: Guess) -> DetectionBody:
    return {
        "language": guess.language,
        "confidence": guess.confidence,
        "isReliable": guess.confidence > _RELIABLE,
    }
