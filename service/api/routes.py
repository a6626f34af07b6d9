"""Route classes: one for requests in a single dialect, one for strictly parsed JSON bodies."""

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope

from service.errors import UnsupportedMediaType
from service.protocol.dialects import Dialect
from service.protocol.strict_json import check_charset, media_type, parse_json
from service.request_context import context_of


class DialectRoute(APIRoute):
    """A route for requests in one dialect; requests in another do not match it."""

    dialect: ClassVar[Dialect]

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child_scope = super().matches(scope)
        if match is Match.NONE or context_of(scope).dialect is not self.dialect:
            return Match.NONE, {}
        return match, child_scope


class StrictRoute(APIRoute):
    """A route whose JSON body is parsed by `parse_json` before FastAPI checks it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()
        if self.body_field is None:
            return handler

        async def strict_handler(request: Request) -> Response:
            check_charset(request)
            if media_type(request) != "application/json":
                raise UnsupportedMediaType(
                    "the body's type is not JSON; send it with Content-Type: application/json"
                )
            strict = _ParsedRequest(request.scope, request.receive)
            strict.parsed = parse_json(await strict.body(), context_of(request.scope).limits)
            return await handler(strict)

        return strict_handler


class _ParsedRequest(Request):
    parsed: object = None

    async def json(self) -> Any:
        return self.parsed
