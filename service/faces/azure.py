"""The face that clients of Azure Translator speak, azure-ai-translation-text 1.x and 2.x for one.

Versions 3.0 and 2026-06-06 of the API differ in their bodies and stand here one after the other.
Both are served at the root, whose paths are other APIs' too (a request that says `api-version` is
Azure's), and where Azure has them for custom domains, under /translator/text/VERSION. Options
that would have to change the translation are refused by name. Keys are the guard's affair.
"""

import hashlib
import json
import re
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from fastapi import APIRouter, Body, Request, Response
from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, ValidationInfo
from starlette.exceptions import HTTPException

from service.detection import Guess
from service.dialects import AZURE, AZURE_3, DialectRoute
from service.documented import documented_query
from service.errors import InvalidRequest, RequestTooLarge
from service.faces.fields import Fields, LanguageCode, read_query
from service.interpreter import Interpretation, Interpreter, Order
from service.invalid import validated
from service.languages import is_right_to_left, language_name
from service.markup import plain_document, tagged_document
from service.strict_json import StrictRoute

_PREFIX = "/translator/text"
_VERSION = "api-version"
_USAGE = "X-Metered-Usage"  # characters translated, times the languages they went into
_ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": 'Refused: `{"error": {"code": 400036, "message": "..."}}`'},
    "5XX": {"description": "Not possible now, or failed; the same body; see Retry-After"},
}
_LANGUAGE_TAG = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")


def _named(*values: str) -> BeforeValidator:
    """Takes each of these words in any case, as Azure does."""
    by_lower = {value.lower(): value for value in values}
    return BeforeValidator(
        lambda given: by_lower.get(given.lower(), given) if isinstance(given, str) else given
    )


def _refuse(given: object, info: ValidationInfo) -> None:
    if given is not None:
        raise _unsupported(info)


def _refuse_true(given: bool, info: ValidationInfo) -> bool:
    if given:
        raise _unsupported(info)
    return given


def _unsupported(info: ValidationInfo) -> ValueError:
    return ValueError(f"{info.field_name} is not supported by this service; leave it out")


Unsupported = Annotated[None, BeforeValidator(_refuse)]
Off = Annotated[bool, AfterValidator(_refuse_true)]
TextType = Annotated[Literal["plain", "html"], _named("plain", "html")]
# What is neither marked nor deleted needs no marker.
ProfanityAction = Annotated[Literal["NoAction"], _named("NoAction")]
ProfanityMarker = Annotated[Literal["Asterisk", "Tag"], _named("Asterisk", "Tag")]
General = Annotated[Literal["general"], _named("general")]


class _Query3(Fields):
    version: Annotated[Literal["3.0"], Field(alias=_VERSION)]
    trace_id: Annotated[str | None, Field(alias="ClientTraceId", max_length=100)] = None


class TranslateQuery3(_Query3):
    """What to make of the texts."""

    to: Annotated[
        Annotated[list[LanguageCode], Field(min_length=1)],
        BeforeValidator(lambda given: [given] if isinstance(given, str) else given),
        Field(examples=[["de"]], description="May come several times."),
    ]
    source: Annotated[LanguageCode | None, Field(alias="from")] = None
    suggestedFrom: Annotated[
        LanguageCode | None, Field(description="The language of a text that does not tell its own.")
    ] = None
    textType: TextType = "plain"
    category: General = "general"
    allowFallback: Annotated[bool, Field(description="Changes nothing: all is general.")] = True
    profanityAction: ProfanityAction = "NoAction"
    profanityMarker: ProfanityMarker = "Asterisk"
    includeAlignment: Off = False
    includeSentenceLength: Off = False
    fromScript: Unsupported = None
    toScript: Unsupported = None


class LanguagesQuery3(_Query3):
    """Which kinds of languages are asked for."""

    scope: Annotated[str | None, Field(examples=["translation"])] = None


class InputText(Fields):
    """A text."""

    text: Annotated[str, Field(validation_alias=AliasChoices("text", "Text"))]


Texts = Annotated[list[InputText], Body(min_length=1)]


class _Query(Fields):
    version: Annotated[Literal["2026-06-06"], Field(alias=_VERSION)]
    trace_id: Annotated[str | None, Field(alias="ClientTraceId", max_length=100)] = None


class LanguagesQuery(_Query):
    """Which kinds of languages are asked for."""

    scope: Annotated[str | None, Field(examples=["translation"])] = None


class Target(Fields):
    """One language to translate into."""

    language: Annotated[LanguageCode, Field(examples=["de"])]
    deploymentName: General = "general"
    allowFallback: Annotated[bool, Field(description="Changes nothing: all is general.")] = True
    profanityAction: ProfanityAction = "NoAction"
    profanityMarker: ProfanityMarker = "Asterisk"
    referenceTextPairs: Annotated[list[object] | None, Field(max_length=0)] = None
    adaptiveDatasetId: Unsupported = None
    gender: Unsupported = None
    grade: Unsupported = None
    script: Unsupported = None
    tone: Unsupported = None


