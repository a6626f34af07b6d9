"""The one table from exception to HTTP status and error code.

Each API words the errors in its own bodies, and changes some statuses: see `dialects.py`.
"""

import dataclasses
from collections.abc import Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException

from model.errors import ConfigError, InputError
from service import errors

# Exception, status, code in the body, seconds in Retry-After unless the exception has its own.
ERROR_TABLE: tuple[tuple[type[Exception], int, str, int | None], ...] = (
    (errors.MalformedRequest, 400, "malformed_request", None),
    (errors.MalformedBody, 400, "malformed_body", None),
    (errors.KeyMissing, 401, "key_missing", None),
    (errors.KeyRefused, 403, "key_refused", None),
    # Not 429: clients would retry again and again, but the quota is renewed in days.
    (errors.QuotaExceeded, 403, "quota_exceeded", None),
    (errors.UnknownModel, 404, "unknown_model", None),
    (errors.UnknownLanguagePair, 404, "unknown_language_pair", None),
    (errors.UnknownGlossary, 404, "unknown_glossary", None),
    (errors.HeadTooSlow, 408, "head_too_slow", None),
    (errors.BodyTooSlow, 408, "body_too_slow", None),
    (errors.RequestTooLarge, 413, "request_too_large", None),
    (errors.UnsupportedMediaType, 415, "unsupported_media_type", None),
    (errors.InvalidRequest, 422, "invalid_request", None),
    (InputError, 422, "invalid_request", None),
    (ConfigError, 422, "invalid_request", None),
    (errors.RateLimited, 429, "rate_limited", 1),
    (errors.QueueFull, 429, "queue_full", 1),
    (errors.ClientGone, 499, "client_gone", None),  # nginx's number; only ever seen in the log
    (errors.TranslationFailed, 500, "translation_failed", None),
    (errors.ModelLoading, 503, "model_loading", 5),
    (errors.ModelUnavailable, 503, "model_unavailable", 60),
    (errors.TooManyConnections, 503, "too_many_connections", 1),
    (errors.ShuttingDown, 503, "shutting_down", 5),
    (errors.DeadlineExceeded, 504, "deadline_exceeded", 5),
)

_INTERNAL = "the service failed on this request; its log has the reason under the request's id"


@dataclasses.dataclass(frozen=True)
class Refusal:
    """An error before a dialect words it."""

    status: int
    code: str
    message: str
    field: str | None = None
    retry_after_s: int | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


def refusal_of(error: Exception) -> Refusal:
    """The row of the table for `error`; an exception that is not in the table is a 500."""
    if isinstance(error, HTTPException):
        return _framework_refusal(error)
    for kind, status, code, retry_after_s in ERROR_TABLE:
        if isinstance(error, kind):
            culprit = None
            if isinstance(error, errors.RequestError):
                culprit = error.field
                retry_after_s = error.retry_after_s or retry_after_s
            return Refusal(status, code, str(error), culprit, retry_after_s)
    return Refusal(500, "internal_error", _INTERNAL)


def _framework_refusal(error: HTTPException) -> Refusal:
    """An error of the framework itself: unknown path, method not allowed."""
    status = HTTPStatus(error.status_code)
    code = status.phrase.lower().replace(" ", "_").replace("-", "_")
    messages = {
        404: "there is no such path; /docs lists the paths",
        405: "this path does not accept this method; the Allow header lists those it accepts",
    }
    message = messages.get(status.value, status.description or status.phrase)
    return Refusal(status.value, code, message, headers=error.headers or {})
