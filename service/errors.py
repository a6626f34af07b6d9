"""The errors with which the service rejects a request or gives it up.

A message is one sentence for a person. It may name settings, limits and positions (`text[3]`), but
never quotes what was sent. `error_table.py` gives each error its HTTP status.
"""

from model.errors import DragomanError


class RequestError(DragomanError):
    """A request that is answered with an error."""

    def __init__(
        self, message: str, *, field: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.field = field  # the culprit inside the body: "text[3]"
        self.retry_after_s = retry_after_s


class MalformedRequest(RequestError):
    """Bytes that are not an HTTP request, or the head of one that is too large."""


class HeadTooSlow(RequestError):
    """The head of a request did not arrive in time."""


class MalformedBody(RequestError):
    """The body is not valid JSON, or not valid in the format of its content type."""


class UnsupportedMediaType(RequestError):
    """The body has a content type or an encoding that is not supported."""


class InvalidRequest(RequestError):
    """A field is wrong, missing or unknown."""


class RequestTooLarge(RequestError):
    """The request has more bytes, texts or characters than the limit."""


class BodyTooSlow(RequestError):
    """The body did not arrive in time."""


class KeyMissing(RequestError):
    """The request has no API key, and the service needs one."""


class KeyRefused(RequestError):
    """The API key is not valid, lacks the scope, or was sent in the wrong place."""


class QuotaExceeded(RequestError):
    """The key's characters are used up until the next day or month."""


class RateLimited(RequestError):
    """The caller has sent more texts than its rate limit allows."""


class UnknownModel(RequestError):
    """No model has this name."""


class UnknownLanguagePair(RequestError):
    """No model translates between these languages."""


class UnknownGlossary(RequestError):
    """No glossary has this id; glossaries are not supported yet."""


class QueueFull(RequestError):
    """The queue of the model is full."""


class DeadlineExceeded(RequestError):
    """The request was not answered before its deadline; its work was cancelled."""


class ModelLoading(RequestError):
    """The model is still loading."""


class ModelUnavailable(RequestError):
    """The model could not be loaded, or its engine has stopped."""


class TooManyConnections(RequestError):
    """The service has as many open connections as its limit allows."""


class ShuttingDown(RequestError):
    """The service is shutting down and accepts no new requests."""


class TranslationFailed(RequestError):
    """The model failed on one text; an internal error, which is logged."""


class ClientGone(RequestError):
    """The client disconnected before the answer; only seen in the log."""


def describe(error: BaseException) -> str:
    """The description of an unexpected error for the log, without any user's text.

    Only messages about shapes, memory and files are kept; those of other errors, such as a
    codec's or a parser's, may quote the text that caused them.
    """
    if isinstance(error, DragomanError):
        return str(error)
    kept = (RuntimeError, MemoryError, OSError, ImportError)
    plain = isinstance(error, kept) and not isinstance(error, (UnicodeError, RecursionError))
    return f"{type(error).__name__}: {error}" if plain else type(error).__name__
