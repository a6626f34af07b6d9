"""Overload is told at the door, in every API's words, and only while nobody has room."""

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from service.http.overload import Door, Knock, Verdict
from service.lifecycle import Lifecycle, Phase
from service.request_record import RequestRecord
from service.serving.queue_limits import LONGEST_LINE
from service.serving.registry import Registry
from service.serving.served_model import ServedModel
from service.settings import Settings
from tests.service.fakes import fake_model
from tests.service.running import running as running_registry
from tests.service.running import wait_until_ready

SETTINGS = Settings(max_texts=2, max_queue_texts=2, queue_wait_s=0.0, body_timeout_s=1.0)
BODY = b'{"text": "SECRET", "source": "en", "target": "de"}'
PATHS = (
    *("/v1/translate", "/v1/score", "/translate", "/v2/translate", "/language/translate/v2"),
    *("/translate?api-version=3.0&to=de", "/translator/text/v3.0/translate?to=de"),
    "/translate?langpair=en|de&q=SECRET",
)


@contextmanager
def running(
    *models: ServedModel, lifecycle: Lifecycle | None = None, **limits: float
) -> Iterator[int]:
    """The port of a service with these models."""
    registry = Registry(models)
    settings = SETTINGS.model_copy(update=limits)
    with running_registry(registry, settings, lifecycle) as port:
        wait_until_ready(registry)
        yield port


def fill(model: ServedModel) -> None:
    """All the work it may have, though nobody does it."""
    model.queue_limits.num_texts += 2


def empty(model: ServedModel) -> None:
    model.queue_limits.num_texts -= 2


def test_translations_are_refused_while_no_model_has_room(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, logger="httpx")  # it tells the query
    caplog.set_level(logging.INFO, logger="dragoman")
    models = [fake_model(name, SETTINGS) for name in ("en-de", "en-fr")]
    with running(*models) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:

        def send(path: str) -> httpx.Response:
            method = "GET" if "langpair" in path else "POST"
            return client.request(
                method,
                path,
                content=b"" if method == "GET" else b"not even JSON",
                headers={"X-Request-ID": "Order.66", "Authorization": "SECRET"},
            )

        fill(models[0])
        assert 429 not in {send(path).status_code for path in PATHS if "langpair" not in path}
        fill(models[1])
        answers = [send(path) for path in PATHS]
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
            assert client.get(path).status_code == 200
        found = client.get("/metrics").text
        assert 'dragoman_refused_total{reason="queue_full"} 8.0' in found
        empty(models[1])
        good = {"text": "a b", "source": "en", "target": "fr"}
        assert client.post("/v1/translate", json=good).json()["translations"][0]["text"] == "A B"
    lines = [record.getMessage() for record in caplog.records if "Order.66" in record.getMessage()]
    assert len([line for line in lines if " 429 " in line]) == len(PATHS)
    assert "SECRET" not in caplog.text


def test_requests_that_come_in_pieces_and_one_behind_the_other() -> None:
    model = fake_model("en-de", SETTINGS)
    request = (
        b"POST /v1/translate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
    )
    with running(model) as port, socket.create_connection(("127.0.0.1", port), 5) as connection:
        fill(model)
        for pieces in ([request], [request[:9], request[9:60], request[60:]], [request[:-1], b"}"]):
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(0.02)
            assert read_answer(connection).startswith(b"HTTP/1.1 429 ")
        # Room is found while the request is still coming in.
        connection.sendall(request[:-5])
        time.sleep(0.05)
        empty(model)
        connection.sendall(request[-5:])
        assert b'"SECRET"' in read_answer(connection)
        connection.sendall(request)
        assert read_answer(connection).startswith(b"HTTP/1.1 200 ")
        fill(model)
        connection.sendall(request.replace(b"Host: x", b"Host: x\r\nConnection: close"))
        assert b"connection: close" in read_answer(connection).lower()
        assert connection.recv(1) == b""
        empty(model)


