"""ASGI middleware that checks the API key of a request before the application sees it."""

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access.control import AccessControl
from service.errors import RequestError
from service.http.body_limit import replay
from service.request_context import context_of

_CLIENT_GONE = 499  # see error_table.py


class AuthenticationMiddleware:
    """Refuses requests without a valid key; returns the charge of those that fail later.

    Inside of BodyLimit: the key may be in the body, which has to be complete.
    """

    def __init__(self, app: ASGIApp, access: AccessControl) -> None:
        self.app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        context = context_of(scope)
        caller = context.caller
        if self._access.needs_keys:
            request = Request(scope, receive)
            receive = replay(await request.body(), receive)
            try:
                caller.key = await self._access.authenticate(request, context.dialect.keys)
            except RequestError as error:
                await context.error_response(error)(scope, receive, send)
                return
            if caller.key is not None:
                context.record.key = caller.key.name
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
