"""Version 3.0 of Azure's API."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Request, Response
from pydantic import AliasChoices, BeforeValidator, Field

from service.api.azure.dialect import AZURE_3, VERSION, VERSION_3
from service.api.azure.fields import (
    General,
    Off,
    ProfanityAction,
    ProfanityMarker,
    TextType,
    Unsupported,
)
from service.api.azure.languages import all_languages, in_scope, unless_known
from service.api.azure.translate import USAGE, Kind, interpret, translated, usage
from service.api.azure.version_route import VersionRoute
from service.api.multilingual import MultilingualTranslator
from service.protocol.fields import Fields, LanguageCode, read_query
from service.protocol.openapi import documented_query
from service.protocol.validation import validated
from service.text.detection import Guess


class _Query(Fields):
    version: Annotated[Literal["3.0"], Field(alias=VERSION)]
    trace_id: Annotated[str | None, Field(alias="ClientTraceId", max_length=100)] = None


class TranslateQuery(_Query):
    """Options for the texts, in the query."""

    to: Annotated[
        Annotated[list[LanguageCode], Field(min_length=1)],
        BeforeValidator(lambda given: [given] if isinstance(given, str) else given),
        Field(examples=[["de"]], description="Target language; may be repeated."),
    ]
    source: Annotated[LanguageCode | None, Field(alias="from")] = None
    suggestedFrom: Annotated[
        LanguageCode | None,
        Field(description="Source language of a text whose language cannot be detected."),
    ] = None
    textType: TextType = "plain"
    category: General = "general"
    allowFallback: Annotated[bool, Field(description="No effect: every model is general.")] = True
    profanityAction: ProfanityAction = "NoAction"
    profanityMarker: ProfanityMarker = "Asterisk"
    includeAlignment: Off = False
    includeSentenceLength: Off = False
    fromScript: Unsupported = None
    toScript: Unsupported = None


class LanguagesQuery(_Query):
    """The groups of languages to list."""

    scope: Annotated[str | None, Field(examples=["translation"])] = None


class InputText(Fields):
    """A text to translate, or whose language to detect."""

    text: Annotated[str, Field(validation_alias=AliasChoices("text", "Text"))]


Texts = Annotated[list[InputText], Body(min_length=1)]


class _Route(VersionRoute):
    dialect = AZURE_3
    version = VERSION_3


def router_3(multilingual: MultilingualTranslator) -> APIRouter:
    """Routes of version 3.0, without a prefix."""
    router = APIRouter(route_class=_Route)
    limits = multilingual.translation_service.limits

    @router.post(
        "/translate", summary="Translate (3.0)", openapi_extra=documented_query(TranslateQuery)
    )
    async def translate(request: Request, response: Response, body: Texts) -> list[dict[str, Any]]:
        """Translates as Azure does; also served at `/translate?api-version=3.0`."""
        query = validated(TranslateQuery, read_query(request, limits))
        texts = [item.text for item in body]
        kinds = [
            [
                Kind(query.source, target, query.textType == "html", query.suggestedFrom)
                for target in query.to
            ]
        ] * len(texts)
        results = await interpret(
            multilingual, request, texts, kinds, lambda index: f"body[{index}]"
        )
        response.headers[USAGE] = str(usage(texts, kinds))
        return [
            translated(of_text, into, "to") for of_text, into in zip(results, kinds, strict=True)
        ]

    @router.post(
        "/detect", summary="Detect languages (3.0)", openapi_extra=documented_query(_Query)
    )
    async def detect(request: Request, body: Texts) -> list[dict[str, Any]]:
        """Returns the possible languages of each text, most likely first."""
        validated(_Query, read_query(request, limits))
        texts = [item.text for item in body]
        guesses = await multilingual.detect(request, texts, lambda index: f"body[{index}]")
        return [
            {**_detection(first), "alternatives": [_detection(guess) for guess in less_likely]}
            for first, *less_likely in guesses
        ]

    @router.get(
        "/languages",
        summary="List the languages (3.0)",
        openapi_extra=documented_query(LanguagesQuery),
    )
    async def languages(request: Request) -> Response:
        """Returns all languages with their names, in the language of `Accept-Language`."""
        query = validated(LanguagesQuery, read_query(request, limits))
        groups = {
            "translation": all_languages(multilingual, request),
            "transliteration": {},
            "dictionary": {},
        }
        return unless_known(request, in_scope(groups, query.scope))

    return router


def _detection(guess: Guess) -> dict[str, Any]:
    return {
        "language": guess.language,
        "score": guess.confidence,
        "isTranslationSupported": True,
        "isTransliterationSupported": False,
    }
