"""A request's fields, wherever its client puts them: query, form, multipart or JSON.

Clients differ: one sends its text in the query of a POST, another as a form in the body of a GET.
A face reads them all alike. A key sent several times is a list; JSON's null is a key not sent.
"""

from collections.abc import Iterable
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from service.errors import (
    InvalidRequest,
    MalformedBody,
    RequestTooLarge,
    UnsupportedMediaType,
)
from service.protocol.strict_json import (
    check_charset,
    check_value,
    media_type,
    parse_json,
    plain_name,
)

TEXT_TAGS = ("one text", "list of texts")

# One text or a list of them, told apart before an error is worded.
Texts = Annotated[
    Annotated[str, Tag(TEXT_TAGS[0])] | Annotated[list[str], Tag(TEXT_TAGS[1])],
    Discriminator(lambda value: TEXT_TAGS[isinstance(value, list)]),
]
# Any code that a client may write; whether it is a language is found out by looking for a model.
LanguageCode = Annotated[str, Field(min_length=1, max_length=35)]

_OTHER_FIELDS = 32  # that may come beside the texts


class Fields(BaseModel):
    """Checked fields of a request. Numbers may be written as strings: a form has nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True)


async def read_fields(request: Request, max_texts: int) -> dict[str, object]:
    """All fields of a request; raises for what cannot be read, and for a field in two places."""
    fields = _parse_form(request.scope["query_string"], max_texts, "the query string")
    for name, value in (await _read_body(request, max_texts)).items():
        if name in fields:
            raise InvalidRequest(
                f"{plain_name(name) or 'a field'} is both in the query string and in the body",
                field=plain_name(name),
            )
        fields[name] = value
    return {name: value for name, value in fields.items() if value is not None}


def read_query(request: Request, max_texts: int) -> dict[str, object]:
    """The fields in a request's query string alone; what is sent without a value stays empty."""
    return _parse_form(request.scope["query_string"], max_texts, "the query string")


async def _read_body(request: Request, max_texts: int) -> dict[str, object]:
    body = await request.body()
    if not body:
        return {}
    check_charset(request)
    kind = media_type(request)
    if kind == "application/json":
        value = parse_json(body, max_texts)
        if not isinstance(value, dict):
            raise InvalidRequest("the body is JSON, but no object; send an object")
        return value
    if kind == "application/x-www-form-urlencoded":
        return _parse_form(body, max_texts, "the body")
    if kind == "multipart/form-data":
        return await _parse_multipart(request, body, max_texts)
    raise UnsupportedMediaType("the body is neither JSON nor a form; name its Content-Type")


def _parse_form(form: bytes, max_texts: int, where: str) -> dict[str, object]:
    try:
        pairs = parse_qsl(
            form.decode(),  # not every client percent-encodes: curl -d sends what it is given
            keep_blank_values=True,
            errors="strict",
            max_num_fields=max_texts + _OTHER_FIELDS,
        )
    except UnicodeDecodeError:
        raise MalformedBody(f"{where} is not UTF-8, plain or percent-encoded") from None
    except ValueError:
        raise _too_many(where, max_texts) from None
    return _gather(pairs)


async def _parse_multipart(request: Request, body: bytes, max_texts: int) -> dict[str, object]:
    max_fields = max_texts + _OTHER_FIELDS
    try:
        body.decode()  # the parser would take what is not UTF-8 for Latin-1
        form = await request.form(max_files=0, max_fields=max_fields, max_part_size=len(body))
    except UnicodeDecodeError:
        raise MalformedBody("the body is not UTF-8") from None
    except HTTPException as error:
        if error.detail.startswith("Too many fields"):
            raise _too_many("the body", max_texts) from None
        raise MalformedBody("the body is no whole multipart form without files") from None
    return _gather((name, str(value)) for name, value in form.multi_items())


def _too_many(where: str, max_texts: int) -> RequestTooLarge:
    return RequestTooLarge(
        f"{where} has more than {max_texts + _OTHER_FIELDS} fields, far more than the {max_texts} "
        "texts that a request may have (max_texts) need; send them in several requests"
    )


def _gather(pairs: Iterable[tuple[str, str]]) -> dict[str, object]:
    fields: dict[str, Any] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    gathered = {name: values if len(values) > 1 else values[0] for name, values in fields.items()}
    check_value(gathered)
    return gathered


# Part of the position in a validation error, not of the body: see `text` below.
TEXT_TAGS = ("one text", "list of texts")


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body which was read already, and then what comes after it."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay
