"""ASGI middleware that reads request bodies; stops at the too large, the too slow, the packed, and
at the end of the service.

FastAPI's own limit answers in plain text and waits for ever for a slow body. Reading the whole
body before the application sees the request also means that a refusal costs no work, and that
an application only ever waits for its engine, never for a client.
"""

import asyncio
import contextlib

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import BodyTooSlow, RequestTooLarge, ShuttingDown, UnsupportedMediaType
from service.lifecycle import Lifecycle, Phase
from service.protocol.dialects import error_response
from service.protocol.fields import replay

# A client that is still sending cannot read our refusal if we close on it: the system would
# discard the answer with the connection. So what it sends is thrown away for a moment first.
LINGER_S = 1.0
LINGER_BYTES = 64 * 1024 * 1024


class BodyLimit:
    """Passes requests on with their body complete; answers 413, 415, 408 or 503 by itself."""

    def __init__(
        self, app: ASGIApp, *, max_bytes: int, timeout_s: float, lifecycle: Lifecycle
    ) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.timeout_s = timeout_s
        self.lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        incoming = _Incoming(receive)
        try:
            self._check_declared(scope)
            async with asyncio.timeout(self.timeout_s):
                body = await self._read(incoming, awaited=_has_body(scope))
        except (RequestTooLarge, ShuttingDown, UnsupportedMediaType) as error:
            await _refuse(error_response(scope, error), scope, incoming, send)
        except TimeoutError:
            late = BodyTooSlow(
                f"the body did not arrive within {self.timeout_s:g} s (body_timeout_s)"
            )
            await _refuse(error_response(scope, late), scope, incoming, send)
        else:
            if body is not None:
                await self.app(scope, replay(body, receive), send)

    def _check_declared(self, scope: Scope) -> None:
        for name, value in scope["headers"]:
            # Never unpacked: a thousandth of a body's limit may hold a bomb.
            if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
                raise UnsupportedMediaType(
                    "the body is compressed; send it without Content-Encoding"
                )
            if name == b"content-length" and value.isdigit() and _exceeds(value, self.max_bytes):
                raise self._too_large()

    async def _read(self, incoming: "_Incoming", *, awaited: bool) -> bytes | None:
        """The whole body, or None when the client left before its end."""
        body = bytearray()
        while not incoming.ended:
            body += await incoming.next_part()
            if len(body) > self.max_bytes:
                raise self._too_large()
            if awaited and not incoming.ended and self.lifecycle.phase is Phase.CLOSING:
                raise ShuttingDown("the service is shutting down; ask another instance")
        return None if incoming.left else bytes(body)

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(
            f"the body is larger than {self.max_bytes} bytes (max_body_bytes); "
            "send fewer or shorter texts"
        )


class _Incoming:
    """A body on its way in, part by part."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.ended = False
        self.left = False  # the client hung up before the end

    async def next_part(self) -> bytes:
        message = await self._receive()
        self.left = message["type"] == "http.disconnect"
        self.ended = self.left or not message.get("more_body", False)
        part: bytes = message.get("body", b"")
        return part


def _has_body(scope: Scope) -> bool:
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])


def _exceeds(digits: bytes, limit: int) -> bool:
    # A number of twenty digits and more is too large whatever it is, and slow to convert.
    return len(digits) >= 20 or int(digits) > limit


async def _refuse(response: Response, scope: Scope, incoming: _Incoming, send: Send) -> None:
    """Sends the whole answer, listens on for a moment, and only then closes the connection."""
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
