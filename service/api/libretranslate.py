"""LibreTranslate's API: for libretranslatepy, Mastodon, Weblate and other clients.

A request with a list of texts gets lists in the answer, one with a single text gets plain values.
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

# Mastodon and Lingarr send null; the npm package libretranslate sends the name apiKey.
ApiKey = Annotated[str | None, Field(validation_alias=AliasChoices("api_key", "apiKey"))]


class TranslateFields(Fields):
    """Texts and options for translating them."""

    q: Annotated[Texts, Field(examples=["Good morning."])]
    source: Annotated[LanguageCode, Field(examples=["en", _AUTO])]
    target: Annotated[LanguageCode, Field(examples=["de"])]
    format: Literal["text", "html"] = "text"
    alternatives: Annotated[int, Field(ge=0)] = 0
    api_key: ApiKey = None


class DetectFields(Fields):
    """A text whose language to detect."""

    q: str
    api_key: ApiKey = None


class Detected(TypedDict):
    """A possible language of a text, with the confidence in percent."""

    language: str
    confidence: float


class LibreTranslateAnswer(TypedDict):
    """The translations: lists for a list of texts, plain values for a single text."""

    translatedText: str | list[str]
    detectedLanguage: NotRequired[Detected | list[Detected]]
    alternatives: NotRequired[list[str] | list[list[str]]]


class LibreTranslateLanguage(TypedDict):
    """A language and the languages that it can be translated into."""

    code: str
    name: str
    targets: list[str]


class NamedCode(TypedDict):
    """A language's code and name, for a menu."""

    code: str
    name: str


class DefaultLanguages(TypedDict):
    """The languages that a client's menus select at first."""

    source: NamedCode
    target: NamedCode | None


class FrontendSettings(TypedDict):
    """Limits and features of the service, for a client's user interface."""

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
    """The answer of a ready service; a service that is not ready answers with an error."""

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
        """Translates as LibreTranslate does; errors are `{"error": "..."}`."""
        fields = validated(TranslateFields, await read_fields(request, limits))
        is_single = isinstance(fields.q, str)
        order = Order(
            [fields.q] if isinstance(fields.q, str) else fields.q,
            None if fields.source.lower() == _AUTO else fields.source,
            fields.target,
            name_of=lambda index: "q" if is_single else f"q[{index}]",
            num_alternatives=fields.alternatives,
            read=tagged_document if fields.format == "html" else plain_document,
        )
        results = await multilingual.translate(request, order)
        return _answer(order, results, is_single=is_single)

    @router.post(
        "/detect", summary="Detect a language", openapi_extra=documented_body(DetectFields)
    )
    async def detect(request: Request) -> list[Detected]:
        """Returns the possible languages of a text, most likely first, confidence in percent."""
        fields = validated(DetectFields, await read_fields(request, limits))
        (guesses,) = await multilingual.detect(request, [fields.q], lambda _: "q")
        likely = [guess for guess in guesses if _percent(guess.confidence) > 0] or guesses[:1]
        return [_detected(guess.language, guess.confidence) for guess in likely]

    # argostranslate's client sends POST.
    @router.post("/languages", include_in_schema=False)
    @router.get("/languages", summary="List the languages")
    async def languages() -> list[LibreTranslateLanguage]:
        """Returns each language with its name and the languages that it can be translated into."""
        return [
            {"code": code, "name": language_name(code), "targets": list(targets)}
            for code, targets in multilingual.served().by_language.items()
        ]

    @router.get("/frontend/settings", summary="Get the limits and features")
    async def frontend_settings() -> FrontendSettings:
        """Returns the limits, and which of LibreTranslate's features this service has."""
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

    @router.get("/health", summary="Is the service ready to translate?")
    async def health() -> Health:
        """Returns ok when /health/ready does, else 503."""
        ready = multilingual.translation_service.registry.ready
        if multilingual.translation_service.lifecycle.phase is not Phase.SERVING or not ready:
            raise ModelLoading(
                "the service is not ready; GET /health/ready shows the models", retry_after_s=1
            )
        return {"status": "ok"}

    return router


def _answer(
    order: Order, results: Sequence[Interpretation], *, is_single: bool
) -> LibreTranslateAnswer:
    columns: dict[str, list[Any]] = {"translatedText": [result.text for result in results]}
    if order.source is None:
        columns["detectedLanguage"] = [
            _detected(result.source, result.confidence or 0.0) for result in results
        ]
    if order.num_alternatives:
        columns["alternatives"] = [list(result.alternatives) for result in results]
    answer = {name: column[0] if is_single else column for name, column in columns.items()}
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
