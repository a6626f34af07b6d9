"""ASGI middleware: while no model has room for anything, translations are refused unread.

Reading a body, checking it and finding its model costs as much as a good part of its translation;
spent on thousands of requests that are refused in the end, it would be taken from the others. What
is remembered or under way for another request is refused here, too.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from service.dialects import error_response, is_translation
from service.dispatcher import ModelState
from service.errors import QueueFull
from service.registry import Registry


class Door:
    """Lets requests in while at least one model takes some."""

    def __init__(self, app: ASGIApp, registry: Registry) -> None:
        self.app = app
        self._registry = registry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and is_translation(scope["path"]):
            refusal = self._refusal()
            if refusal is not None:
                await error_response(scope, refusal)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _refusal(self) -> QueueFull | None:
        refusal = None
        for dispatcher in self._registry.dispatchers:
            if dispatcher.state is ModelState.READY:
                refusal = dispatcher.admission.refuses_all()
                if refusal is None:
                    return None
        return refusal
