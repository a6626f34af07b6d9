"""Load shedding: which requests are refused before their bodies are read, and with which answer."""

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from service.lifecycle import Lifecycle, Phase
from service.serving.queue_limits import Load
from service.serving.registry import Registry
from service.serving.served_model import ServedModel
from service.settings import Settings
from tests.service.conftest import Serving
from tests.service.fakes import FakeTranslator, fake_model
from tests.service.running import running as running_registry
from tests.service.running import wait_until_ready

SETTINGS = Settings(max_texts=2, max_queue_texts=2, queue_wait_s=0.0, body_timeout_s=1.0)
BODY = b'{"text": "SECRET", "source": "en", "target": "de"}'
REQUEST = (
    b"POST /v1/translate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)
PATHS = (
    *("/v1/translate", "/v1/score", "/translate", "/v2/translate", "/language/translate/v2"),
    *("/translate?api-version=3.0&to=de", "/translator/text/v3.0/translate?to=de"),
    "/translate?langpair=en|de&q=SECRET",
)


@contextmanager
def running(
    model: ServedModel, lifecycle: Lifecycle | None = None, **limits: float
) -> Iterator[int]:
    """The port of a service with this model."""
    registry = Registry([model])
    settings = SETTINGS.model_copy(update=limits)
    with running_registry(registry, settings, lifecycle) as port:
        wait_until_ready(registry)
        yield port


def fill(model: ServedModel) -> None:
    """Takes all space of a model's queue."""
    model.queue_limits.num_texts += 2


def empty(model: ServedModel) -> None:
    """Returns the space."""
    model.queue_limits.num_texts -= 2


@pytest.mark.anyio
async def test_translations_are_refused_while_the_queue_of_every_model_is_full(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="httpx")  # it logs the query
    caplog.set_level(logging.INFO, logger="dragoman")
    models = [fake_model(name, SETTINGS) for name in ("en-de", "en-fr")]
    async with serving(Registry(models), SETTINGS) as client:

        async def send(path: str) -> httpx.Response:
            method = "GET" if "langpair" in path else "POST"
            return await client.request(
                method,
                path,
                content=b"" if method == "GET" else b"not even JSON",
                headers={"X-Request-ID": "Order.66", "Authorization": "SECRET"},
            )

        fill(models[0])
        others = [await send(path) for path in PATHS if "langpair" not in path]
        assert 429 not in {answer.status_code for answer in others}
        fill(models[1])
        answers = [await send(path) for path in PATHS]
        assert {answer.status_code for answer in answers} == {429}
        for answer in answers:
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.headers["x-request-id"] == "Order.66"
            assert "SECRET" not in answer.text
            assert "max_queue_texts" in answer.text
        assert answers[0].json()["error"]["code"] == "queue_full"
        assert isinstance(answers[2].json()["error"], str)
        assert "message" in answers[3].json()
        assert answers[4].json()["error"]["code"] == 429
        assert answers[5].json()["error"]["code"] == 429000
        assert answers[7].json()["code"] == 429
        for path in ("/health/live", "/health/ready", "/metrics", "/v1/models", "/languages", "/"):
            assert (await client.get(path)).status_code == 200
        metrics = (await client.get("/metrics")).text
        assert 'dragoman_refused_total{reason="queue_full"} 8.0' in metrics
        empty(models[1])
        good = {"text": "a b", "source": "en", "target": "fr"}
        answer = await client.post("/v1/translate", json=good)
        assert answer.json()["translations"][0]["text"] == "A B"
    lines = [record.getMessage() for record in caplog.records if "Order.66" in record.getMessage()]
    refused = [line for line in lines if " 429 " in line]
    assert len(refused) == len(PATHS)
    assert "POST /v1/translate 429" in refused[0]
    assert "SECRET" not in caplog.text


@pytest.mark.anyio
async def test_a_service_that_shuts_down_answers_503_even_when_its_queues_are_full(
    serving: Serving,
) -> None:
    model = fake_model("en-de", SETTINGS)
    lifecycle = Lifecycle()
    async with serving(Registry([model]), SETTINGS, lifecycle) as client:
        fill(model)
        lifecycle.phase = Phase.CLOSING
        body = {"text": "a", "source": "en", "target": "de"}
        answer = await client.post("/v1/translate", json=body)
        empty(model)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "shutting_down")


