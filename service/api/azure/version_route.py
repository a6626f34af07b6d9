"""Routes that speak one version of Azure's API."""

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from fastapi import Request, Response

from service.errors import InvalidRequest
from service.protocol.dialects import DialectRoute
from service.protocol.strict_json import StrictRoute

VERSION = "api-version"


class VersionRoute(StrictRoute, DialectRoute):
    """A route of one version; a client that wants another is told so before all else."""

    version: ClassVar[str]

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            if request.query_params.get(VERSION, self.version) != self.version:
                raise InvalidRequest(
                    "this api-version is not supported; there are 3.0 and 2026-06-06",
                    field=VERSION,
                )
            return await handler(request)

        return handle
