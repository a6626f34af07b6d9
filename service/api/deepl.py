"""DeepL's API, for its official client libraries with their server URL set to this service.

A service without API keys accepts any key that is sent as DeepL's clients send it. Options that ask
for the service's normal behaviour are accepted; all other options are refused by name.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal, NotRequired

from fastapi import APIRouter, Request
from pydantic import Field, model_validator
from typing_extensions import TypedDict

from model.text.segmenter import Segmentation
from service.api.multilingual import Interpretation, MultilingualTranslator, Order, Reader
from service.errors import InvalidRequest, KeyRefused, RequestError, UnknownGlossary
from service.protocol.dialects import COMPATIBLE_STATUSES, Dialect, KeyPlaces
from service.protocol.fields import Fields, LanguageCode, Texts, read_fields
from service.protocol.openapi import documented_body, documented_errors, documented_query
from service.protocol.validation import validated
from service.request_context import context_of
from service.text.languages import base_code, language_name
from service.text.markup import plain_document, tagged_document

_SCHEME = "deepl-auth-key"

DEEPL = Dialect(
    "DeepL",
    speaks=lambda scope: scope["path"].startswith(("/v2/", "/v3/")),  # clients use both
    error_body=lambda refusal: {"message": refusal.message},
    keys=KeyPlaces("Authorization: DeepL-Auth-Key KEY", scheme=_SCHEME),
    statuses={**COMPATIBLE_STATUSES, "quota_exceeded": 456},
    translation_paths=frozenset({"/v2/translate"}),
)

# The character limit that DeepL reports for customers without a limit.
_NO_LIMIT = 1_000_000_000_000

# DeepL's client refuses the plain codes as targets, so these variants stand for them.
_VARIANTS = {"en": ("EN-GB", "EN-US"), "pt": ("PT-BR", "PT-PT")}

# Features of DeepL that this service lacks, by the first parts of their paths. The answer is 400,
# for which DeepL's clients raise their general exception with the message; they would retry after
# 501. An unknown glossary id gets 404, for which they have an exception of its own.
_GLOSSARY = "this service has no glossary with this id, nor any other; leave glossaries out"
_ABSENT = {
    "document": "documents are not translated by this service; send their texts to /v2/translate",
    "glossaries": "glossaries are not supported by this service; leave them out",
    "glossary-language-pairs": "glossaries are not supported by this service; leave them out",
    "style_rules": "style rules are not supported by this service; leave them out",
    "translation_memories": "translation memories are not supported by this service; leave them "
    "out",
    "write": "this service does not improve texts; send texts to translate to /v2/translate",
}
_ALL_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]

_UNSUPPORTED = frozenset(
    {
        "custom_instructions",
        "glossary_id",
        "glossary_ids",
        "non_splitting_tags",
        "splitting_tags",
        "style_id",
        "tag_handling_version",
        "translation_memory_id",
        "translation_memory_threshold",
    }
)


class TranslateFields(Fields):
    """Texts and options for translating them."""

    text: Annotated[Texts, Field(examples=[["Good morning."]])]
    target_lang: Annotated[LanguageCode, Field(examples=["DE"])]
    source_lang: LanguageCode | None = None
    show_billed_characters: Annotated[bool, Field(description="No effect: always shown.")] = True
    # Other values of the options below would have to change the translation.
    formality: Literal["default", "prefer_more", "prefer_less"] = "default"
    split_sentences: Annotated[
        Literal["0", "1"] | None,
        Field(description="`0`: translate a text as a whole; `1`: split it into sentences."),
    ] = None
    context: Annotated[str, Field(description="Must be empty; context is not supported.")] = ""
    preserve_formatting: Annotated[
        bool, Field(description="No effect: formatting is always preserved.")
    ] = True
    model_type: Literal["latency_optimized", "prefer_quality_optimized"] | None = None
    enable_beta_languages: bool = False
    tag_handling: Literal["html", "xml"] | None = None
    # DeepL's command-line tool always sends it. False would give the tags another meaning.
    outline_detection: Literal[True, "1", "true"] = True
    ignore_tags: Annotated[
        list[str] | str,
        Field(description="Tags whose content is not translated: a list, or separated by commas."),
    ] = ""

    @property
    def read(self) -> Reader:
        """The reader that separates the text to translate from its tags."""
        if self.tag_handling is None:
            return plain_document
        given = [self.ignore_tags] if isinstance(self.ignore_tags, str) else self.ignore_tags
        tags = [tag.strip() for names in given for tag in names.split(",")]
        return partial(tagged_document, ignored_tags=tags)

    @property
    def segmentation(self) -> Segmentation | None:
        """The unit that is translated at once; None: the service's setting."""
        if self.split_sentences is None:
            return None
        return "none" if self.split_sentences == "0" else "sentence"

    @model_validator(mode="after")
    def _check_tag_handling(self) -> "TranslateFields":
        if self.ignore_tags and self.tag_handling is None:
            raise ValueError(
                "ignore_tags has no effect without tag_handling; send tag_handling too, or leave "
                "ignore_tags out"
            )
        return self


