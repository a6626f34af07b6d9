"""A request's fields, from wherever its client puts them: query, form, multipart or JSON.

Clients differ: one sends its text in the query of a POST, another as a form in the body of a GET.
The compatible APIs read all of these in the same way. A field that is sent several times is a list;
JSON's null is a field that was not sent.
"""

from collections.abc import Iterable
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag
from starlette.exceptions import HTTPException

from service.errors import InvalidRequest, MalformedBody, UnsupportedMediaType
from service.limits import Limits
from service.protocol.strict_json import (
    check_charset,
    check_value,
    media_type,
    parse_json,
    plain_name,
)

# Part of the position in a validation error, not of the body: see `Texts`.
TEXT_TAGS = ("one text", "list of texts")

# One text or a list of them, told apart before an error is worded.
Texts = Annotated[
    Annotated[str, Tag(TEXT_TAGS[0])] | Annotated[list[str], Tag(TEXT_TAGS[1])],
    Discriminator(lambda value: TEXT_TAGS[isinstance(value, list)]),
]
# Any code that a client may write; the search for a model shows whether it is a language.
LanguageCode = Annotated[str, Field(min_length=1, max_length=35)]


class Fields(BaseModel):
    """The fields of a request. Numbers may be written as strings: a form has nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True)


async def read_fields(request: Request, limits: Limits) -> dict[str, object]:
    """All fields of a request.

    Raises MalformedBody, UnsupportedMediaType, RequestTooLarge, or InvalidRequest for a field that
    is both in the query and in the body.
    """
    fields = _parse_form(request.scope["query_string"], limits, "the query string")
    for name, value in (await _read_body(request, limits)).items():
        if name in fields:
            raise InvalidRequest(
                f"{plain_name(name) or 'a field'} is both in the query string and in the body",
                field=plain_name(name),
            )
        fields[name] = value
    return {name: value for name, value in fields.items() if value is not None}


def read_query(request: Request, limits: Limits) -> dict[str, object]:
    """The fields in a request's query string alone; one without a value is an empty string."""
    return _parse_form(request.scope["query_string"], limits, "the query string")


async def _read_body(request: Request, limits: Limits) -> dict[str, object]:
    body = await request.body()
    if not body:
        return {}
    check_charset(request)
    kind = media_type(request)
    if kind == "application/json":
        value = parse_json(body, limits)
        if not isinstance(value, dict):
            raise InvalidRequest("the body is JSON, but not an object; send an object")
        return value
    if kind == "application/x-www-form-urlencoded":
        return _parse_form(body, limits, "the body")
    if kind == "multipart/form-data":
        return await _parse_multipart(request, body, limits)
    raise UnsupportedMediaType("the body is neither JSON nor a form; send it with its Content-Type")


def _parse_form(form: bytes, limits: Limits, where: str) -> dict[str, object]:
    try:
        pairs = parse_qsl(
            form.decode(),  # not every client percent-encodes: curl -d sends what it is given
            keep_blank_values=True,
            errors="strict",
            max_num_fields=limits.max_fields,
        )
    except UnicodeDecodeError:
        raise MalformedBody(f"{where} is not UTF-8, plain or percent-encoded") from None
    except ValueError:
        raise limits.too_many_fields(where) from None
    return _gather(pairs)


async def _parse_multipart(request: Request, body: bytes, limits: Limits) -> dict[str, object]:
    max_fields = limits.max_fields
    try:
        body.decode()  # the parser would read other bytes as Latin-1
        form = await request.form(max_files=0, max_fields=max_fields, max_part_size=len(body))
    except UnicodeDecodeError:
        raise MalformedBody("the body is not UTF-8") from None
    except HTTPException as error:
        if error.detail.startswith("Too many fields"):
            raise limits.too_many_fields("the body") from None
        raise MalformedBody("the body is not a complete multipart form without files") from None
    return _gather((name, str(value)) for name, value in form.multi_items())


def _gather(pairs: Iterable[tuple[str, str]]) -> dict[str, object]:
    fields: dict[str, Any] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    gathered = {name: values if len(values) > 1 else values[0] for name, values in fields.items()}
    check_value(gathered)
    return gathered
