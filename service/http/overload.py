"""ASGI middleware for load shedding: refuses requests before their bodies are read.

Parsing, checking and routing a request costs a good part of a translation. Under overload most
requests are refused in the end, so they are refused here, where it costs least: translations while
the queue of every model is full, and everything but health while too many connections are open.
Translations that are remembered or in flight for another request are refused here as well.
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import RequestError, TooManyConnections
from service.lifecycle import Lifecycle, Phase
from service.limits import Limits
from service.request_context import RequestContext, context_of
from service.serving.pending import PendingRequests
from service.serving.registry import Registry
from service.serving.served_model import ModelState

# A client that is still sending cannot read an answer behind which the connection closes. So the
# rest of its body is read and dropped first, within these bounds.
_DISCARD_S = 1.0
_DISCARD_BYTES = 8 * 1024 * 1024


class OverloadMiddleware:
    """Answers 429 or 503 under overload; counts the requests that it lets through as pending."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        registry: Registry,
        limits: Limits,
        lifecycle: Lifecycle,
        pending: PendingRequests,
    ) -> None:
        self.app = app
        self._registry = registry
        self._limits = limits
        self._lifecycle = lifecycle
        self._pending = pending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        context = context_of(scope)
        error = self._refusal(scope["path"], context)
        if error is None:
            await self.app(scope, _counting(receive, context), send)
            return
        response = context.error_response(error)
        if not await _discarded(receive) or isinstance(error, TooManyConnections):
            response.headers["connection"] = "close"
        await response(scope, receive, send)

    def _refusal(self, path: str, context: RequestContext) -> RequestError | None:
        too_many = self._lifecycle.num_connections > self._limits.settings.max_connections
        if too_many and not path.startswith("/health"):
            return self._limits.too_many_connections()
        closing = self._lifecycle.phase is Phase.CLOSING  # then "retry after 1 s" would be wrong
        if closing or path not in context.dialect.translation_paths:
            return None
        refusal = None
        for served_model in self._registry.served_models:
            if served_model.state is ModelState.READY:
                refusal = served_model.queue_limits.overloaded(self._pending)
                if refusal is None:
                    return None
        if refusal is not None:
            context.record.route = path  # found without a search: it has no parameters
        return refusal


def _counting(receive: Receive, context: RequestContext) -> Receive:
    """A `receive` that counts the request as pending as soon as its body has arrived.

    Not earlier: a client could keep all others out by sending its body slowly.
    """
    num_bytes = 0

    async def receive_counted() -> Message:
        nonlocal num_bytes
        message = await receive()
        if message["type"] == "http.request":
            num_bytes += len(message.get("body", b""))
            if not message.get("more_body", False):
                context.pending.start(num_bytes)
        return message

    return receive_counted


async def _discarded(receive: Receive) -> bool:
    """Reads a body and drops it; False for one that is too slow or too large for that."""
    num_bytes = 0
    try:
        async with asyncio.timeout(_DISCARD_S):
            while num_bytes < _DISCARD_BYTES:
                message = await receive()
                if not message.get("more_body", False):
                    return True
                num_bytes += len(message["body"])
    except TimeoutError:
        pass
    return False
