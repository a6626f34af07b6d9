"""An application over fake models, spoken to without a socket."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.access.keys import Key, KeysFile, Scope, digest_of, new_key, read_keys, write_keys
from service.app import create_app
from service.lifecycle import Lifecycle
from service.registry import Registry
from service.settings import Settings

Serving = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]
AddKey = Callable[..., str]


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


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    write_keys(path, KeysFile())
    return path


@pytest.fixture
def add_key(keys_file: Path) -> AddKey:
    """Adds a key to the file and gives it."""

    def add(name: str, *scopes: Scope, **limits: Any) -> str:
        key = new_key()
        entry = Key(
            name=name,
            sha256=digest_of(key).hex(),
            scopes=scopes or (Scope.TRANSLATE,),
            **limits,
        )
        write_keys(keys_file, KeysFile(keys=(*read_keys(keys_file).keys, entry)))
        return key

    return add
