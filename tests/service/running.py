"""A service of fakes on a socket of its own, with the connections that users meet."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from service.http.app import create_app
from service.http.server import configure, listen
from service.lifecycle import Lifecycle
from service.serving.registry import Registry
from service.settings import Settings


@contextmanager
def running(
    registry: Registry, settings: Settings, lifecycle: Lifecycle | None = None
) -> Iterator[int]:
    """Serves a registry; gives the port. Does not wait for the models."""
    config = configure(create_app(registry, settings, lifecycle), settings)
    config.timeout_graceful_shutdown = 1  # what a test holds back need not end
    server = uvicorn.Server(config)
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.002)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def wait_until_ready(registry: Registry) -> None:
    """Returns when all models are loaded, or have failed."""
    while registry.loading:
        time.sleep(0.002)
