"""An application over fake models, spoken to without a socket; keys for it; files to translate."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.access.keys import Key, KeysFile, Scope, digest_of, new_key, read_keys, write_keys
from service.http.app import create_app
from service.lifecycle import Lifecycle
from service.serving.registry import Registry
from service.serving.reload import Reloader
from service.settings import Settings
from tests.service.echo_translator import EchoModel
from tests.service.files.file_jobs import ODD_LINES, long_lines, write_lines

Serving = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]
AddKey = Callable[..., str]


@pytest.fixture
def serving() -> Serving:
    @asynccontextmanager
    async def serve(
        models: Registry | Reloader,
        settings: Settings | None = None,
        lifecycle: Lifecycle | None = None,
        *,
        wait: bool = True,
    ) -> AsyncIterator[httpx.AsyncClient]:
        reloader = models if isinstance(models, Reloader) else Reloader(models, None)
        registry = reloader.registry
        app = create_app(registry, settings or Settings(), lifecycle, reloader).asgi
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


@pytest.fixture
def odd_file(tmp_path: Path) -> Path:
    """Lines that are easily lost, cut or joined."""
    return write_lines(tmp_path / "odd.txt", ODD_LINES)


@pytest.fixture
def long_file(tmp_path: Path) -> Path:
    """More than a window of lines."""
    return write_lines(tmp_path / "long.txt", long_lines())


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> EchoModel:
    """Every checkpoint loads as this."""
    translator = EchoModel()
    for module in ("translate", "score"):
        monkeypatch.setattr(
            f"service.commands.{module}.load_translator",
            lambda loading, many_texts=False: translator,
        )
    monkeypatch.setattr(
        "service.commands.translate.search_settings", lambda translator, chosen: None
    )
    return translator