@pytest.mark.anyio
async def test_a_full_queue_lets_requests_wait_for_a_moment(serving: Serving) -> None:
    settings = SETTINGS.model_copy(update={"queue_wait_s": 5.0})
    model = fake_model("en-de", settings)
    async with serving(Registry([model]), settings) as client:
        load = Load(2, 2)
        await model.queue_limits.acquire(load, 1.0)
        asyncio.get_running_loop().call_later(0.05, model.queue_limits.release, load)
        body = {"text": "a", "source": "en", "target": "de"}
        answer = await client.post("/v1/translate", json=body)
    assert answer.status_code == 200


def test_simultaneous_requests_do_not_exceed_the_queue() -> None:
    translator = FakeTranslator()
    model = fake_model("en-de", SETTINGS, translator=translator)
    with running(model) as port, ExitStack() as stack:
        translator.running.clear()
        connections = []
        for number in range(20):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), 5))
            connection.sendall(REQUEST.replace(b"SECRET", b"TEXT%02d" % number))
            connections.append(connection)
        time.sleep(0.1)
        translator.running.set()
        statuses = [read_answer(connection)[9:12] for connection in connections]
        read = {read_answer_again(connection, REQUEST) for connection in connections[-2:]}
    assert sorted(statuses) == [b"200"] * 2 + [b"429"] * 18
    assert read == {b"200"}  # a refused connection goes on


def read_answer_again(connection: socket.socket, request: bytes) -> bytes:
    """The status of one more request on a connection."""
    connection.sendall(request)
    return read_answer(connection)[9:12]


def test_a_refused_body_is_read_and_dropped_or_the_connection_closed() -> None:
    model = fake_model("en-de", SETTINGS)
    with running(model) as port, socket.create_connection(("127.0.0.1", port), 5) as connection:
        fill(model)
        for pieces in ([REQUEST], [REQUEST[:9], REQUEST[9:60], REQUEST[60:]], [REQUEST[:-1], b"}"]):
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(0.02)
            assert read_answer(connection).startswith(b"HTTP/1.1 429 ")
        connection.sendall(REQUEST[:-1])  # the rest never comes
        answer = read_answer(connection)
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"connection: close" in answer.lower()
        assert connection.recv(1) == b""
        empty(model)


def test_a_slow_body_takes_no_place_in_the_queue() -> None:
    model = fake_model("en-de", SETTINGS)
    with running(model, body_timeout_s=5.0) as port, ExitStack() as stack:
        for _ in range(5):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", port), 5))
            slow.sendall(REQUEST[:-1])
        time.sleep(0.05)
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), 5))
        connection.sendall(REQUEST)
        assert read_answer(connection).startswith(b"HTTP/1.1 200 ")


def test_a_slow_body_does_not_delay_the_shutdown() -> None:
    lifecycle = Lifecycle()
    with ExitStack() as service:
        model = fake_model("en-de", SETTINGS)
        port = service.enter_context(running(model, lifecycle, body_timeout_s=20.0))
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(REQUEST[:-1])
            time.sleep(0.05)
            lifecycle.phase = Phase.CLOSING
            ending = threading.Thread(target=service.close)
            ending.start()
            answer = read_answer(connection)
        ending.join()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"shutting_down" in answer
    assert b"x-request-id" in answer


def read_answer(connection: socket.socket) -> bytes:
    """One whole answer."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(4096)
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    while len(body) < int(fields[b"content-length"]):
        body += connection.recv(4096)
    return head + b"\r\n\r\n" + body
