"""Routes of one version of Azure's API."""

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from fastapi import Request, Response

from service.api.azure.dialect import VERSION, VERSION_3, VERSION_2026
from service.api.routes import DialectRoute, StrictRoute
from service.errors import InvalidRequest


class VersionRoute(StrictRoute, DialectRoute):
    """A route of one version; refuses a request for another version before its body is parsed."""

    version: ClassVar[str]

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            if request.query_params.get(VERSION, self.version) != self.version:
                raise InvalidRequest(
                    "this api-version is not supported; the service supports "
                    f"{VERSION_3} and {VERSION_2026}",
                    field=VERSION,
                )
            return await handler(request)

        return handle
