"""The face that Apertium's clients speak, OmegaT for one: all in the query of a GET.

Its `/translate` is LibreTranslate's path too, which takes no GET there.
"""

from typing import Annotated, Generic, Literal, TypeVar

from fastapi import APIRouter, Request
from pydantic import Field
from typing_extensions import TypedDict

from service.api.multilingual import MultilingualTranslator, Order
from service.errors import InvalidRequest
from service.protocol.dialects import APERTIUM, DialectRoute
from service.protocol.fields import Fields, read_fields
from service.protocol.openapi import documented_errors, documented_query
from service.protocol.validation import validated


class TranslateFields(Fields):
    """A text, and what to make of it."""

    q: str
    langpair: Annotated[str, Field(max_length=71, examples=["en|de"])]
    # Our models know no unknown words, so there is nothing to mark.
    markUnknown: Literal["yes", "no"] = "yes"
    format: Literal["txt"] = "txt"
    key: str | None = None


class TranslatedText(TypedDict):
    """Apertium's way to say a translation."""

    translatedText: str


class LanguagePair(TypedDict):
    """One that there is a model for."""

    sourceLanguage: str
    targetLanguage: str


Data = TypeVar("Data")


class Answered(TypedDict, Generic[Data]):
    """Apertium's envelope."""

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
    max_texts = multilingual.translation_service.settings.max_texts

    @router.get("/translate", summary="Translate", openapi_extra=documented_query(TranslateFields))
    async def translate(request: Request) -> Answered[TranslatedText]:
        """Answers as Apertium does: `?q=Good morning.&langpair=en|de`."""
        fields = validated(TranslateFields, await read_fields(request, max_texts))
        source, _, target = fields.langpair.partition("|")
        if not source or not target:
            raise InvalidRequest("langpair is not a pair of languages; send for example en|de")
        order = Order([fields.q], source, target, name_of=lambda _: "q")
        (result,) = await multilingual.translate(request, order)
        return _answered(TranslatedText(translatedText=result.text))

    @router.get("/listPairs", summary="List the language pairs")
    async def list_pairs() -> Answered[list[LanguagePair]]:
        """Answers every pair there is a model for."""
        pairs = multilingual.served().pairs
        return _answered(
            [LanguagePair(sourceLanguage=source, targetLanguage=target) for source, target in pairs]
        )

    return router


def _answered(data: Data) -> Answered[Data]:
    return {"responseStatus": 200, "responseData": data, "responseDetails": None}
