"""A running server of fake models, for clients that bring their own sockets."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from service.serving.registry import Registry
from service.settings import Settings
from tests.service.conftest import AddKey
from tests.service.fakes import FakeTranslator, fake_model, fake_registry
from tests.service.running import running as running_on_port
from tests.service.running import wait_until_ready

Start = Callable[[Registry, Settings], str]


@contextmanager
def running(registry: Registry, settings: Settings) -> Iterator[str]:
    """Serves a registry; gives the address. Does not wait for the models."""
    with running_on_port(registry, settings) as port:
        yield f"http://127.0.0.1:{port}"


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
        wait_until_ready(registry)
        yield address


@pytest.fixture
def full(start: Start) -> Iterator[str]:
    """A server from en to de that has all the work it may have."""
    settings = Settings(max_texts=1, max_queue_texts=1)
    translator = FakeTranslator()
    registry = Registry([fake_model("en-de", settings, translator=translator)])
    address = start(registry, settings)
    wait_until_ready(registry)
    translator.running.clear()
    body = {"q": "a", "source": "en", "target": "de"}
    first = threading.Thread(
        target=httpx.post, args=(f"{address}/translate",), kwargs={"json": body}
    )
    first.start()
    while not translator.num_tickets > 1:  # the first was the model's own
        time.sleep(0.005)
    yield address
    translator.running.set()
    first.join()


@pytest.fixture
def loading(start: Start) -> Iterator[str]:
    """A server from en to de whose model is not there yet."""
    loaded = threading.Event()
    registry = Registry([fake_model("en-de", Settings(), before=held_back(loaded))])
    yield start(registry, Settings())
    loaded.set()
    wait_until_ready(registry)


@pytest.fixture
def slow(start: Start) -> str:
    """A server from en to de that finishes three words at most before its deadline."""
    settings = Settings(deadline_s=0.05)
    translator = FakeTranslator(delay_s=0.02)
    registry = Registry([fake_model("en-de", settings, translator=translator)])
    address = start(registry, settings)
    wait_until_ready(registry)
    return address


@pytest.fixture
def limited(start: Start, add_key: AddKey, keys_file: Path) -> tuple[str, str]:
    """A server from en to de that wants keys, and one: 30 characters a month, 3 texts an hour."""
    key = add_key("website", characters_per_month=30, rate="3/hour")
    settings = Settings(keys_file=keys_file)
    registry = fake_registry(settings, "en-de")
    address = start(registry, settings)
    wait_until_ready(registry)
    return address, key


def held_back(until: threading.Event) -> Callable[[], None]:
    """For a model that does not load before an event."""

    def wait() -> None:
        until.wait()

    return wait