class LanguagesFields(Fields):
    """The choice of source or target languages."""

    type: Literal["source", "target"] = "source"


class DeepLTranslation(TypedDict):
    """One text's translation."""

    detected_source_language: str
    text: str
    billed_characters: int
    model_type_used: NotRequired[str]


class DeepLAnswer(TypedDict):
    """One translation for each text, in the request's order."""

    translations: list[DeepLTranslation]


class DeepLLanguage(TypedDict):
    """A language; target languages also say whether formality can be chosen."""

    language: str
    name: str
    supports_formality: NotRequired[bool]


class UsageAnswer(TypedDict):
    """The number of characters used, and the limit."""

    character_count: int
    character_limit: int


@dataclass
class Usage:
    """Characters translated by this API since the service started, for a service without keys."""

    num_characters: int = 0


def deepl_router(multilingual: MultilingualTranslator) -> APIRouter:
    """DeepL's routes under /v2; refuses its unsupported routes under /v2 and /v3."""
    router = APIRouter(tags=["as DeepL"], responses=documented_errors(DEEPL))
    limits = multilingual.translation_service.limits
    usage = Usage()

    @router.post(
        "/v2/translate", summary="Translate", openapi_extra=documented_body(TranslateFields)
    )
    async def translate(request: Request) -> DeepLAnswer:
        """Translates as DeepL does; errors are `{"message": "..."}`."""
        _check_key(request)
        given = await read_fields(request, limits)
        _refuse_unsupported(given)
        fields = validated(TranslateFields, given)
        order = Order(
            [fields.text] if isinstance(fields.text, str) else fields.text,
            fields.source_lang,
            fields.target_lang,
            name_of=lambda index: f"text[{index}]",
            read=fields.read,
            segmentation=fields.segmentation,
        )
        results = await multilingual.translate(request, order)
        usage.num_characters += sum(map(len, order.texts))
        return {
            "translations": [
                _translation(text, result, fields.model_type)
                for text, result in zip(order.texts, results, strict=True)
            ]
        }

    @router.get(
        "/v2/languages",
        summary="List the languages",
        openapi_extra=documented_query(LanguagesFields),
    )
    async def languages(request: Request) -> list[DeepLLanguage]:
        """Returns the source languages, or with `type=target` the target languages."""
        _check_key(request)
        fields = validated(LanguagesFields, await read_fields(request, limits))
        served = multilingual.served()
        if fields.type == "source":
            codes = dict.fromkeys(base_code(code).upper() for code in served.sources)
            return [{"language": code, "name": language_name(code)} for code in codes]
        return [
            {"language": code, "name": language_name(code), "supports_formality": False}
            for target in served.targets
            for code in _VARIANTS.get(target.lower(), (target.upper(),))
        ]

    @router.get("/v2/usage", summary="Get the number of characters used")
    async def usage_so_far(request: Request) -> UsageAnswer:
        """Returns the characters that the key has used this month, and its quota.

        A service without keys counts the characters that this API has translated since the start.
        """
        _check_key(request)
        caller = context_of(request.scope).caller
        if (used := multilingual.translation_service.access.usage(caller)) is not None:
            limit = _NO_LIMIT if used.limit is None else used.limit
            return {"character_count": used.num_characters, "character_limit": limit}
        return {"character_count": usage.num_characters, "character_limit": _NO_LIMIT}

    for beginning, message in _ABSENT.items():
        unsupported = partial(InvalidRequest, message)
        is_glossary = beginning == "glossaries"
        below = partial(UnknownGlossary, _GLOSSARY) if is_glossary else unsupported
        for path, error in ((beginning, unsupported), (f"{beginning}/{{rest:path}}", below)):
            for version in ("v2", "v3"):
                router.add_api_route(
                    f"/{version}/{path}",
                    _refusing(error),
                    methods=_ALL_METHODS,
                    include_in_schema=False,
                )
    return router


def _refusing(error: Callable[[], RequestError]) -> Callable[[Request], Awaitable[None]]:
    """A route handler that checks the key and raises `error`."""

    async def refuse(request: Request) -> None:
        _check_key(request)
        raise error()

    return refuse


def _check_key(request: Request) -> None:
    """Raises KeyRefused unless the key is missing or is sent as DeepL's clients send it."""
    header = request.headers.get("authorization")
    if header is None:
        return
    scheme, _, key = header.partition(" ")
    if scheme.lower() != _SCHEME or not key.strip():
        raise KeyRefused(
            "the Authorization header has another form than DeepL's; send "
            "Authorization: DeepL-Auth-Key KEY"
        )


def _refuse_unsupported(given: dict[str, object]) -> None:
    with_context = {"context"} if given.get("context") else set()
    for name in sorted((_UNSUPPORTED & given.keys()) | with_context):
        raise InvalidRequest(f"{name} is not supported by this service; leave it out", field=name)


def _translation(text: str, result: Interpretation, model_type: str | None) -> DeepLTranslation:
    answer: DeepLTranslation = {
        "detected_source_language": base_code(result.source).upper(),
        "text": result.text,
        "billed_characters": len(text),
    }
    if model_type is not None:
        answer["model_type_used"] = "latency_optimized"
    return answer
