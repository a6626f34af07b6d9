"""While no model has room for anything, requests to translate are refused as they come in.

Taking a request apart, checking it and finding its model costs as much as a good part of its
translation; spent on thousands that are refused in the end, it would be taken from the others. So
they do not even become requests of the application: the connection asks here first, and it is here
that some wait a moment for room. What is remembered or under way for another request is refused
here, too.
"""

import asyncio
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from service.errors import BodyTooSlow, QueueFull, RequestError
from service.http.wire import answer_bytes
from service.lifecycle import Lifecycle, Phase
from service.monitoring.request_log import valid_id, write_line
from service.protocol.dialects import error_response, is_translation
from service.protocol.error_table import refusal_of
from service.request_record import RequestRecord
from service.serving.arrivals import PendingRequests
from service.serving.queue_limits import LONGEST_LINE
from service.serving.registry import Registry
from service.serving.served_model import ModelState
from service.settings import Settings

_REQUEST_LINE = re.compile(rb"(GET|POST) (/[A-Za-z0-9./_-]*)(?:\?([!-~]*))? HTTP/1\.1\r\n")
_LENGTH = re.compile(rb"\ncontent-length:[ \t]*([0-9]{1,6})[ \t]*\r")
_REQUEST_ID = re.compile(rb"\nx-request-id:[ \t]*([!-~]+)[ \t]*\r")
# What needs the application: bodies of unknown length, conversations, and what browsers ask.
# However they are written: what h11 would refuse is not for here, either.
_NOT_HERE = re.compile(rb"\n(?:transfer-encoding|expect|upgrade|origin)")
_CLOSES = re.compile(rb"\nconnection:(?:[^\r\n]*[, \t])?close[ \t]*[,\r]")
_HEAD_END = b"\r\n\r\n"
_LONGEST = 64 * 1024  # bytes of a request that is kept here until it is whole
_LOOKS = 5  # for room, in the time that a visitor waits for it


class Verdict(Enum):
    """What becomes of bytes that have come in, where they are no request to be refused."""

    LET_IN = "let in"
    WAIT = "wait"  # for the rest of the request


@dataclass(frozen=True)
class Knock:
    """A request to translate, for which there is no room now."""

    line: "re.Match[bytes]"
    head: bytes  # in lower case
    data: bytes  # what has come in
    since: float = field(default_factory=time.monotonic)

    @property
    def close(self) -> bool:
        """Whether the client wants the connection closed behind the answer."""
        return _CLOSES.search(self.head) is not None


class Visitor(Protocol):
    """A connection whose request waits at the door."""

    def enter(self) -> None:
        """There is room."""

    def leave(self) -> None:
        """There was none in time."""


@dataclass(frozen=True)
class Refused:
    """The whole answer."""

    answer: bytes
    close: bool  # the connection, behind it


def has_head(data: bytes) -> bool:
    """Whether a request's head is whole."""
    return _HEAD_END in data


