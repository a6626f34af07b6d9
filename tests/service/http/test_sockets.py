"""Bodies and clients that misbehave, over real sockets and uvicorn."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
import uvicorn

from service.http.app import create_app
from service.http.server import configure
from service.serving.registry import Registry
from service.settings import Settings
from tests.service.fakes import FakeTranslator, fake_model

SETTINGS = Settings(max_body_bytes=10_000, body_timeout_s=0.5)


@dataclass
class Running:
    """A served fake: where it is, and what it is."""

    port: int
    translator: FakeTranslator

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)


@pytest.fixture
def running() -> Iterator[Running]:
    translator = FakeTranslator(delay_s=0.001)
    registry = Registry([fake_model("en-de", SETTINGS, translator=translator)])
    config = configure(create_app(registry, SETTINGS), SETTINGS)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
        thread.start()
        while not server.started or registry.loading:
            time.sleep(0.001)
        yield Running(listener.getsockname()[1], translator)
        server.should_exit = True
        thread.join(10)


def request_head(*headers: str) -> bytes:
    lines = ["POST /v1/translate HTTP/1.1", "Host: x", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def body_of(text: str) -> bytes:
    return json.dumps({"source": "en", "target": "de", "text": text}).encode()


def read_all(connection: socket.socket) -> bytes:
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def chunk(content: bytes) -> bytes:
    return f"{len(content):x}\r\n".encode() + content + b"\r\n"


def test_declared_length_past_the_limit_is_refused_unread(running: Running) -> None:
    with running.connect() as connection:
        started = time.monotonic()
        connection.sendall(request_head("Content-Length: 1000000000000"))
        answer = b""
        while b"}}" not in answer:
            answer += connection.recv(65536)
        assert time.monotonic() - started < 0.1
    assert status_of(answer) == 413
    assert json.loads(answer.split(b"\r\n\r\n")[1])["error"]["code"] == "request_too_large"


@pytest.mark.parametrize("digits", ["9" * 25, "99999999999999999999"])
def test_a_huge_content_length_is_a_client_error(running: Running, digits: str) -> None:
    with running.connect() as connection:
        connection.sendall(request_head(f"Content-Length: {digits}"))
        assert status_of(connection.recv(65536)) in (400, 413)


def test_chunked_body_past_the_limit_is_refused_while_it_comes(running: Running) -> None:
    with running.connect() as connection:
        connection.sendall(request_head("Transfer-Encoding: chunked"))
        for _ in range(50):
            connection.sendall(chunk(b"x" * 1000))
        connection.sendall(b"0\r\n\r\n")
        answer = read_all(connection)
    assert status_of(answer) == 413
    assert b"max_body_bytes" in answer


def test_client_that_sends_ten_megabytes_first_can_read_the_refusal(running: Running) -> None:
    for _ in range(3):
        answer = httpx.post(
            f"http://127.0.0.1:{running.port}/v1/translate", json={"text": "x" * 10_000_000}
        )
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "request_too_large"


def test_endless_body_ends_with_the_connection(running: Running) -> None:
    with running.connect() as connection:
        connection.sendall(request_head("Transfer-Encoding: chunked"))
        started = time.monotonic()
        with contextlib.suppress(ConnectionError):  # reset or broken pipe, as the system likes
            while time.monotonic() - started < 8:
                connection.sendall(chunk(b"x" * 5000))
                time.sleep(0.001)
        assert time.monotonic() - started < 5


def test_a_body_of_the_limit_is_accepted_and_one_byte_more_is_refused(running: Running) -> None:
    for size, status in ((10_000, 200), (10_001, 413)):
        body = body_of("a").ljust(size)
        for framing in (
            request_head(f"Content-Length: {size}", "Connection: close") + body,
            request_head("Transfer-Encoding: chunked", "Connection: close")
            + chunk(body[:17])
            + chunk(body[17:])
            + b"0\r\n\r\n",
        ):
            with running.connect() as connection:
                connection.sendall(framing)
                assert status_of(read_all(connection)) == status


def test_a_body_shorter_than_its_content_length_times_out(running: Running) -> None:
    with running.connect() as connection:
        connection.sendall(request_head("Content-Length: 500") + b'{"text": "half')
        started = time.monotonic()
        answer = read_all(connection)
        assert time.monotonic() - started < 5
    assert status_of(answer) == 408
    assert b"body_timeout_s" in answer
    with running.connect() as connection:  # the same, but the client leaves
        connection.sendall(request_head("Content-Length: 500") + b'{"text": "half')
    assert status_of(post(running, "fine")) == 200


def test_a_body_longer_than_its_content_length(running: Running) -> None:
    body = body_of("a")
    with running.connect() as connection:
        connection.sendall(request_head(f"Content-Length: {len(body) - 5}") + body)
        answer = read_all(connection)
    assert status_of(answer) == 400
    assert b'"code":"malformed_request"' in answer  # the rest is no request
    assert status_of(post(running, "fine")) == 200


def post(running: Running, text: str) -> bytes:
    body = body_of(text)
    with running.connect() as connection:
        head = request_head(f"Content-Length: {len(body)}", "Connection: close")
        connection.sendall(head + body)
        return read_all(connection)


def test_requests_of_disconnected_clients_free_the_engine(running: Running) -> None:
    connections = []
    for number in range(20):
        connection = running.connect()
        body = body_of(f"{number} " + "w " * 4000)
        connection.sendall(request_head(f"Content-Length: {len(body)}") + body)
        connections.append(connection)
    while len(running.translator.busy) < running.translator.slots:
        time.sleep(0.001)
    for connection in connections:
        connection.close()
    started = time.monotonic()
    while not running.translator.idle:
        assert time.monotonic() - started < 1
        time.sleep(0.001)
    assert status_of(post(running, "next")) == 200


def test_a_connection_serves_many_requests(running: Running) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{running.port}") as client:
        for text in ("a", "b c", "d"):
            answer = client.post("/v1/translate", content=body_of(text),
                                 headers={"content-type": "application/json"})  # fmt: skip
            assert answer.json()["translations"][0]["text"] == text.upper()