class Input(Fields):
    """A text, and what to make of it."""

    text: Annotated[str, Field(examples=["Good morning."])]
    language: LanguageCode | None = None
    textType: TextType | None = None
    script: Unsupported = None
    targets: Annotated[list[Target], Field(min_length=1)]


class TranslateBody(Fields):
    """Texts."""

    inputs: Annotated[list[Input], Field(min_length=1)]


class _Route(StrictRoute, DialectRoute):
    """A route of one version; a client that wants another is told so before all else."""

    dialect = AZURE
    version: ClassVar[str] = "2026-06-06"

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            if request.query_params.get(_VERSION, self.version) != self.version:
                raise InvalidRequest(
                    "this api-version is not supported; there are 3.0 and 2026-06-06",
                    field=_VERSION,
                )
            return await handler(request)

        return handle


class _Route3(_Route):
    dialect = AZURE_3
    version = "3.0"


@dataclass(frozen=True)
class _Kind:
    """What texts have in common that can be translated together."""

    source: str | None
    target: str
    html: bool
    suggested: str | None = None


def azure_router(interpreter: Interpreter) -> APIRouter:
    """Azure's routes, at the root as its clients expect them and under their long names."""
    router = APIRouter(tags=["as Azure Translator"], responses=_ERRORS)
    for version, face in (
        ("3.0", _router_3(interpreter)),
        ("2026-06-06", _router_2026(interpreter)),
    ):
        # At the root the documentation's paths are taken: it knows no query strings.
        router.include_router(face, include_in_schema=False)
        router.include_router(face, prefix=f"{_PREFIX}/v{version}")
    return router


def _router_3(interpreter: Interpreter) -> APIRouter:
    router = APIRouter(route_class=_Route3)
    max_texts = interpreter.gate.settings.max_texts

    @router.post(
        "/translate", summary="Translate (3.0)", openapi_extra=documented_query(TranslateQuery3)
    )
    async def translate(request: Request, response: Response, body: Texts) -> list[dict[str, Any]]:
        """Answers as Azure does, also at `/translate?api-version=3.0`."""
        query = validated(TranslateQuery3, read_query(request, max_texts))
        texts = [item.text for item in body]
        kinds = [
            [
                _Kind(query.source, target, query.textType == "html", query.suggestedFrom)
                for target in query.to
            ]
        ] * len(texts)
        results = await _translate(
            interpreter, request, texts, kinds, lambda index: f"body[{index}]"
        )
        response.headers[_USAGE] = str(_usage(texts, kinds))
        return [
            _translated(of_text, into, "to") for of_text, into in zip(results, kinds, strict=True)
        ]

    @router.post(
        "/detect", summary="Detect languages (3.0)", openapi_extra=documented_query(_Query3)
    )
    async def detect(request: Request, body: Texts) -> list[dict[str, Any]]:
        """Answers the languages that each text may be in, likeliest first."""
        validated(_Query3, read_query(request, max_texts))
        texts = [item.text for item in body]
        guesses = await interpreter.detect(request, texts, lambda index: f"body[{index}]")
        return [
            {**_detection(likeliest), "alternatives": [_detection(guess) for guess in others]}
            for likeliest, *others in guesses
        ]

    @router.get(
        "/languages",
        summary="List the languages (3.0)",
        openapi_extra=documented_query(LanguagesQuery3),
    )
    async def languages(request: Request) -> Response:
        """Answers all languages with their names, in the language of `Accept-Language`."""
        query = validated(LanguagesQuery3, read_query(request, max_texts))
        groups = {
            "translation": _languages(interpreter, request),
            "transliteration": {},
            "dictionary": {},
        }
        return _unless_known(request, _in_scope(groups, query.scope))

    return router


