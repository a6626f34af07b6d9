"""Version 2026-06-06 of Azure's API."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field

from service.api.azure.dialect import AZURE, VERSION, VERSION_2026
from service.api.azure.fields import (
    General,
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


class _Query(Fields):
    version: Annotated[Literal["2026-06-06"], Field(alias=VERSION)]
    trace_id: Annotated[str | None, Field(alias="ClientTraceId", max_length=100)] = None


class LanguagesQuery(_Query):
    """The groups of languages to list."""

    scope: Annotated[str | None, Field(examples=["translation"])] = None


class Target(Fields):
    """One language to translate into."""

    language: Annotated[LanguageCode, Field(examples=["de"])]
    deploymentName: General = "general"
    allowFallback: Annotated[bool, Field(description="No effect: every model is general.")] = True
    profanityAction: ProfanityAction = "NoAction"
    profanityMarker: ProfanityMarker = "Asterisk"
    referenceTextPairs: Annotated[list[object] | None, Field(max_length=0)] = None
    adaptiveDatasetId: Unsupported = None
    gender: Unsupported = None
    grade: Unsupported = None
    script: Unsupported = None
    tone: Unsupported = None


class Input(Fields):
    """A text, its options and its target languages."""

    text: Annotated[str, Field(examples=["Good morning."])]
    language: LanguageCode | None = None
    textType: TextType | None = None
    script: Unsupported = None
    targets: Annotated[list[Target], Field(min_length=1)]


class TranslateBody(Fields):
    """Texts to translate."""

    inputs: Annotated[list[Input], Field(min_length=1)]


class _Route(VersionRoute):
    dialect = AZURE
    version = VERSION_2026


def router_2026(multilingual: MultilingualTranslator) -> APIRouter:
    """Routes of version 2026-06-06, without a prefix."""
    router = APIRouter(route_class=_Route)
    limits = multilingual.translation_service.limits

    @router.post(
        "/translate", summary="Translate (2026-06-06)", openapi_extra=documented_query(_Query)
    )
    async def translate(
        request: Request, response: Response, body: TranslateBody
    ) -> dict[str, Any]:
        """Translates as Azure does; also served at `/translate?api-version=2026-06-06`.

        In this version the code of an error is a string.
        """
        validated(_Query, read_query(request, limits))
        kinds = [
            [
                Kind(item.language, target.language, item.textType == "html")
                for target in item.targets
            ]
            for item in body.inputs
        ]
        texts = [item.text for item in body.inputs]
        results = await interpret(
            multilingual, request, texts, kinds, lambda index: f"inputs[{index}].text"
        )
        response.headers[USAGE] = str(usage(texts, kinds))
        value = [
            translated(of_text, into, "language")
            for of_text, into in zip(results, kinds, strict=True)
        ]
        for item, characters in zip(value, map(len, texts), strict=True):
            for translation in item["translations"]:
                translation["sourceCharacters"] = characters
        return {"value": value}

    @router.get(
        "/languages",
        summary="List the languages (2026-06-06)",
        openapi_extra=documented_query(LanguagesQuery),
    )
    async def languages(request: Request) -> Response:
        """Returns all languages with their names, in the language of `Accept-Language`."""
        query = validated(LanguagesQuery, read_query(request, limits))
        listed = all_languages(multilingual, request)
        groups = {
            "translation": {
                code: {**language, "models": ["general"]} for code, language in listed.items()
            },
            "transliteration": {},
            "models": ["general"],
        }
        return unless_known(request, in_scope(groups, query.scope))

    return router