def test_a_body_that_is_waited_for_has_its_own_time() -> None:
    model = fake_model("en-de", SETTINGS)
    head = b"POST /v2/translate HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n"
    with running(model, head_timeout_s=0.2, body_timeout_s=0.5) as port:
        fill(model)
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            started = time.monotonic()
            connection.sendall(head + b"{")
            answer = read_answer(connection)
            assert 0.4 < time.monotonic() - started < 3
            assert connection.recv(1) == b""
        empty(model)
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b"body_timeout_s" in json.loads(answer.partition(b"\r\n\r\n")[2])["message"].encode()


def test_at_the_end_of_the_service_it_says_so() -> None:
    model = fake_model("en-de", SETTINGS)
    lifecycle = Lifecycle()
    request = WHOLE.replace(b"Host: x", b"Host: x\r\nContent-Type: application/json")
    request = request.replace(b"Length: 2", b"Length: %d" % len(BODY)).replace(b"{}", BODY)
    with running(model, lifecycle=lifecycle) as port:
        fill(model)
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(request[:-1])
            time.sleep(0.05)
            lifecycle.phase = Phase.CLOSING
            connection.sendall(request[-1:])
            answer = read_answer(connection)
        empty(model)
    assert b"shutting_down" in answer


def test_a_body_that_drips_in_does_not_outlast_the_service() -> None:
    model = fake_model("en-de", SETTINGS)
    lifecycle = Lifecycle()
    with ExitStack() as service:
        port = service.enter_context(running(model, lifecycle=lifecycle, body_timeout_s=20.0))
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(WHOLE[:-1])
            time.sleep(0.05)
            lifecycle.phase = Phase.CLOSING
            ending = threading.Thread(target=service.close)
            ending.start()
            answer = read_answer(connection)
        ending.join()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"shutting_down" in answer
    assert b"x-request-id" in answer


def test_a_request_waits_for_room_and_others_wait_behind_it() -> None:
    model = fake_model("en-de", SETTINGS)
    request = WHOLE.replace(b"Host: x", b"Host: x\r\nContent-Type: application/json")
    request = request.replace(b"Length: 2", b"Length: %d" % len(BODY)).replace(b"{}", BODY)
    with running(model, queue_wait_s=2.0) as port, ExitStack() as stack:
        fill(model)

        def connect() -> socket.socket:
            connection = socket.create_connection(("127.0.0.1", port), 5)
            connection.sendall(request)
            return stack.enter_context(connection)

        connect().close()  # it leaves its place to others
        time.sleep(0.1)
        waiting = [connect() for _ in range(LONGEST_LINE)]
        time.sleep(0.1)
        started = time.monotonic()
        assert read_answer(connect()).startswith(b"HTTP/1.1 429 ")  # one too many
        assert time.monotonic() - started < 1.5
        empty(model)
        answers = [read_answer(connection) for connection in waiting]
        assert {answer[:13] for answer in answers} == {b"HTTP/1.1 200 "}
        fill(model)
        started = time.monotonic()
        late = connect()
        assert read_answer(late).startswith(b"HTTP/1.1 429 ")
        assert 1.8 < time.monotonic() - started < 5
        empty(model)
        late.sendall(request)
        assert read_answer(late).startswith(b"HTTP/1.1 200 ")


def test_requests_on_their_way_take_room(closed_door: Door, full_registry: Registry) -> None:
    (model,) = full_registry.served_models
    empty(model)
    for _ in range(2):
        assert closed_door.judge(WHOLE) is Verdict.LET_IN
        with closed_door.arrivals.expected() as arrival:
            arrival.count()
    assert isinstance(closed_door.judge(WHOLE), Knock)
    arrival.end()
    arrival.end()
    assert closed_door.arrivals.num_coming == 1
    assert closed_door.judge(WHOLE) is Verdict.LET_IN


