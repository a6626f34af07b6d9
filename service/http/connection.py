"""uvicorn's HTTP connection, with an end to its patience.

As it comes it waits for ever for the head of a request and for a client to read its answer, holds
any number of connections open, and answers broken HTTP in plain text. Here whoever comes past the
limit takes the place of the connection that has been idle longest. What is refused here is counted
and logged without anything of what came in.
"""

import asyncio
import logging
from collections import OrderedDict
from typing import Any, cast

import h11
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.errors import TooManyConnections
from service.http.overload import Door, Knock, Refused, Verdict, has_head
from service.http.wire import answer_bytes
from service.monitoring.metrics import Metrics
from service.monitoring.request_log import RequestLog
from service.protocol.dialects import NATIVE, error_response, is_translation
from service.protocol.error_table import Refusal
from service.serving.arrivals import PendingRequest
from service.settings import Settings

logger = logging.getLogger("dragoman.connections")

# Above the limit, for health checks and for telling others to come back later.
_SPARE = 64
_LEAST_READ_PER_S = 1024  # bytes; slower than any modem


class _Gathered:
    """A transport that sends an answer's head along with the first part of its body.

    A call of the system for each of the two is a tenth of what the event loop does for an answer.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._kept = b""

    def write(self, data: bytes) -> None:
        """Keeps the bytes until there are more, or until the caller lets go of the loop."""
        if self._kept:
            kept, self._kept = self._kept, b""
            self._transport.write(kept + data)
        elif data:
            self._kept = data
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Sends what is kept."""
        if self._kept:
            self.write(b"")

    def close(self) -> None:
        """Closes once everything is sent."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Closes at once."""
        self._kept = b""
        self._transport.abort()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Connection(H11Protocol):
    """One client's connection. `connection_class` sets the limits."""

    head_timeout_s: float
    body_timeout_s: float  # while the door waits for it; otherwise it is the application's affair
    answer_timeout_s: float
    max_connections: int

    door: Door
    metrics: Metrics
    idle: "OrderedDict[Connection, None]"  # of the whole service, the longest idle first

    _at_door = b""  # come in since the last request, while the door was closed
    _knocking: Knock | None = None  # that waits for room
    _arrival: PendingRequest | None = None  # of the request under way
    _head_timer: asyncio.TimerHandle | None = None
    _answer_timer: asyncio.TimerHandle | None = None
    _left_to_read = 0  # bytes, when the answer was last looked at

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.metrics.open_connections.inc()
        self.transport = cast(asyncio.Transport, _Gathered(transport, self.loop))
        if len(self.connections) > self.max_connections + _SPARE:
            if not self.idle:
                self._tell_refusal("too_many_connections", None)
                transport.abort()
                return
            longest_idle, _ = self.idle.popitem(last=False)
            longest_idle.transport.close()
        self._watch_head()
        self._note_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head_timer, self._answer_timer):
            if timer is not None:
                timer.cancel()
        self.idle.pop(self, None)
        self._stop_waiting()
        self._end_arrival()
        self.metrics.open_connections.dec()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._at_door or (self._between_requests and not self._crowded and self.door.closed):
            before, self._at_door = self._at_door, b""
            self._stop_waiting()
            data = before + data
            verdict = self.door.judge(data)
            if verdict is Verdict.WAIT:
                self._at_door = data
                self._unset_keepalive_if_required()
                if has_head(data) and not has_head(before):
                    self._stop_head_timer()
                    self._head_timer = self.loop.call_later(self.body_timeout_s, self._give_up_head)
                self._watch_head()
                self._note_idle()
                return
            if isinstance(verdict, Knock):
                self._knock(verdict)
                return
        self._let_in(data)

    def _knock(self, knock: Knock) -> None:
        if self.door.queue(self):
            self._at_door, self._knocking = knock.data, knock
            self._unset_keepalive_if_required()
            self._stop_head_timer()
            self._note_idle()
        else:
            self._send_refusal(self.door.refuse(knock))

    def enter(self) -> None:
        """There is room for the request that waits at the door."""
        assert self._knocking is not None
        knock, self._at_door, self._knocking = self._knocking, b"", None
        self._let_in(knock.data, since=knock.since)

    def leave(self) -> None:
        """There was no room for it in time."""
        assert self._knocking is not None
        knock, self._at_door, self._knocking = self._knocking, b"", None
        self._send_refusal(self.door.refuse(knock))

    def shutdown(self) -> None:
        if has_head(self._at_door):  # the application tells why there is no answer any more
            self._stop_waiting()
            data, self._at_door = self._at_door, b""
            self._let_in(data)
        if self.conn.their_state is h11.SEND_BODY:  # whoever waits for the rest need not any more
            self.cycle.message_event.set()
        super().shutdown()

    def _stop_waiting(self) -> None:
        if self._knocking is not None:
            self._knocking = None
            self.door.forget(self)

    def _let_in(self, data: bytes, *, since: float | None = None) -> None:
        """Has the application take what has come in, which may have waited `since`."""
        self.app = self._refusing if self._crowded else self.config.loaded_app
        before = self.cycle
        with self.door.arrivals.expected(since) as arrival:
            super().data_received(data)
        if self.cycle is not before and is_translation(self.scope["path"]):
            self._arrival = arrival
        # One whose body drips in would keep its place for as long as it likes.
        if self._arrival is not None and self.conn.their_state is not h11.SEND_BODY:
            self._arrival.count()
        self._watch_head()
        self._note_idle()

    @property
    def _between_requests(self) -> bool:
        """True while nothing of a request has come in that is not answered."""
        idle = self.conn.their_state is h11.IDLE and self.conn.our_state is h11.IDLE
        return idle and not self.conn.trailing_data[0] and not self._at_door

    def _note_idle(self) -> None:
        """Notes since when nothing is asked and nothing left to be sent, so that it may close."""
        self.idle.pop(self, None)
        closing = self.transport.is_closing()
        if not closing and self._between_requests and not self.transport.get_write_buffer_size():
            self.idle[self] = None

    def _end_arrival(self) -> None:
        if self._arrival is not None:
            self._arrival.end()
            self._arrival = None

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _send_refusal(self, refused: Refused) -> None:
        self._unset_keepalive_if_required()
        self._stop_head_timer()
        cast(_Gathered, self.transport).write(refused.answer)
        cast(_Gathered, self.transport).flush()
        self._watch_answer()
        if refused.close:
            self.transport.close()
        else:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        self._note_idle()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_answer()

    def on_response_complete(self) -> None:
        self._end_arrival()
        cast(_Gathered, self.transport).flush()
        super().on_response_complete()
        self._watch_answer()
        self._note_idle()

    def send_400_response(self, msg: str) -> None:
        self._refuse_unparsed(
            400, "malformed_request", "this is no HTTP request, or its head is too large"
        )

    def _watch_head(self) -> None:
        """Gives a head that has begun, or a new connection, its time; stops once it is there."""
        # While an answer is on its way to a client, uvicorn's keep-alive timeout comes after it.
        waiting = self.conn.their_state is h11.IDLE and not self.transport.is_closing()
        if waiting and self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_timeout_s, self._give_up_head)
        elif not waiting:
            self._stop_head_timer()

    def _give_up_head(self) -> None:
        self._head_timer = None
        if self.transport.is_closing() or self.conn.their_state is not h11.IDLE:
            return
        late_body = self.door.give_up(self._at_door, self.body_timeout_s)
        if late_body is not None:
            self._at_door = b""
            self._send_refusal(late_body)
        elif self.conn.trailing_data[0] or self._at_door:
            self._refuse_unparsed(
                408,
                "head_too_slow",
                f"the request's head did not arrive within {self.head_timeout_s:g} s "
                "(head_timeout_s)",
            )
        else:  # opened and never used, as browsers do: there is nothing to answer
            self.transport.close()

    def _refuse_unparsed(self, status: int, code: str, message: str) -> None:
        """Answers before it is known which API is spoken, and closes."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            response = JSONResponse(NATIVE.body(Refusal(status, code, message)), status)
            self.transport.write(answer_bytes(response, (b"connection", b"close")))
            self._tell_refusal(code, status)
        else:  # in the middle of an answer, which tells by its end that something is wrong
            self._tell_refusal(code, None)
        self.transport.close()
        self._watch_answer()

    def _tell_refusal(self, code: str, status: int | None) -> None:
        """Counts and logs what never became a request; no status where it was not answered."""
        self.metrics.count_refusal(code)
        told = {"refusal": code, "status": status}
        logger.info("refused before its request: %s %s", code, status or "unanswered", extra=told)

    def _watch_answer(self) -> None:
        """Gives the client its time to read what is still to be sent."""
        if self._answer_timer is None and self.transport.get_write_buffer_size() > 0:
            self._left_to_read = self.transport.get_write_buffer_size()
            self._answer_timer = self.loop.call_later(self.answer_timeout_s, self._look_at_answer)

    def _look_at_answer(self) -> None:
        self._answer_timer = None
        left = self.transport.get_write_buffer_size()
        if left == 0:
            self._note_idle()
            return
        if self._left_to_read - left < self.answer_timeout_s * _LEAST_READ_PER_S:
            self.transport.abort()
        else:
            self._watch_answer()

    @property
    def _crowded(self) -> bool:
        return len(self.connections) > self.max_connections

    @property
    def _refusing(self) -> ASGIApp:
        """The application where there are too many connections: health, and refusals."""
        application: ASGIApp = self.config.loaded_app
        error = TooManyConnections(
            f"more than {self.max_connections} connections are open (max_connections); "
            "try again soon"
        )

        async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"].startswith("/health"):
                await application(scope, receive, send)
                return
            await logged(scope, receive, send)

        async def tell(scope: Scope, receive: Receive, send: Send) -> None:
            response = error_response(scope, error)
            response.headers["connection"] = "close"
            await response(scope, receive, send)

        logged = RequestLog(tell, self.metrics.count_request)
        return refuse


def connection_class(
    settings: Settings, closed_when_full: Door, counted_by: Metrics
) -> type[Connection]:
    """The connection for these settings: uvicorn makes one from nothing but its class."""

    nobody: OrderedDict[Connection, None] = OrderedDict()

    class Limited(Connection):
        door = closed_when_full
        metrics = counted_by
        idle = nobody
        head_timeout_s = settings.head_timeout_s
        body_timeout_s = settings.body_timeout_s
        answer_timeout_s = settings.answer_timeout_s
        max_connections = settings.max_connections

    return Limited
