"""ASGI middleware that counts requests in flight."""

from starlette.types import ASGIApp, Receive, Scope, Send

from service.serving.in_flight import InFlightRequests

# These change the models: one that waits for an old model's end would wait for itself.
_ADMIN = "/admin/"


class InFlightMiddleware:
    """Middleware around all others."""

    def __init__(self, app: ASGIApp, visits: InFlightRequests) -> None:
        self.app = app
        self._visits = visits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_ADMIN):
            await self.app(scope, receive, send)
            return
        with self._visits.visit():
            await self.app(scope, receive, send)