class Door:
    """Looks at requests before anybody else while there is no room for any."""

    def __init__(
        self,
        registry: Registry,
        settings: Settings,
        count: Callable[[RequestRecord], None],
        lifecycle: Lifecycle,
    ) -> None:
        """`count` is told of every request that is refused."""
        self.arrivals = PendingRequests()  # of requests that were let in
        self._registry = registry
        self._wait_s = settings.queue_wait_s
        self._count = count
        self._lifecycle = lifecycle
        self._waiting: dict[Visitor, float] = {}  # until when, the first to come first
        self._looking = False  # soon
        self._last_refusal: QueueFull | None = None

    def refusal(self) -> QueueFull | None:
        """Why no model takes any more; None while one does, and at the end of the service."""
        if self._lifecycle.phase is Phase.CLOSING:
            return None  # "come back in a second" would be wrong: the service says why
        refusal = None
        for served_model in self._registry.served_models:
            if served_model.state is ModelState.READY:
                refusal = served_model.queue_limits.refuses_all(self.arrivals.num_coming)
                if refusal is None:
                    return None
        self._last_refusal = refusal or self._last_refusal
        return refusal

    @property
    def closed(self) -> bool:
        """Whether whoever comes now is judged here: there is no room, or others wait for it."""
        return self.refusal() is not None or bool(self._waiting)

    def judge(self, data: bytes) -> Verdict | Knock:
        """What to do with a connection's next bytes, all that have come since its last request.

        Whatever is not plainly one request for a translation is the application's to judge.
        """
        if not self.closed:
            return Verdict.LET_IN
        head_end = data.find(_HEAD_END)
        if head_end < 0:
            return Verdict.WAIT if len(data) < _LONGEST else Verdict.LET_IN
        line = _REQUEST_LINE.match(data)
        head = data[: head_end + 2].lower()
        lengths = _LENGTH.findall(head)
        plain = head.count(b"\ncontent-length") == len(lengths) < 2
        if line is None or _NOT_HERE.search(head) or not plain:
            return Verdict.LET_IN
        path = line[2].decode("ascii")
        size = head_end + 4 + (int(lengths[0]) if lengths else 0)
        if not is_translation(path) or size > _LONGEST or len(data) > size:
            return Verdict.LET_IN
        return Verdict.WAIT if len(data) < size else Knock(line, head, data)

    def queue(self, visitor: Visitor) -> bool:
        """Lets a visitor wait for room, a moment and in turn; False when too many do already."""
        if self._wait_s == 0 or len(self._waiting) >= LONGEST_LINE:
            return False
        self._waiting[visitor] = time.monotonic() + self._wait_s
        self._look_soon()
        return True

    def forget(self, visitor: Visitor) -> None:
        """One that waits no longer, or never did."""
        self._waiting.pop(visitor, None)

    def _look_soon(self) -> None:
        if self._waiting and not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_later(self._wait_s / _LOOKS, self._look)

    def _look(self) -> None:
        """Lets in whom there is room for, and sends away whose time is over."""
        self._looking = False
        while self._waiting and self.refusal() is None:
            visitor = next(iter(self._waiting))
            del self._waiting[visitor]
            visitor.enter()
        now = time.monotonic()
        for visitor in [each for each, until in self._waiting.items() if until <= now]:
            del self._waiting[visitor]
            visitor.leave()
        self._look_soon()

    def refuse(self, knock: Knock) -> Refused:
        """The answer to a request for which there is no room, or none before that of others."""
        refusal = self.refusal() or self._last_refusal
        assert refusal is not None  # or there would have been no knock
        return self._refuse(refusal, knock, close=knock.close)

    def give_up(self, data: bytes, timeout_s: float) -> Refused | None:
        """The answer to a request whose body has not come in time; None while its head has not."""
        line = _REQUEST_LINE.match(data)
        if line is None or not has_head(data):
            return None
        head = data[: data.find(_HEAD_END) + 2].lower()
        late = BodyTooSlow(f"the body did not arrive within {timeout_s:g} s (body_timeout_s)")
        return self._refuse(late, Knock(line, head, data), close=True)

    def _refuse(self, refusal: RequestError, knock: Knock, *, close: bool) -> Refused:
        method, path = knock.line[1].decode("ascii"), knock.line[2].decode("ascii")
        scope = {"method": method, "path": path, "query_string": knock.line[3] or b""}
        response = error_response(scope, refusal)
        found = _REQUEST_ID.search(knock.head)
        # As it was written: `head` is in lower case.
        given = "" if found is None else knock.data[slice(*found.span(1))].decode("ascii")
        request_id = given if valid_id(given) else uuid.uuid4().hex
        more = [(b"x-request-id", request_id.encode("ascii"))]
        if close:
            more.append((b"connection", b"close"))
        answer = answer_bytes(response, *more)
        record = RequestRecord(
            request_id,
            method,
            route=path,
            status=response.status_code,
            num_bytes_sent=len(response.body),
            seconds=time.monotonic() - knock.since,
            refusal=refusal_of(refusal).code,
        )
        write_line(record)
        self._count(record)
        return Refused(answer, close)
