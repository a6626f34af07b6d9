"""Every limit on a request's size, rate, time and place in a queue, in the order in which they act.

| limit | setting | error | status |
|---|---|---|---|
| open connections | max_connections | TooManyConnections | 503 |
| bytes of the head | MAX_HEAD_BYTES | MalformedRequest | 400 |
| seconds for the head | head_timeout_s | HeadTooSlow | 408 |
| queues of all models full | max_queue_*, queue_wait_s | QueueFull | 429 |
| bytes of the body | max_body_bytes | RequestTooLarge | 413 |
| seconds for the body | body_timeout_s | BodyTooSlow | 408 |
| values of a JSON body | max_texts | RequestTooLarge | 413 |
| depth of a JSON body | MAX_JSON_DEPTH | MalformedBody | 400 |
| fields of a query or form | max_texts | RequestTooLarge | 413 |
| beam size | max_beam_size | InvalidRequest | 422 |
| seconds until the answer, as a client asks | deadline_s | InvalidRequest | 422 |
| characters of a text with its tags | max_characters | RequestTooLarge | 413 |
| pieces of text between tags | max_texts | RequestTooLarge | 413 |
| texts, characters | max_texts, max_characters | RequestTooLarge | 413 |
| characters of all texts, times their targets | max_body_bytes | RequestTooLarge | 413 |
| characters of a key in a day or month | of the key | QuotaExceeded | 403 |
| texts of a key or address in a time | rate_limit, or of the key | RateLimited | 429 |
| texts, characters, seconds in a queue | max_queue_*, queue_wait_s | QueueFull | 429 |
| seconds until the answer | deadline_s | DeadlineExceeded | 504 |
| seconds in which the client reads the answer | answer_timeout_s | connection closed | |

Here stand the limits, their arithmetic and their messages. What is counted over several requests
(rates, quotas, queues) is counted in `access/quotas.py` and `serving/queue_limits.py`.
"""

import math
import re
from dataclasses import dataclass
from datetime import datetime

from limits import RateLimitItem

from service.errors import (
    BodyTooSlow,
    DeadlineExceeded,
    HeadTooSlow,
    InvalidRequest,
    MalformedBody,
    MalformedRequest,
    QueueFull,
    QuotaExceeded,
    RateLimited,
    RequestTooLarge,
    TooManyConnections,
)
from service.settings import Settings

MAX_HEAD_BYTES = 64 * 1024  # some clients send 5000 characters, percent-encoded, in the query
MAX_JSON_DEPTH = 16  # our own bodies need 3: an object, a list of pairs, a pair

# Values that a JSON body may hold beside its texts, and for each text: Azure's largest have 18.
_OTHER_VALUES = 1000
_VALUES_PER_TEXT = 20

_OTHER_FIELDS = 32  # of a query or form, beside its texts
_MARKUP_FACTOR = 4  # how many times longer than its text a tagged document may be

DEADLINE_HEADER = "X-Deadline-Seconds"
_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?", re.ASCII)

MAX_WAITING = 8  # requests that may wait for space in one queue: the time is enough for so many
_MAX_RETRY_AFTER_S = 60


@dataclass(frozen=True)
class QueueUse:
    """A model's queue with one more request in it."""

    num_texts: int
    num_characters: int
    bulk_characters: int  # those of large requests, if the new one is large; else 0
    wait_s: float | None  # until the new request is begun; None while the speed is unknown
    is_first: bool  # nothing else is in the queue


