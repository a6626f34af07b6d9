"""The face that LibreTranslate's clients speak: libretranslatepy, Mastodon, Weblate and others.

A list of texts gets lists, a lone text plain values. Keys are the guard's affair.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import AliasChoices, Field

from service.errors import ModelLoading
from service.faces.fields import Fields, LanguageCode, Texts, documented, read_fields
from service.interpreter import Interpretation, Interpreter, Order
from service.invalid import validated
from service.languages import ServedPairs, language_name
from service.lifecycle import Phase
from service.markup import plain_document, tagged_document

_AUTO = "auto"

# Mastodon and Lingarr send null, npm's libretranslate the other name.
ApiKey = Annotated[str | None, Field(validation_alias=AliasChoices("api_key", "apiKey"))]


class TranslateFields(Fields):
    """Texts, and what to make of them."""

    q: Annotated[Texts, Field(examples=["Good morning."])]
    source: Annotated[LanguageCode, Field(examples=["en", _AUTO])]
    target: Annotated[LanguageCode, Field(examples=["de"])]
    format: Literal["text", "html"] = "text"
    alternatives: Annotated[int, Field(ge=0)] = 0
    api_key: ApiKey = None


class DetectFields(Fields):
    """A text whose language is asked for."""

    q: str
    api_key: ApiKey = None


def libretranslate_router(interpreter: Interpreter) -> APIRouter:
    """LibreTranslate's routes, at the root as its clients expect them."""
    router = APIRouter(tags=["as LibreTranslate"])
    settings = interpreter.gate.settings

    @router.post("/translate", summary="Translate", openapi_extra=documented(TranslateFields))
    async def translate(request: Request) -> dict[str, Any]:
        """Answers as LibreTranslate does; errors are `{"error": "..."}`."""
        fields = validated(TranslateFields, await read_fields(request, settings.max_texts))
        lone = isinstance(fields.q, str)
        order = Order(
            [fields.q] if isinstance(fields.q, str) else fields.q,
            None if fields.source.lower() == _AUTO else fields.source,
            fields.target,
            name_of=lambda index: "q" if lone else f"q[{index}]",
            num_alternatives=fields.alternatives,
            read=tagged_document if fields.format == "html" else plain_document,
        )
        results = await interpreter.translate(request, order)
        return _answer(order, results, lone=lone)

    @router.post("/detect", summary="Detect a language", openapi_extra=documented(DetectFields))
    async def detect(request: Request) -> list[dict[str, Any]]:
        """Answers the languages that a text may be in, likeliest first, in percent."""
        fields = validated(DetectFields, await read_fields(request, settings.max_texts))
        (guesses,) = await interpreter.detect(request, [fields.q], lambda _: "q")
        likely = [guess for guess in guesses if _percent(guess.confidence) > 0] or guesses[:1]
        return [_detected(guess.language, guess.confidence) for guess in likely]

    # argostranslate's client asks with POST.
    @router.post("/languages", include_in_schema=False)
    @router.get("/languages", summary="List the languages")
    async def languages() -> list[dict[str, Any]]:
        """Answers each language with its name and what it can be translated to."""
        return [
            {"code": code, "name": language_name(code), "targets": list(targets)}
            for code, targets in interpreter.served().by_language.items()
        ]

    @router.get("/frontend/settings", summary="What a client may offer")
    async def frontend_settings() -> dict[str, Any]:
        """Answers the limits, and what LibreTranslate has and this service has not."""
        return {
            "charLimit": settings.max_characters,
            "batchLimit": settings.max_texts,
            "frontendTimeout": 500,
            "apiKeys": interpreter.gate.access.needs_keys,
            "keyRequired": interpreter.gate.access.needs_keys,
            "suggestions": False,
            "filesTranslation": False,
            "supportedFilesFormat": [],
            "language": _default_languages(interpreter.served()),
        }

    @router.get("/health", summary="Does it translate?")
    async def health() -> dict[str, str]:
        """Answers ok when /health/ready does, else 503."""
        ready = interpreter.gate.registry.ready
        if interpreter.gate.lifecycle.phase is not Phase.SERVING or not ready:
            raise ModelLoading("not ready; see /health/ready", retry_after_s=1)
        return {"status": "ok"}

    return router


def _answer(order: Order, results: Sequence[Interpretation], *, lone: bool) -> dict[str, Any]:
    columns: dict[str, list[Any]] = {"translatedText": [result.text for result in results]}
    if order.source is None:
        columns["detectedLanguage"] = [
            _detected(result.source, result.confidence or 0.0) for result in results
        ]
    if order.num_alternatives:
        columns["alternatives"] = [list(result.alternatives) for result in results]
    return {name: column[0] for name, column in columns.items()} if lone else dict(columns)


def _detected(language: str, confidence: float) -> dict[str, Any]:
    return {"language": language, "confidence": _percent(confidence)}


def _percent(confidence: float) -> float:
    return round(100 * confidence, 1)


def _default_languages(served: ServedPairs) -> dict[str, Any]:
    target = next(iter(served.targets), None)
    return {
        "source": {"code": _AUTO, "name": "Auto Detect"},
        "target": target and {"code": target, "name": language_name(target)},
    }