def read_answer(connection: socket.socket) -> bytes:
    """One answer, whole."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(4096)
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    while len(body) < int(fields[b"content-length"]):
        body += connection.recv(4096)
    return head + b"\r\n\r\n" + body


@pytest.fixture
def full_registry() -> Iterator[Registry]:
    model = fake_model("en-de", SETTINGS)
    model.start()
    while model.state == "loading":
        time.sleep(0.001)
    fill(model)
    yield Registry([model])
    model.close(5)


@pytest.fixture
def closed_door(full_registry: Registry) -> Door:
    return Door(full_registry, SETTINGS, counted.append, LIFECYCLE)


LIFECYCLE = Lifecycle()
counted: list[RequestRecord] = []
WHOLE = b"POST /v1/translate HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


def test_a_whole_request_is_refused(closed_door: Door) -> None:
    counted.clear()
    knock = closed_door.judge(WHOLE)
    assert isinstance(knock, Knock)
    assert not counted  # it might still find room
    refused = closed_door.refuse(knock)
    assert not refused.close
    head, _, body = refused.answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert json.loads(body)["error"]["code"] == "queue_full"
    assert [(record.route, record.status, record.refusal) for record in counted] == [
        ("/v1/translate", 429, "queue_full")
    ]


@pytest.mark.parametrize(
    "data",
    [
        WHOLE.replace(b"/v1/translate", b"/translator/text/SECRET/translate"),
        WHOLE + b"GET / HTTP/1.1\r\n\r\n",  # another behind it
        WHOLE.replace(b"POST", b"PUT"),
        WHOLE.replace(b"/v1/translate", b"/v1/models"),
        WHOLE.replace(b"/v1/translate", b"/v1/%74ranslate"),
        WHOLE.replace(b"1.1", b"1.0"),
        WHOLE.replace(b"Host: x", b"Transfer-Encoding: chunked"),
        WHOLE.replace(b"Host: x", b"transfer-encoding : chunked\r\nTRANSFER-ENCODING: chunked"),
        WHOLE.replace(b"Host: x", b"Transfer-Encoding : chunked"),
        WHOLE.replace(b"Host: x", b"Expect: 100-continue"),
        WHOLE.replace(b"Host: x", b"Origin: https://example.org"),
        WHOLE.replace(b"Host: x", b"Content-Length: 3"),  # two lengths
        WHOLE.replace(b"Length: 2", b"Length: +2"),
        WHOLE.replace(b"Length: 2", b"Length: 2, 2"),
        WHOLE.replace(b"Length: 2", b"Length : 2"),
        WHOLE.replace(b"Length: 2", b"Length: 0x2"),
        WHOLE.replace(b"Length: 2", b"Length: 99999"),
        WHOLE.replace(b"Length: 2", b"Length: 99999999999"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"\r\n\r\n",
        b"x" * 70_000,
    ],
)
def test_all_else_is_the_applications_to_judge(closed_door: Door, data: bytes) -> None:
    assert closed_door.judge(data) is Verdict.LET_IN


@pytest.mark.parametrize(
    ("value", "closes"),
    [
        (b"close", True),
        (b"keep-alive, Close", True),
        (b"close , x", True),
        (b"keep-alive", False),
        (b"x-close, closed", False),
    ],
)
def test_a_connection_that_shall_close(closed_door: Door, value: bytes, closes: bool) -> None:
    knock = closed_door.judge(WHOLE.replace(b"Host: x", b"Host: x\r\nConnection: " + value))
    assert isinstance(knock, Knock)
    assert knock.close is closes
    assert closed_door.refuse(knock).close is closes


@pytest.mark.parametrize("end", [0, 1, 20, 40, -1])
def test_the_rest_of_a_request_is_waited_for(closed_door: Door, end: int) -> None:
    assert closed_door.judge(WHOLE[:end]) is Verdict.WAIT
