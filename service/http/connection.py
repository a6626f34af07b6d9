"""HTTP/1.1 connection with the timeouts and limits that uvicorn lacks.

uvicorn waits without end for the head of a request and for a client to read its answer, accepts
heads of any size, keeps any number of connections open, and answers malformed HTTP in plain text.
This subclass reads fields of uvicorn's class that are not part of its interface, so pyproject.toml
bounds uvicorn's version. The parser is httptools: with h11 a refusal costs twice as much.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from service.errors import RequestError
from service.lifecycle import Lifecycle
from service.limits import MAX_HEAD_BYTES, Limits
from service.protocol.dialects import Dialect, error_response
from service.protocol.error_table import refusal_of

logger = logging.getLogger("dragoman.connections")

# Connections above the limit, which get health checks and refusals answered.
_SPARE = 64
_MIN_READ_PER_S = 1024  # bytes; slower than any modem


@dataclass(frozen=True)
class ConnectionLimits:
    """What the connections of one server share."""

    limits: Limits
    lifecycle: Lifecycle  # counts the open connections
    dialect: Dialect  # words errors where the request's own dialect is unknown
    count_refusal: Callable[[str], None]  # gets the code of an error that has no request


class Connection(HttpToolsProtocol):
    """The connection of one client."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        connection_limits: ConnectionLimits,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._shared = connection_limits
        self._limits = connection_limits.limits
        self._settings = connection_limits.limits.settings
        self._in_head = False  # a head has begun and is not complete
        self._num_head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._answer_timer: asyncio.TimerHandle | None = None
        self._num_unread = 0  # bytes, when the answer timer was started

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        lifecycle = self._shared.lifecycle
        lifecycle.num_connections += 1
        if lifecycle.num_connections > self._settings.max_connections + _SPARE:
            self._note_refusal("too_many_connections", None)
            transport.abort()
            return
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head_timer, self._answer_timer):
            if timer is not None:
                timer.cancel()
        self._shared.lifecycle.num_connections -= 1
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:
            self._num_head_bytes += len(data)
            if self._num_head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self._refuse(self._limits.malformed_head())
        self._watch_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._num_head_bytes = 0

    def on_headers_complete(self) -> None:
        """Checks what the parser leaves to its user; an error becomes a 400."""
        self._in_head = False
        names = [name for name, _ in self.headers]
        num_bytes = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        num_hosts = names.count(b"host")
        if num_bytes > MAX_HEAD_BYTES:
            raise ValueError("the head is too large")
        if num_hosts > 1 or (num_hosts == 0 and self.parser.get_http_version() == "1.1"):
            raise ValueError("there is not one Host")
        if any(name == b"transfer-encoding" and value.lower() != b"chunked"
               for name, value in self.headers):  # fmt: skip
            raise ValueError("the transfer encoding is unknown")
        super().on_headers_complete()

    def shutdown(self) -> None:
        if self._busy and self.cycle.more_body:  # BodyLimit refuses the rest of the body
            self.cycle.message_event.set()
        super().shutdown()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_answer()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch_answer()

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._limits.malformed_head())

    @property
    def _busy(self) -> bool:
        """True from the end of a request's head to the end of its answer."""
        return self.cycle is not None and not self.cycle.response_complete

    def _watch_head(self) -> None:
        """Starts the timer of a head on its first bytes or a new connection, stops it at its end.

        While a connection is idle after an answer, uvicorn's keep-alive timeout runs instead.
        """
        waiting = not self._busy and not self.transport.is_closing()
        if waiting and self._head_timer is None:
            timeout_s = self._settings.head_timeout_s
            self._head_timer = self.loop.call_later(timeout_s, self._handle_head_timeout)
        elif not waiting and self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _handle_head_timeout(self) -> None:
        self._head_timer = None
        if self._busy or self.transport.is_closing():
            return
        if self._in_head:
            self._refuse(self._limits.head_too_slow())
        else:  # opened and never used, as browsers do: there is nothing to answer
            self.transport.close()

    def _refuse(self, error: RequestError) -> None:
        """Answers what is not a request, and closes the connection."""
        code = refusal_of(error).code
        if self._busy and self.cycle.response_started:  # the client sees that it is incomplete
            self._note_refusal(code, None)
        else:
            response = error_response(self._shared.dialect, error)
            status = HTTPStatus(response.status_code)
            fields = [*response.raw_headers, (b"connection", b"close")]
            head = b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode("ascii"))
            head += b"".join(b"%b: %b\r\n" % field for field in fields)
            self.transport.write(head + b"\r\n" + bytes(response.body))
            self._note_refusal(code, response.status_code)
        self.transport.close()
        self._watch_answer()

    def _note_refusal(self, code: str, status: int | None) -> None:
        """Counts and logs a refusal of what is not a request; no status: it was not answered."""
        self._shared.count_refusal(code)
        fields = {"refusal": code, "status": status}
        logger.info("connection rejected: %s (%s)", code, status or "no answer", extra=fields)

    def _watch_answer(self) -> None:
        """Starts the timer in which the client must read some of what is still to be sent."""
        if self._answer_timer is None and self.transport.get_write_buffer_size() > 0:
            self._num_unread = self.transport.get_write_buffer_size()
            timeout_s = self._settings.answer_timeout_s
            self._answer_timer = self.loop.call_later(timeout_s, self._handle_answer_timeout)

    def _handle_answer_timeout(self) -> None:
        self._answer_timer = None
        num_unread = self.transport.get_write_buffer_size()
        num_read = self._num_unread - num_unread
        if num_unread and num_read < self._settings.answer_timeout_s * _MIN_READ_PER_S:
            self.transport.abort()
        else:
            self._watch_answer()
