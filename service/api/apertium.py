"""Apertium's API, for OmegaT and other clients: every field is in the query of a GET.

LibreTranslate's API has the path `/translate` too, but does not accept GET.
"""

from http import HTTPStatus
from typing import Annotated, Generic, Literal, TypeVar

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.types import Scope
from typing_extensions import TypedDict

from service.api.multilingual import MultilingualTranslator, Order
from service.api.routes import DialectRoute
from service.errors import InvalidRequest
from service.protocol.dialects import COMPATIBLE_STATUSES, Dialect, KeyPlaces, query_of
from service.protocol.error_table import Refusal
from service.protocol.fields import Fields, read_fields
from service.protocol.openapi import documented_errors, documented_query
from service.protocol.validation import validated


def _speaks(scope: Scope) -> bool:
    if scope["path"] == "/translate":
        return scope["method"] == "GET" or "langpair" in query_of(scope)
    return bool(scope["path"] == "/listPairs")


def _error_body(refusal: Refusal) -> object:
    return {
        "status": "error",
        "code": refusal.status,
        "message": HTTPStatus(refusal.status).phrase,
        "explanation": refusal.message,
    }


APERTIUM = Dialect(
    "Apertium",
    speaks=_speaks,
    error_body=_error_body,
    keys=KeyPlaces("key in the query", scheme="bearer", query=("key",)),
    statuses=COMPATIBLE_STATUSES,
    translation_paths=frozenset({"/translate"}),
)


class TranslateFields(Fields):
    """A text and options for translating it."""

    q: str
    langpair: Annotated[str, Field(max_length=71, examples=["en|de"])]
    # No effect: our models translate any word in pieces, so no word is unknown.
    markUnknown: Literal["yes", "no"] = "yes"
    format: Literal["txt"] = "txt"
    key: str | None = None


class TranslatedText(TypedDict):
    """A translation, as Apertium sends it."""

    translatedText: str


class LanguagePair(TypedDict):
    """A pair of languages that a model translates between."""

    sourceLanguage: str
    targetLanguage: str


Data = TypeVar("Data")


class Answered(TypedDict, Generic[Data]):
    """The object around every answer of Apertium's API."""

    responseStatus: int
    responseData: Data
    responseDetails: None


class _Route(DialectRoute):
    dialect = APERTIUM


def apertium_router(multilingual: MultilingualTranslator) -> APIRouter:
    """Apertium's routes, at the root as its clients expect them."""
    router = APIRouter(
        tags=["as Apertium"], responses=documented_errors(APERTIUM), route_class=_Route
    )
    limits = multilingual.translation_service.limits

    @router.get("/translate", summary="Translate", openapi_extra=documented_query(TranslateFields))
    async def translate(request: Request) -> Answered[TranslatedText]:
        """Translates as Apertium does: `?q=Good morning.&langpair=en|de`."""
        fields = validated(TranslateFields, await read_fields(request, limits))
        source, _, target = fields.langpair.partition("|")
        if not source or not target:
            raise InvalidRequest(
                "langpair is not a pair of languages; send source and target, such as en|de"
            )
        order = Order([fields.q], source, target, name_of=lambda _: "q")
        (result,) = await multilingual.translate(request, order)
        return _answered(TranslatedText(translatedText=result.text))

    @router.get("/listPairs", summary="List the language pairs")
    async def list_pairs() -> Answered[list[LanguagePair]]:
        """Returns every pair of languages that is served."""
        pairs = multilingual.served().pairs
        return _answered(
            [LanguagePair(sourceLanguage=source, targetLanguage=target) for source, target in pairs]
        )

    return router


def _answered(data: Data) -> Answered[Data]:
    return {"responseStatus": 200, "responseData": data, "responseDetails": None}
