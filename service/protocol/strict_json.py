"""Request bodies as JSON, parsed by jiter (pydantic's parser) at its strictest.

jiter refuses invalid UTF-8, NaN, duplicate keys and halves of surrogate pairs. What it accepts is
refused here: 1e400 (which it reads as infinity), NUL characters and deep nesting. A body with far
more values than its texts need is refused before it is parsed, because each value would cost a
schema a thousand times its two bytes, in time and in memory.
"""

import codecs
import functools
import math
import re
from email.message import Message

import jiter
from fastapi import Request

from service.errors import InvalidRequest, MalformedBody, UnsupportedMediaType
from service.limits import MAX_JSON_DEPTH, Limits

# A string, even without its end, or a sign that stands before a value.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[,\[{]', re.DOTALL)
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")

# What some of the parser's messages begin with, and what the client gets in its place.
_REASONS = {
    "Detected duplicate key": "the body has the same key twice in one object",
    "recursion limit": str(Limits.nested_too_deep()),
    "number out of range": "the body holds a number with too many digits",
    "expected value": "the body is not JSON: expected a value, which NaN and Infinity are not",
    "invalid number": "the body is not JSON: invalid number, as Infinity is",
    "lone leading surrogate": "the body holds half of a surrogate pair; send whole characters",
    "unexpected end of hex escape": "the body holds half of a surrogate pair or of a \\u escape",
}


def parse_json(body: bytes, limits: Limits) -> object:
    """The value that `body` holds.

    Raises MalformedBody; RequestTooLarge for more values than a request can need;
    InvalidRequest for a NUL character.
    """
    body = body.removeprefix(codecs.BOM_UTF8)
    if not body:
        raise MalformedBody("the body is empty; send a JSON object")
    _check_num_values(body, limits)
    try:
        # No cache of strings: it would keep users' texts after their requests.
        value: object = jiter.from_json(
            body, allow_inf_nan=False, catch_duplicate_keys=True, cache_mode="none"
        )
    except ValueError as error:
        raise _malformed(body, str(error)) from None
    check_value(value)
    return value


def _check_num_values(body: bytes, limits: Limits) -> None:
    """Raises RequestTooLarge for JSON of too many values, without building any."""
    limit = limits.max_values
    # Each value but the first stands after one of these, and few texts have so many of them.
    if sum(map(body.count, (b",", b"[", b"{"))) < limit:
        return
    num_values = 1
    for token in _TOKEN.finditer(body):
        num_values += body[token.start()] != ord('"')
        if num_values > limit:
            raise limits.too_many_values()


def _malformed(body: bytes, message: str) -> MalformedBody:
    """The error for what the parser refused; never quotes the body, as its message may."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return MalformedBody(f"the body is not UTF-8: bad byte at offset {error.start}")
    reason, _, place = message.rpartition(" at ")  # "line 1 column 7"
    told = next((text for start, text in _REASONS.items() if reason.startswith(start)), None)
    return MalformedBody(f"{told or f'the body is not JSON: {reason}'} ({place})")


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


def check_value(value: object, *, path: str = "", depth: int = 1) -> None:
    """Raises for nesting too deep, numbers too large for a float, and strings with a NUL."""
    if isinstance(value, str):
        _check_string(value, path)
    elif isinstance(value, float) and not math.isfinite(value):
        raise MalformedBody("the body holds a number too large for a float")
    elif isinstance(value, (list, dict)) and depth > MAX_JSON_DEPTH:
        raise Limits.nested_too_deep()
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check_value(item, path=f"{path}[{index}]", depth=depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_string(key, path)
            name = plain_name(key) or "?"
            check_value(item, path=f"{path}.{name}" if path else name, depth=depth + 1)


def _check_string(text: str, path: str) -> None:
    if "\0" in text:
        raise InvalidRequest(
            f"{path or 'the body'} holds a NUL character; remove it", field=path or None
        )