@dataclass(frozen=True)
class Limits:
    """The limits of one service."""

    settings: Settings

    # The connection

    def too_many_connections(self) -> TooManyConnections:
        return TooManyConnections(
            f"more than {self.settings.max_connections} connections are open (max_connections); "
            "retry after 1 s"
        )

    def malformed_head(self) -> MalformedRequest:
        return MalformedRequest(
            f"the request is not HTTP/1.1, or its head is larger than {MAX_HEAD_BYTES} bytes"
        )

    def head_too_slow(self) -> HeadTooSlow:
        return HeadTooSlow(
            "the head of the request did not arrive within "
            f"{self.settings.head_timeout_s:g} s (head_timeout_s)"
        )

    # The body

    def check_body(self, num_bytes: int) -> None:
        """Raises RequestTooLarge for a body of more bytes than a request may have."""
        if num_bytes > self.settings.max_body_bytes:
            raise self.body_too_large()

    def body_too_large(self) -> RequestTooLarge:
        return RequestTooLarge(
            f"the body is larger than {self.settings.max_body_bytes} bytes (max_body_bytes); "
            "send fewer or shorter texts"
        )

    def body_too_slow(self) -> BodyTooSlow:
        return BodyTooSlow(
            f"the body did not arrive within {self.settings.body_timeout_s:g} s (body_timeout_s)"
        )

    @property
    def max_values(self) -> int:
        """Values that a JSON body may hold."""
        return _OTHER_VALUES + _VALUES_PER_TEXT * self.settings.max_texts

    def too_many_values(self) -> RequestTooLarge:
        return RequestTooLarge(
            f"the body holds more than {self.max_values} values, far more than "
            f"{self.settings.max_texts} texts (max_texts) need; send them in several requests"
        )

    @staticmethod
    def nested_too_deep() -> MalformedBody:
        return MalformedBody(f"the body is nested deeper than {MAX_JSON_DEPTH} levels")

    @property
    def max_fields(self) -> int:
        """Fields that a query string or a form may hold."""
        return self.settings.max_texts + _OTHER_FIELDS

    def too_many_fields(self, where: str) -> RequestTooLarge:
        return RequestTooLarge(
            f"{where} has more than {self.max_fields} fields, far more than "
            f"{self.settings.max_texts} texts (max_texts) need; send them in several requests"
        )

    # What is asked for

    def check_beam_size(self, beam_size: int) -> None:
        """Raises InvalidRequest for a larger beam than a request may ask for."""
        most = self.settings.max_beam_size
        if beam_size > most:
            raise InvalidRequest(
                f"beam_size is {beam_size}, the limit is {most} (max_beam_size)", field="beam_size"
            )

    def check_alternatives(self, num_alternatives: int) -> None:
        """Raises InvalidRequest for more alternatives than the largest beam can give."""
        most = self.settings.max_beam_size - 1
        if num_alternatives > most:
            raise InvalidRequest(
                f"alternatives is {num_alternatives}, the limit is {most} (max_beam_size)",
                field="alternatives",
            )

    def deadline_s(self, asked: str | None) -> float:
        """Seconds until the answer is due, where a client sent `asked` in DEADLINE_HEADER.

        Raises InvalidRequest for what is no time. The setting is the longest.
        """
        if asked is None:
            return self.settings.deadline_s
        if not _SECONDS.fullmatch(asked) or float(asked) == 0:
            raise InvalidRequest(
                f"{DEADLINE_HEADER} is no number of seconds above 0; send one such as 2.5",
                field=DEADLINE_HEADER,
            )
        return min(float(asked), self.settings.deadline_s)

    def check_document(self, num_characters: int, *, field: str) -> None:
        """Raises RequestTooLarge for a text that is too long even if most of it were tags."""
        most = _MARKUP_FACTOR * self.settings.max_characters
        if num_characters > most:
            raise RequestTooLarge(
                f"{field} has {num_characters} characters, tags included; the limit is {most} "
                f"({_MARKUP_FACTOR} times max_characters); send it in several requests",
                field=field,
            )

    def check_pieces(self, num_pieces: int, *, field: str) -> None:
        """Raises RequestTooLarge for a document with too many pieces of text between its tags."""
        most = self.settings.max_texts
        if num_pieces > most:
            raise RequestTooLarge(
                f"{field} holds more than {most} texts between its tags, the limit of one request "
                "(max_texts); send it in several requests",
                field=field,
            )

    def check_texts(self, num_texts: int, num_characters: int, *, field: str) -> None:
        """Raises RequestTooLarge for more texts or characters than a request may have."""
        settings = self.settings
        if num_texts > settings.max_texts:
            raise RequestTooLarge(
                f"{field} holds {num_texts} items, the limit is {settings.max_texts} (max_texts); "
                "send them in several requests",
                field=field,
            )
        if num_characters > settings.max_characters:
            raise RequestTooLarge(
                f"{field} has {num_characters} characters, the limit is "
                f"{settings.max_characters} (max_characters); send it in several requests",
                field=field,
            )

    def check_answer(self, num_characters: int) -> None:
        """Raises RequestTooLarge for texts that are too long times the targets of each.

        Tags are not translated, so no other limit holds them, but each target repeats them.
        """
        most = self.settings.max_body_bytes
        if num_characters > most:
            raise RequestTooLarge(
                f"all texts times their targets have {num_characters} characters, the limit is "
                f"{most} (max_body_bytes); send fewer targets at once"
            )

    # A model's queue

    @property
    def max_bulk_characters(self) -> int:
        """Characters of large requests in one queue; half is kept for requests people wait for."""
        return max(self.settings.max_characters, self.settings.max_queue_characters // 2)

    def queue_refusal(
        self, model: str, use: QueueUse, deadline_s: float, retry_after_s: float
    ) -> QueueFull | None:
        """The refusal of a request with which a model's queue would be too long; None if not."""
        settings = self.settings
        longest_s = min(settings.max_queue_s, deadline_s)
        if use.num_texts > settings.max_queue_texts:
            reason = f"its queue would hold {use.num_texts} texts"
            limit = f"{settings.max_queue_texts} (max_queue_texts)"
        elif use.num_characters > settings.max_queue_characters:
            reason = f"its queue would hold {use.num_characters} characters"
            limit = f"{settings.max_queue_characters} (max_queue_characters)"
        elif use.bulk_characters > self.max_bulk_characters:
            reason = f"its queue would hold {use.bulk_characters} characters of large requests"
            limit = f"{self.max_bulk_characters} (half of max_queue_characters)"
        elif not use.is_first and (use.wait_s or 0.0) > longest_s:
            reason = f"the request would wait for {use.wait_s:.1f} s"
            setting = "max_queue_s" if settings.max_queue_s <= deadline_s else "the deadline"
            limit = f"{longest_s:g} s ({setting})"
        else:
            return None
        return _busy(model, f"{reason}, the limit is {limit}", retry_after_s)

    def waiting_refusal(self, model: str, retry_after_s: float) -> QueueFull:
        """The refusal of a request behind others that wait for space in a model's queue."""
        reason = f"no space became free within {self.settings.queue_wait_s:g} s (queue_wait_s)"
        return _busy(model, reason, retry_after_s)


def _busy(model: str, reason: str, retry_after_s: float) -> QueueFull:
    seconds = min(max(math.ceil(retry_after_s), 1), _MAX_RETRY_AFTER_S)
    return QueueFull(
        f"model {model} is busy: {reason}; retry after {seconds} s", retry_after_s=seconds
    )


def deadline_exceeded(deadline_s: float) -> DeadlineExceeded:
    """The error of a request that was not answered in time."""
    return DeadlineExceeded(
        f"no answer within {deadline_s:g} s (deadline_s); send less text or retry later"
    )


# A key's quota, a caller's rate


def quota_exceeded(limit: int, period: str, left: int, renewed: datetime) -> QuotaExceeded:
    """The refusal of a request of more characters than a key's quota has left."""
    return QuotaExceeded(
        f"the key's quota of {limit} characters a {period} has {left} left; "
        f"it is renewed on {renewed:%Y-%m-%d} UTC"
    )


def above_rate(num_texts: int, rate: RateLimitItem) -> RequestTooLarge:
    """The refusal of a request of more texts than its caller's rate ever allows."""
    return RequestTooLarge(
        f"the request has {num_texts} texts, the rate limit is {_in_words(rate)} (rate_limit); "
        "send fewer texts at a time"
    )


def rate_limited(rate: RateLimitItem, wait_s: float) -> RateLimited:
    """The refusal of a request of more texts than its caller's rate allows now."""
    seconds = max(1, math.ceil(wait_s))
    return RateLimited(
        f"the rate limit of {_in_words(rate)} texts is used up (rate_limit); "
        f"retry after {seconds} s",
        retry_after_s=seconds,
    )


def _in_words(rate: RateLimitItem) -> str:
    span = rate.GRANULARITY.name
    if rate.multiples == 1:
        return f"{rate.amount} a {span}"
    return f"{rate.amount} in {rate.multiples} {span}s"
