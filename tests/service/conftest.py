"""An application over fake models, spoken to without a socket."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx
import pytest

from service.app import create_app
from service.lifecycle import Lifecycle
from service.registry import Registry
from service.settings import Settings

Serving = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def serving() -> Serving:
    @asynccontextmanager
    async def serve(
        registry: Registry,
        settings: Settings | None = None,
        lifecycle: Lifecycle | None = None,
        *,
        wait: bool = True,
    ) -> AsyncIterator[httpx.AsyncClient]:
        app = create_app(registry, settings or Settings(), lifecycle)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            while wait and registry.loading:
                await asyncio.sleep(0.001)
            yield client

    return serve
