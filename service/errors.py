"""Every reason for which the service refuses or gives up a request.

Messages are one sentence for a person and never repeat what was sent: names and limits are ours,
positions (`text[3]`) are theirs. Which HTTP status each becomes stands in `error_table.py`.
"""

from model.errors import DragomanError


class RequestError(DragomanError):
    """A request that was not answered with translations."""

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
    """The body is not the JSON, form or encoding that the service accepts."""


class UnsupportedMediaType(RequestError):
    """A body of another content type or encoding."""


class InvalidRequest(RequestError):
    """JSON with a wrong, missing, unknown or impossible field."""


class RequestTooLarge(RequestError):
    """More bytes, texts or characters than one request may hold."""


class BodyTooSlow(RequestError):
    """A body that did not arrive in time."""


class KeyMissing(RequestError):
    """No key came with the request, and it needs one."""


class KeyRefused(RequestError):
    """A key that does not open this service, or is not sent as it should be."""


class QuotaExceeded(RequestError):
    """The key's characters are used up until the next day or month."""


class RateLimited(RequestError):
    """More texts in a time than the caller may send."""


class UnknownModel(RequestError):
    """No model has the name asked for."""


class UnknownLanguagePair(RequestError):
    """No model translates between the languages asked for."""


class UnknownGlossary(RequestError):
    """A glossary that is asked for by its id: there are none."""


class QueueFull(RequestError):
    """The model has as much work waiting as it may."""


class DeadlineExceeded(RequestError):
    """The answer did not come in time; the work was stopped."""


class ModelLoading(RequestError):
    """The model is not ready yet."""


class ModelUnavailable(RequestError):
    """The model could not be loaded, or its engine has stopped."""


class TooManyConnections(RequestError):
    """The service holds as many connections open as it may."""


class ShuttingDown(RequestError):
    """The service takes no new work any more."""


class TranslationFailed(RequestError):
    """The network failed on one text; our fault, and logged."""


class ClientGone(RequestError):
    """The client hung up; nobody reads the answer."""


def describe(error: BaseException) -> str:
    """What a log may say of an unexpected error: never a user's text.

    Only the messages of errors that the libraries below us write about shapes, memory and files
    are kept; others (a codec's, a parser's) may quote the text they failed on.
    """
    if isinstance(error, DragomanError):
        return str(error)
    kept = (RuntimeError, MemoryError, OSError, ImportError)
    plain = isinstance(error, kept) and not isinstance(error, (UnicodeError, RecursionError))
    return f"{type(error).__name__}: {error}" if plain else type(error).__name__
