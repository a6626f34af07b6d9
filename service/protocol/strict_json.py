"""Request bodies as JSON, more strictly than Python's parser reads them.

Python accepts NaN, 1e400 (as infinity), duplicate keys and lone surrogates; each of them breaks
something later, far from its cause. All are refused here, before a schema is looked at. So is a
body with far more values than texts may be sent: each would cost a schema a thousand times its two
bytes, in time and in memory.
"""

import functools
import json
import math
import re
from collections.abc import Callable, Coroutine
from email.message import Message
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from service.errors import (
    InvalidRequest,
    MalformedBody,
    RequestTooLarge,
    UnsupportedMediaType,
)

# Deepest nesting accepted; our own bodies need 3 (an object, a list of pairs, a pair).
MAX_DEPTH = 16

# Values that a body may hold beside those of its texts, and for each text: Azure's largest have 18.
_OTHER_VALUES = 1000
_VALUES_PER_TEXT = 20

# Strings, what stands before values, and what ends them; no string is read twice, even without
# an end.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[,\[{}\]]', re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")


def parse_json(body: bytes, max_texts: int) -> object:
    """The value that `body` holds, for a request of so many texts at most.

    Raises MalformedBody, RequestTooLarge for more values than such a request can need, or
    InvalidRequest for a bad string.
    """
    if not body:
        raise MalformedBody("the body is empty; send a JSON object")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedBody(f"the body is not UTF-8: bad byte at offset {error.start}") from None
    _check_size(text, max_texts)
    try:
        value: object = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=_finite_float,
        )
    except json.JSONDecodeError as error:
        raise MalformedBody(
            f"the body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        ) from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:  # Python's own limit on the digits of an integer
        raise MalformedBody("the body holds a number with too many digits") from None
    check_value(value)
    return value


def _check_size(text: str, max_texts: int) -> None:
    """Raises for JSON of too many values, or too deep a nest of them; makes none for that."""
    limit = _OTHER_VALUES + _VALUES_PER_TEXT * max_texts
    # Each value but the first stands behind one of these, and few texts have so many of them.
    if sum(map(text.count, ",[{")) < limit:
        return
    num_values, depth = 1, 0
    for token in _TOKEN.finditer(text):
        sign = text[token.start()]
        num_values += sign in ",[{"
        depth += (sign in "[{") - (sign in "]}")
        if depth > MAX_DEPTH:
            raise _too_deep()
        if num_values > limit:
            raise RequestTooLarge(
                f"the body holds more than {limit} values, far more than the {max_texts} texts "
                "that a request may have (max_texts) need; send them in several requests"
            )


def _too_deep() -> MalformedBody:
    return MalformedBody(f"the body is nested deeper than {MAX_DEPTH} levels")


def plain_name(key: object) -> str | None:
    """`key` when it looks like a field's name, short and plain; else None, not to echo it."""
    return key if isinstance(key, str) and _PLAIN_NAME.fullmatch(key) else None


def media_type(request: Request) -> str:
    """The body's type in lower case, without its parameters; text/plain when none is given."""
    return _parsed(request.headers.get("content-type", ""))[0]


def check_charset(request: Request) -> None:
    """Raises UnsupportedMediaType for a body in another charset."""
    charset = _parsed(request.headers.get("content-type", ""))[1]
    if charset not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedMediaType("the body's charset is not UTF-8; send UTF-8")


@functools.lru_cache(maxsize=64)  # clients write it in a few ways
def _parsed(content_type: str) -> tuple[str, str]:
    """Media type and charset."""
    header = Message()
    header["content-type"] = content_type
    return header.get_content_type(), header.get_content_charset("utf-8")


class StrictRoute(APIRoute):
    """A route whose JSON body went through `parse_json` before FastAPI sees it.

    The application's state says how many texts a request may have: `max_texts`.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()
        if self.body_field is None:
            return handler

        async def strict_handler(request: Request) -> Response:
            check_charset(request)
            if media_type(request) != "application/json":
                raise UnsupportedMediaType(
                    "the body's type is not JSON; send it with Content-Type: application/json"
                )
            strict = _ParsedRequest(request.scope, request.receive)
            strict.parsed = parse_json(await strict.body(), request.app.state.max_texts)
            return await handler(strict)

        return strict_handler


class _ParsedRequest(Request):
    parsed: object = None

    async def json(self) -> Any:
        return self.parsed


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise MalformedBody("the body has the same key twice in one object")
    return value


def _refuse_constant(_name: str) -> object:
    raise MalformedBody("the body holds NaN or Infinity, which are not JSON")


def _finite_float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise MalformedBody("the body holds a number too large for a float")
    return value


def check_value(value: object, *, path: str = "", depth: int = 1) -> None:
    """Raises for nesting too deep, and for strings with a NUL or half of a surrogate pair."""
    if isinstance(value, str):
        _check_string(value, path)
    elif isinstance(value, (list, dict)) and depth > MAX_DEPTH:
        raise _too_deep()
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check_value(item, path=f"{path}[{index}]", depth=depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_string(key, path)
            name = plain_name(key) or "?"
            check_value(item, path=f"{path}.{name}" if path else name, depth=depth + 1)


def _check_string(text: str, path: str) -> None:
    where, field = (path, path) if path else ("the body", None)
    if "\0" in text:
        raise InvalidRequest(f"{where} holds a NUL character; remove it", field=field)
    if not text.isascii() and _SURROGATE.search(text):
        raise InvalidRequest(
            f"{where} holds half of a surrogate pair, which is no character; send whole characters",
            field=field,
        )
