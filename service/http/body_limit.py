"""ASGI middleware that reads request bodies; refuses bodies that are too large, slow or compressed.

FastAPI answers in plain text to a large body and waits for a slow one without end. The application
gets only complete bodies, so it never waits for a client.
"""

import asyncio
import contextlib

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import RequestTooLarge, ShuttingDown, UnsupportedMediaType
from service.lifecycle import Lifecycle, Phase
from service.limits import Limits
from service.request_context import context_of

# If the connection closed while the client still sends, the operating system would discard the
# answer. So the rest of the body is read and dropped for a moment.
LINGER_S = 1.0
LINGER_BYTES = 64 * 1024 * 1024


class BodyLimit:
    """Passes requests on with their complete body; answers 413, 415, 408 or 503 itself."""

    def __init__(self, app: ASGIApp, *, limits: Limits, lifecycle: Lifecycle) -> None:
        self.app = app
        self._limits = limits
        self._lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        incoming = _Incoming(receive)
        context = context_of(scope)
        try:
            self._check_declared(scope)
            async with asyncio.timeout(self._limits.settings.body_timeout_s):
                body = await self._read(incoming, awaited=_has_body(scope))
        except (RequestTooLarge, ShuttingDown, UnsupportedMediaType) as error:
            await _refuse(context.error_response(error), scope, incoming, send)
        except TimeoutError:
            late = context.error_response(self._limits.body_too_slow())
            await _refuse(late, scope, incoming, send)
        else:
            if body is not None:
                await self.app(scope, replay(body, receive), send)

    def _check_declared(self, scope: Scope) -> None:
        for name, value in scope["headers"]:
            # Never unpacked: a small compressed body may hold a thousand times its size.
            if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
                raise UnsupportedMediaType(
                    "the body is compressed; send it without Content-Encoding"
                )
            if name == b"content-length" and value.isdigit():
                # A number of twenty digits is too large in any case, and slow to convert.
                if len(value) >= 20:
                    raise self._limits.body_too_large()
                self._limits.check_body(int(value))

    async def _read(self, incoming: "_Incoming", *, awaited: bool) -> bytes | None:
        """The complete body; None when the client disconnected before its end."""
        body = bytearray()
        while not incoming.ended:
            body += await incoming.next_part()
            self._limits.check_body(len(body))
            if awaited and not incoming.ended and self._lifecycle.phase is Phase.CLOSING:
                raise ShuttingDown("the service is shutting down; ask another instance")
        return None if incoming.disconnected else bytes(body)


class _Incoming:
    """A body that arrives part by part."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.ended = False
        self.disconnected = False  # before the end of the body

    async def next_part(self) -> bytes:
        message = await self._receive()
        self.disconnected = message["type"] == "http.disconnect"
        self.ended = self.disconnected or not message.get("more_body", False)
        part: bytes = message.get("body", b"")
        return part


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns a body which was read before, and then what comes after it."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def _has_body(scope: Scope) -> bool:
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])


async def _refuse(response: Response, scope: Scope, incoming: _Incoming, send: Send) -> None:
    """Sends the whole answer, reads and drops the body for a moment, closes the connection."""
    response.headers["connection"] = "close"

    async def hold(message: Message) -> None:
        await send({**message, "more_body": True} if "body" in message else message)

    async def unused() -> Message:
        raise AssertionError("a plain response reads nothing")

    await response(scope, unused, hold)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            left = LINGER_BYTES
            while left > 0 and not incoming.ended:
                left -= len(await incoming.next_part())
    await send({"type": "http.response.body", "body": b"", "more_body": False})
