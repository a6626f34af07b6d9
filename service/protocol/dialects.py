"""The one place that decides which API a request speaks, and words every refusal in it.

It also knows where the clients of each API put their key.

A client understands only its own API's error bodies and statuses: FastAPI's stock 422, for one,
crashes the official deepl client. The middleware refuses too, before any route is found or
body read, so the dialect is known by method, path and query alone. Where APIs share a path, their
routes ask the same function whose request it is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import ClassVar

from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope

from service.protocol.error_body import ErrorBody, ErrorDetail
from service.protocol.error_table import Refusal, refusal_of


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


# Azure's codes are its status and three digits more, zeros unless the culprit is one of these.
_AZURE_CULPRITS = {
    "api-version": 400021,
    "category": 400002,
    "from": 400035,
    "scope": 400001,
    "source": 400035,
    "target": 400036,
    "textType": 400071,
    "to": 400036,
}


def _azure_code(refusal: Refusal) -> int:
    if refusal.status != HTTPStatus.BAD_REQUEST:
        return refusal.status * 1000
    if refusal.code == "malformed_body":
        return 400074
    return _AZURE_CULPRITS.get(refusal.field or "", 400000)


def _azure_3(refusal: Refusal) -> object:
    return {"error": {"code": _azure_code(refusal), "message": refusal.message}}


def _azure(refusal: Refusal) -> object:
    return {"error": {"code": str(_azure_code(refusal)), "message": refusal.message}}


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
AZURE_3 = Dialect(
    _azure_3,  # api-version=3.0
    {**_STATUSES, "key_missing": 401, "key_refused": 401},
    KeyPlaces("Ocp-Apim-Subscription-Key: KEY", "bearer", header="Ocp-Apim-Subscription-Key"),
)
AZURE = Dialect(_azure, AZURE_3.statuses, AZURE_3.keys)  # all later ones

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
_AZURE_PATHS = frozenset(
    {
        "/breaksentence",
        "/detect",
        "/dictionary/examples",
        "/dictionary/lookup",
        "/languages",
        "/translate",
        "/transliterate",
    }
)
_AZURE_PREFIX = "/translator/text/"
_GOOGLE_PREFIX = "/language/translate/"
_DEEPL_PREFIXES = ("/v2/", "/v3/")  # the official clients ask for some things under v3


# What a request to one of these asks for waits in a model's queue.
_TRANSLATION_PATHS = frozenset(
    {
        "/language/translate/v2",
        "/translate",
        "/translator/text/v2026-06-06/translate",
        "/translator/text/v3.0/translate",
        "/v1/score",
        "/v1/translate",
        "/v2/translate",
    }
)


def is_translation(path: str) -> bool:
    """True for the paths that give work to a model, of whichever API."""
    return path in _TRANSLATION_PATHS


def dialect_of(scope: Scope) -> Dialect:
    """The API that a request speaks."""
    path: str = scope["path"]
    asked = _query(scope) if path in _AZURE_PATHS else {}
    if path.startswith(_AZURE_PREFIX):
        return AZURE_3 if path.startswith(f"{_AZURE_PREFIX}v3.0/") else AZURE
    if "api-version" in asked:
        return AZURE_3 if asked["api-version"] == "3.0" else AZURE
    if path == "/listPairs" or (
        path == "/translate" and ("langpair" in asked or scope["method"] == "GET")
    ):
        return APERTIUM
    if path in _LIBRETRANSLATE_PATHS:
        return LIBRETRANSLATE
    if path.startswith(_DEEPL_PREFIXES):
        return DEEPL
    if path.startswith(_GOOGLE_PREFIX):
        return GOOGLE
    return NATIVE


# Where a request's scope keeps the code of the error that was answered.
REFUSAL = "dragoman.refusal"


class DialectRoute(APIRoute):
    """A route for requests in one dialect; to all others it is not there."""

    dialect: ClassVar[Dialect]

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child_scope = super().matches(scope)
        if match is Match.NONE or dialect_of(scope) is not self.dialect:
            return Match.NONE, {}
        return match, child_scope


def _query(scope: Scope) -> dict[str, str]:
    """Names and values in the query string as they were sent."""
    query: bytes = scope["query_string"]
    fields = (field.partition("=") for field in query.decode("latin-1").split("&"))
    return {name: value for name, _, value in fields}


def error_response(scope: Scope, error: Exception) -> JSONResponse:
    """The answer to a request that failed with `error`, as its client understands it."""
    dialect = dialect_of(scope)
    refusal = refusal_of(error)
    scope[REFUSAL] = refusal.code
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
