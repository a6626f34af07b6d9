"""Which API a request speaks, and how an error is worded in that API.

Each API describes its dialect beside its routes in `service/api`; this module only looks it up.

A client understands only its own API's error bodies and statuses: FastAPI's standard 422, for one,
crashes the official deepl client. Middleware refuses requests before a route is found or a body is
read, so the dialect is known from method, path and query alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus

from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.types import Scope

from service.protocol.error_table import Refusal, refusal_of


@dataclass(frozen=True)
class KeyPlaces:
    """Where the clients of one API put their key, in the order in which it is looked for."""

    how: str  # what an error tells a client that sent no key
    scheme: str | None = None  # of the Authorization header
    header: str | None = None
    query: tuple[str, ...] = ()
    body: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dialect:
    """What differs from API to API for every request: keys, error bodies, statuses."""

    name: str
    speaks: Callable[[Scope], bool]  # whether a request is of this API
    error_body: Callable[[Refusal], object]
    keys: KeyPlaces
    statuses: Mapping[str, int] = field(default_factory=dict)  # by code, where they are not ours
    translation_paths: frozenset[str] = frozenset()  # whose requests wait in a model's queue
    error_model: type[BaseModel] | None = None  # of `error_body`, for the OpenAPI document


# Where the other vendors' APIs differ from /v1. None of them knows 422, all use 404 for unknown
# addresses only, and most answer 403 without a key: after 401 Google's client hides the error
# behind an attempt to get a new token.
COMPATIBLE_STATUSES = {"invalid_request": 400, "unknown_language_pair": 400, "key_missing": 403}


@dataclass(frozen=True)
class Dialects:
    """All dialects of the service."""

    dialects: Sequence[Dialect]  # several may use one path: the first that claims a request has it
    default: Dialect  # of all other requests

    def dialect_of(self, scope: Scope) -> Dialect:
        """The dialect that a request speaks."""
        return next((each for each in self.dialects if each.speaks(scope)), self.default)


def query_of(scope: Scope) -> dict[str, str]:
    """Names and values in the query string, without percent-decoding."""
    query: bytes = scope["query_string"]
    fields = (field.partition("=") for field in query.decode("latin-1").split("&"))
    return {name: value for name, _, value in fields}


def error_response(dialect: Dialect, error: Exception) -> JSONResponse:
    """The answer to a request that failed with `error`, as the clients of this API expect it."""
    refusal = refusal_of(error)
    refusal = replace(refusal, status=dialect.statuses.get(refusal.code, refusal.status))
    headers = dict(refusal.headers)
    if refusal.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="dragoman"'
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(refusal.retry_after_s)
    return JSONResponse(dialect.error_body(refusal), status_code=refusal.status, headers=headers)
