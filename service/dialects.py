"""The one place that decides which API a request speaks, and words every refusal in it.

It also knows where the clients of each API put their key.

A client understands only its own API's error bodies and statuses: FastAPI's stock 422, for one,
crashes the official deepl client. The middleware refuses too, before any route is found or
body read, so the dialect is known by path and query alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus

from fastapi.responses import JSONResponse
from starlette.types import Scope

from service.error_table import Refusal, refusal_of
from service.schemas import ErrorBody, ErrorDetail


@dataclass(frozen=True)
class KeyPlaces:
    """Where the clients of one API put their key, in the order in which it is looked for."""

    how: str  # what an error tells a client without one
    scheme: str | None = None  # of the Authorization header
    header: str | None = None
    query: tuple[str, ...] = ()
    body: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dialect:
    """How the clients of one API send their key, and how they are told of a refusal."""

    body: Callable[[Refusal], object]
    statuses: Mapping[str, int]  # by our code; where this API's differ from our own
    keys: KeyPlaces


def _native(refusal: Refusal) -> object:
    detail = ErrorDetail(code=refusal.code, message=refusal.message, field=refusal.field)
    return ErrorBody(error=detail).model_dump(exclude_none=True)


def _libretranslate(refusal: Refusal) -> object:
    return {"error": refusal.message}


def _deepl(refusal: Refusal) -> object:
    return {"message": refusal.message}


def _google(refusal: Refusal) -> object:
    reason = {"message": refusal.message, "domain": "global", "reason": refusal.code}
    return {"error": {"code": refusal.status, "message": refusal.message, "errors": [reason]}}


def _apertium(refusal: Refusal) -> object:
    phrase = HTTPStatus(refusal.status).phrase
    return {
        "status": "error",
        "code": refusal.status,
        "message": phrase,
        "explanation": refusal.message,
    }


# None of these APIs knows 422, all keep 404 for what has an address of its own, and most answer
# 403 without a key: on 401 Google's client hides the error behind an attempt to get a new token.
_STATUSES = {"invalid_request": 400, "unknown_language_pair": 400, "key_missing": 403}

_BEARER = "Authorization: Bearer KEY"

NATIVE = Dialect(_native, {}, KeyPlaces(_BEARER, scheme="bearer", header="X-API-Key"))
LIBRETRANSLATE = Dialect(
    _libretranslate,
    _STATUSES,
    KeyPlaces(
        "api_key",
        scheme="bearer",
        query=("api_key", "apiKey"),
        body=("api_key", "apiKey"),
    ),
)
DEEPL = Dialect(
    _deepl,
    {**_STATUSES, "quota_exceeded": 456},
    KeyPlaces("Authorization: DeepL-Auth-Key KEY", scheme="deepl-auth-key"),
)
GOOGLE = Dialect(
    _google,
    _STATUSES,
    KeyPlaces(
        f"key in the query, or as {_BEARER}",
        scheme="bearer",
        header="X-Goog-Api-Key",
        query=("key",),
        body=("key",),
    ),
)
APERTIUM = Dialect(
    _apertium, _STATUSES, KeyPlaces("key in the query", scheme="bearer", query=("key",))
)

_LIBRETRANSLATE_PATHS = frozenset(
    {
        "/detect",
        "/frontend/settings",
        "/health",
        "/languages",
        "/suggest",
        "/translate",
        "/translate_file",
    }
)
_GOOGLE_PREFIX = "/language/translate/"
_DEEPL_PREFIXES = ("/v2/", "/v3/")  # the official clients ask for some things under v3


def dialect_of(scope: Scope) -> Dialect:
    """The API that a request speaks."""
    path: str = scope["path"]
    if path == "/listPairs" or (path == "/translate" and _is_apertium(scope)):
        return APERTIUM
    if path in _LIBRETRANSLATE_PATHS:
        return LIBRETRANSLATE
    if path.startswith(_DEEPL_PREFIXES):
        return DEEPL
    if path.startswith(_GOOGLE_PREFIX):
        return GOOGLE
    return NATIVE


def _is_apertium(scope: Scope) -> bool:
    # Of those who share the path Apertium alone asks with GET, and without a langpair in vain.
    return scope["method"] == "GET" or b"langpair=" in scope["query_string"]


def error_response(scope: Scope, error: Exception) -> JSONResponse:
    """The answer to a request that failed with `error`, as its client understands it."""
    dialect = dialect_of(scope)
    refusal = refusal_of(error)
    refusal = replace(refusal, status=dialect.statuses.get(refusal.code, refusal.status))
    headers = dict(refusal.headers)
    if refusal.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="dragoman"'
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(refusal.retry_after_s)
    return JSONResponse(
        dialect.body(refusal),
        status_code=refusal.status,
        headers=headers,
    )
