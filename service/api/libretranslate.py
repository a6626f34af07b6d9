"""LibreTranslate's API: for libretranslatepy, Mastodon, Weblate and other clients.

A list of texts gets lists, a single text plain values.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NotRequired, cast

from fastapi import APIRouter, Request
from pydantic import AliasChoices, Field
from typing_extensions import TypedDict

from service.api.multilingual import Interpretation, MultilingualTranslator, Order
from service.api.routes import DialectRoute
from service.errors import ModelLoading
from service.lifecycle import Phase
from service.protocol.dialects import COMPATIBLE_STATUSES, Dialect, KeyPlaces
from service.protocol.fields import Fields, LanguageCode, Texts, read_fields
from service.protocol.openapi import documented_body, documented_errors
from service.protocol.validation import validated
from service.text.languages import ServedPairs, language_name
from service.text.markup import plain_document, tagged_document

_AUTO = "auto"

_PATHS = frozenset(
    {
        "/detect",
        "/frontend/settings",
        "/health",
        "/languages",
        "/suggest",
        "/translate",
        "/translate_file",
    }
)

LIBRETRANSLATE = Dialect(
    "LibreTranslate",
    speaks=lambda scope: scope["path"] in _PATHS,
    error_body=lambda refusal: {"error": refusal.message},
    keys=KeyPlaces(
        "api_key", scheme="bearer", query=("api_key", "apiKey"), body=("api_key", "apiKey")
    ),
    statuses=COMPATIBLE_STATUSES,
    translation_paths=frozenset({"/translate"}),
)

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


class Detected(TypedDict):
    """A language that a text may be in, and how likely in percent."""

    language: str
    confidence: float


class LibreTranslateAnswer(TypedDict):
    """A list of texts gets lists, a lone text plain values."""

    translatedText: str | list[str]
    detectedLanguage: NotRequired[Detected | list[Detected]]
    alternatives: NotRequired[list[str] | list[list[str]]]


class LibreTranslateLanguage(TypedDict):
    """A language and what it can be translated to."""

    code: str
    name: str
    targets: list[str]


class NamedCode(TypedDict):
    """A language in a menu."""

    code: str
    name: str


class DefaultLanguages(TypedDict):
    """What the menus of a client show first."""

    source: NamedCode
    target: NamedCode | None


class FrontendSettings(TypedDict):
    """What a client may offer."""

    charLimit: int
    batchLimit: int
    frontendTimeout: int
    apiKeys: bool
    keyRequired: bool
    suggestions: bool
    filesTranslation: bool
    supportedFilesFormat: list[str]
    language: DefaultLanguages


class Health(TypedDict):
    """Always ok; what is not ok is an error."""

    status: str


class _Route(DialectRoute):
    dialect = LIBRETRANSLATE


def libretranslate_router(multilingual: MultilingualTranslator) -> APIRouter:
    """LibreTranslate's routes, at the root as its clients expect them."""
    router = APIRouter(
        tags=["as LibreTranslate"],
        responses=documented_errors(LIBRETRANSLATE),
        route_class=_Route,
    )
    limits = multilingual.translation_service.limits
    settings = multilingual.translation_service.settings

    @router.post("/translate", summary="Translate", openapi_extra=documented_body(TranslateFields))
    async def translate(request: Request) -> LibreTranslateAnswer:
        """Answers as LibreTranslate does; errors are `{"error": "..."}`."""
        fields = validated(TranslateFields, await read_fields(request, limits))
        lone = isinstance(fields.q, str)
        order = Order(
            [fields.q] if isinstance(fields.q, str) else fields.q,
            None if fields.source.lower() == _AUTO else fields.source,
            fields.target,
            name_of=lambda index: "q" if lone else f"q[{index}]",
            num_alternatives=fields.alternatives,
            read=tagged_document if fields.format == "html" else plain_document,
        )
        results = await multilingual.translate(request, order)
        return _answer(order, results, lone=lone)

    @router.post(
        "/detect", summary="Detect a language", openapi_extra=documented_body(DetectFields)
    )
    async def detect(request: Request) -> list[Detected]:
        """Answers the languages that a text may be in, likeliest first, in percent."""
        fields = validated(DetectFields, await read_fields(request, limits))
        (guesses,) = await multilingual.detect(request, [fields.q], lambda _: "q")
        likely = [guess for guess in guesses if _percent(guess.confidence) > 0] or guesses[:1]
        return [_detected(guess.language, guess.confidence) for guess in likely]

    # argostranslate's client asks with POST.
    @router.post("/languages", include_in_schema=False)
    @router.get("/languages", summary="List the languages")
    async def languages() -> list[LibreTranslateLanguage]:
        """Answers each language with its name and what it can be translated to."""
        return [
            {"code": code, "name": language_name(code), "targets": list(targets)}
            for code, targets in multilingual.served().by_language.items()
        ]

    @router.get("/frontend/settings", summary="What a client may offer")
    async def frontend_settings() -> FrontendSettings:
        """Answers the limits, and what LibreTranslate has and this service has not."""
        return {
            "charLimit": settings.max_characters,
            "batchLimit": settings.max_texts,
            "frontendTimeout": 500,
            "apiKeys": multilingual.translation_service.access.needs_keys,
            "keyRequired": multilingual.translation_service.access.needs_keys,
            "suggestions": False,
            "filesTranslation": False,
            "supportedFilesFormat": [],
            "language": _default_languages(multilingual.served()),
        }

    @router.get("/health", summary="Does it translate?")
    async def health() -> Health:
        """Answers ok when /health/ready does, else 503."""
        ready = multilingual.translation_service.registry.ready
        if multilingual.translation_service.lifecycle.phase is not Phase.SERVING or not ready:
            raise ModelLoading("not ready; see /health/ready", retry_after_s=1)
        return {"status": "ok"}

    return router


def _answer(order: Order, results: Sequence[Interpretation], *, lone: bool) -> LibreTranslateAnswer:
    columns: dict[str, list[Any]] = {"translatedText": [result.text for result in results]}
    if order.source is None:
        columns["detectedLanguage"] = [
            _detected(result.source, result.confidence or 0.0) for result in results
        ]
    if order.num_alternatives:
        columns["alternatives"] = [list(result.alternatives) for result in results]
    answer = {name: column[0] if lone else column for name, column in columns.items()}
    return cast(LibreTranslateAnswer, answer)


def _detected(language: str, confidence: float) -> Detected:
    return {"language": language, "confidence": _percent(confidence)}


def _percent(confidence: float) -> float:
    return round(100 * confidence, 1)


def _default_languages(served: ServedPairs) -> DefaultLanguages:
    target = next(iter(served.targets), None)
    return {
        "source": {"code": _AUTO, "name": "Auto Detect"},
        "target": None if target is None else {"code": target, "name": language_name(target)},
    }
