"""The one table from exception to HTTP status, and the JSON body every error answers with.

It stands beside `app.py`, not in it, because the middleware that `app.py` installs answers too.
"""

from http import HTTPStatus

from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from model.errors import ConfigError, InputError
from service import errors
from service.schemas import ErrorBody, ErrorDetail

# Exception, status, code in the body, seconds in Retry-After unless the exception knows better.
ERROR_TABLE: tuple[tuple[type[Exception], int, str, int | None], ...] = (
    (errors.MalformedBody, 400, "malformed_body", None),
    (errors.UnknownModel, 404, "unknown_model", None),
    (errors.UnknownLanguagePair, 404, "unknown_language_pair", None),
    (errors.BodyTooSlow, 408, "body_too_slow", None),
    (errors.RequestTooLarge, 413, "request_too_large", None),
    (errors.UnsupportedMediaType, 415, "unsupported_media_type", None),
    (errors.InvalidRequest, 422, "invalid_request", None),
    (InputError, 422, "invalid_request", None),
    (ConfigError, 422, "invalid_request", None),
    (errors.QueueFull, 429, "queue_full", 1),
    (errors.ClientGone, 499, "client_gone", None),  # nginx's number; only ever seen in the log
    (errors.TranslationFailed, 500, "translation_failed", None),
    (errors.ModelLoading, 503, "model_loading", 5),
    (errors.ModelUnavailable, 503, "model_unavailable", 60),
    (errors.ShuttingDown, 503, "shutting_down", 5),
    (errors.DeadlineExceeded, 504, "deadline_exceeded", 5),
)

_INTERNAL = "the service failed on this request; the log has the reason under the request's id"


def error_response(error: Exception) -> JSONResponse:
    """The answer to a request that failed with `error`; one not in the table is a plain 500."""
    for kind, status, code, retry_after_s in ERROR_TABLE:
        if isinstance(error, kind):
            field = None
            if isinstance(error, errors.RequestError):
                field = error.field
                retry_after_s = error.retry_after_s or retry_after_s
            return _response(status, code, str(error), field, retry_after_s)
    return _response(500, "internal_error", _INTERNAL, None, None)


def http_error_response(error: HTTPException) -> JSONResponse:
    """What the framework itself refuses (no such path, method not allowed), in our shape."""
    status = HTTPStatus(error.status_code)
    code = status.phrase.lower().replace(" ", "_").replace("-", "_")
    messages = {
        404: "there is no such path; /docs lists what there is",
        405: "this path does not take this method; the Allow header lists those it takes",
    }
    message = messages.get(status.value, status.description or status.phrase)
    response = _response(status.value, code, message, None, None)
    response.headers.update(error.headers or {})
    return response


def _response(
    status: int, code: str, message: str, field: str | None, retry_after_s: int | None
) -> JSONResponse:
    body = ErrorBody(error=ErrorDetail(code=code, message=message, field=field))
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return JSONResponse(body.model_dump(exclude_none=True), status_code=status, headers=headers)
