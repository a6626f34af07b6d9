"""A running server of fake models, for clients that bring their own sockets."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
import uvicorn

from service.app import create_app
from service.registry import Registry
from service.settings import Settings
from tests.service.fakes import fake_registry

Start = Callable[[Registry, Settings], str]


@contextmanager
def running(registry: Registry, settings: Settings) -> Iterator[str]:
    """Serves a registry; gives the address. Does not wait for the models."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            create_app(registry, settings), log_config=None, timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.005)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def start() -> Iterator[Start]:
    """Serves a registry until the test ends; gives the address. Does not wait for the models."""
    with ExitStack() as servers:
        yield lambda registry, settings: servers.enter_context(running(registry, settings))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server that all tests of a module share, with four models that are ready."""
    settings = Settings(max_texts=60, max_characters=2000)
    registry = fake_registry(settings, "en-de", "de-en", "fr-de", "en-pt")
    with running(registry, settings) as address:
        while registry.loading:
            time.sleep(0.005)
        yield address


def held_back(until: threading.Event) -> Callable[[], None]:
    """For a model that does not load before an event."""

    def wait() -> None:
        until.wait()

    return wait
