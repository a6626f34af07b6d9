"""Outermost ASGI middleware: gives each request its context, and its answer the headers in it."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access.callers import Caller, client_of
from service.limits import Limits
from service.protocol.dialects import Dialects
from service.request_context import (
    ID_HEADER,
    RequestContext,
    RequestRecord,
    attach_context,
    request_id_of,
)
from service.serving.pending import PendingRequests

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class ContextMiddleware:
    """Makes one RequestContext a request."""

    def __init__(
        self, app: ASGIApp, *, dialects: Dialects, limits: Limits, pending: PendingRequests
    ) -> None:
        self.app = app
        self._dialects = dialects
        self._limits = limits
        self._pending = pending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = request_id_of(Headers(scope=scope).get(ID_HEADER, ""))
        client = scope.get("client")
        context = RequestContext(
            RequestRecord(request_id, scope["method"] if scope["method"] in _METHODS else "-"),
            self._dialects.dialect_of(scope),
            self._limits,
            Caller(client_of(client[0] if client else None)),
            self._pending.new(),
            response_headers={ID_HEADER: request_id},
        )
        attach_context(scope, context)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(context.response_headers)
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        finally:
            context.pending.end()
