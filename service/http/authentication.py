"""ASGI middleware that asks for an API key before anything else looks at a request."""

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access.callers import Caller, client_of, note_caller
from service.access.control import AccessControl
from service.errors import RequestError
from service.protocol.dialects import error_response
from service.protocol.fields import replay

_CLIENT_GONE = 499  # see error_table.py


class AuthenticationMiddleware:
    """Lets requests in that may come in; wants their bodies complete."""

    def __init__(self, app: ASGIApp, access: AccessControl) -> None:
        self.app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        if self._access.needs_keys:  # it may be in the body, which is here already
            receive = replay(await request.body(), receive)
        caller = Caller(client_of(request.client.host if request.client else None))
        note_caller(request, caller)
        try:
            caller.key = await self._access.enter(request)
        except RequestError as error:
            await error_response(scope, error)(scope, receive, send)
            return
        status: int | None = None

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_noted)
        finally:
            if status is None or status >= 400:
                self._access.refund(caller, refused=status not in (None, _CLIENT_GONE))
