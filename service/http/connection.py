"""HTTP/1.1 connection with the timeouts and limits that uvicorn lacks.

uvicorn waits without end for the head of a request and for a client to read its answer, keeps any
number of connections open, and answers malformed HTTP in plain text. This subclass reads fields of
uvicorn's class that are not part of its interface, so pyproject.toml bounds uvicorn's version.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from service.errors import RequestError
from service.lifecycle import Lifecycle
from service.limits import Limits
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


class Connection(H11Protocol):
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
        self._watch_head()

    def shutdown(self) -> None:
        if self.conn.their_state is h11.SEND_BODY:  # BodyLimit refuses the rest of the body
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

    def _watch_head(self) -> None:
        """Starts the timer of a head on its first bytes or a new connection, stops it at its end.

        While a connection is idle after an answer, uvicorn's keep-alive timeout runs instead.
        """
        incomplete = self.conn.their_state is h11.IDLE and not self.transport.is_closing()
        if incomplete and self._head_timer is None:
            timeout_s = self._settings.head_timeout_s
            self._head_timer = self.loop.call_later(timeout_s, self._handle_head_timeout)
        elif not incomplete and self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _handle_head_timeout(self) -> None:
        self._head_timer = None
        if self.transport.is_closing() or self.conn.their_state is not h11.IDLE:
            return
        if self.conn.trailing_data[0]:
            self._refuse(self._limits.head_too_slow())
        else:  # opened and never used, as browsers do: there is nothing to answer
            self.transport.close()

    def _refuse(self, error: RequestError) -> None:
        """Answers what is not a request, and closes the connection."""
        code = refusal_of(error).code
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            response = error_response(self._shared.dialect, error)
            head = h11.Response(
                status_code=response.status_code,
                headers=[*response.raw_headers, (b"connection", b"close")],
                reason=HTTPStatus(response.status_code).phrase.encode("ascii"),
            )
            for event in (head, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
            self._note_refusal(code, response.status_code)
        else:  # in the middle of an answer, which the client sees is incomplete
            self._note_refusal(code, None)
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