def _router_2026(interpreter: Interpreter) -> APIRouter:
    router = APIRouter(route_class=_Route)
    max_texts = interpreter.gate.settings.max_texts

    @router.post(
        "/translate", summary="Translate (2026-06-06)", openapi_extra=documented_query(_Query)
    )
    async def translate(
        request: Request, response: Response, body: TranslateBody
    ) -> dict[str, Any]:
        """Answers as Azure does, also at `/translate?api-version=2026-06-06`.

        In this version the code of an error is a string.
        """
        validated(_Query, read_query(request, max_texts))
        kinds = [
            [
                _Kind(item.language, target.language, item.textType == "html")
                for target in item.targets
            ]
            for item in body.inputs
        ]
        texts = [item.text for item in body.inputs]
        results = await _translate(
            interpreter, request, texts, kinds, lambda index: f"inputs[{index}].text"
        )
        response.headers[_USAGE] = str(_usage(texts, kinds))
        value = [
            _translated(of_text, into, "language")
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
        """Answers all languages with their names, in the language of `Accept-Language`."""
        query = validated(LanguagesQuery, read_query(request, max_texts))
        listed = _languages(interpreter, request)
        groups = {
            "translation": {
                code: {**language, "models": ["general"]} for code, language in listed.items()
            },
            "transliteration": {},
            "models": ["general"],
        }
        return _unless_known(request, _in_scope(groups, query.scope))

    return router


async def _translate(
    interpreter: Interpreter,
    request: Request,
    texts: Sequence[str],
    kinds: Sequence[Sequence[_Kind]],
    name_of: Callable[[int], str],
) -> list[list[Interpretation]]:
    """For each text, one interpretation for each of its kinds."""
    # Tags go to no model and so to no limit there, but come back once for each target.
    limit = interpreter.gate.settings.max_body_bytes
    if _usage(texts, kinds) > limit:
        raise RequestTooLarge(
            f"all texts times their targets have more than {limit} characters (max_body_bytes); "
            "send fewer targets at once"
        )
    wanted: dict[_Kind, dict[int, None]] = {}  # as sets that keep their order
    for index, of_text in enumerate(kinds):
        for kind in of_text:
            wanted.setdefault(kind, {})[index] = None
    orders = [_order(kind, texts, list(indices), name_of) for kind, indices in wanted.items()]
    answers = await interpreter.translate_all(request, orders)
    found = {
        (kind, index): result
        for (kind, indices), results in zip(wanted.items(), answers, strict=True)
        for index, result in zip(indices, results, strict=True)
    }
    return [[found[kind, index] for kind in of_text] for index, of_text in enumerate(kinds)]


def _usage(texts: Sequence[str], kinds: Sequence[Sequence[_Kind]]) -> int:
    """Characters, times the languages that each text goes into."""
    return sum(len(text) * len(of_text) for text, of_text in zip(texts, kinds, strict=True))


def _order(
    kind: _Kind, texts: Sequence[str], indices: Sequence[int], name_of: Callable[[int], str]
) -> Order:
    return Order(
        [texts[index] for index in indices],
        kind.source,
        kind.target,
        name_of=lambda position: name_of(indices[position]),
        suggested=kind.suggested,
        read=tagged_document if kind.html else plain_document,
    )


def _translated(
    results: Sequence[Interpretation], kinds: Sequence[_Kind], name: str
) -> dict[str, Any]:
    """One text's answer; `name` is what the API's version calls a language translated into."""
    translations = [
        {"text": result.text, name: kind.target}
        for result, kind in zip(results, kinds, strict=True)
    ]
    answer: dict[str, Any] = {"translations": translations}
    if results[0].confidence is not None:
        detected = {"language": results[0].source, "score": results[0].confidence}
        answer["detectedLanguage"] = detected
    return answer


def _detection(guess: Guess) -> dict[str, Any]:
    return {
        "language": guess.language,
        "score": guess.confidence,
        "isTranslationSupported": True,
        "isTransliterationSupported": False,
    }


def _languages(interpreter: Interpreter, request: Request) -> dict[str, dict[str, Any]]:
    """All languages by their codes."""
    first, _, _ = request.headers.get("accept-language", "").partition(",")
    wanted = first.partition(";")[0].strip()
    in_language = wanted if _LANGUAGE_TAG.fullmatch(wanted) else "en"
    return {
        code: {
            "name": language_name(code, in_language),
            "nativeName": language_name(code, code),
            "dir": "rtl" if is_right_to_left(code) else "ltr",
        }
        for code in interpreter.served().by_language
    }


def _in_scope(groups: dict[str, Any], scope: str | None) -> dict[str, Any]:
    """Those of the groups that a client asks for; all if it asks for none."""
    if scope is None:
        return groups
    names = [name.strip().lower() for name in scope.split(",")]
    if not set(names) <= groups.keys():
        raise InvalidRequest(
            f"scope names what there is not; there are: {', '.join(groups)}", field="scope"
        )
    return {name: group for name, group in groups.items() if name in names}


def _unless_known(request: Request, content: dict[str, Any]) -> Response:
    """The answer, or only its status where the client has the same one, or wants no other."""
    body = json.dumps(content, ensure_ascii=False).encode()
    etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    headers = {"ETag": etag, "Vary": "Accept-Language"}
    known, wanted = request.headers.get("if-none-match"), request.headers.get("if-match")
    if known is not None and _is_among(etag, known):
        return Response(status_code=304, headers=headers)
    if wanted is not None and not _is_among(etag, wanted):
        raise HTTPException(412, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def _is_among(etag: str, listed: str) -> bool:
    return listed.strip() == "*" or etag in listed
