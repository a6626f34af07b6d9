"""Clients that are slow, silent, many, or do not read their answers, over real sockets."""

import contextlib
import json
import logging
import selectors
import socket
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from service.http.app import create_app
from service.http.server import configure
from service.settings import Settings
from tests.service.fakes import fake_registry
from tests.service.running import running as running_registry
from tests.service.running import wait_until_ready

HEAD = b"POST /v1/translate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
Start = Callable[..., int]


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[int]:
    registry = fake_registry(settings, "en-de")
    with running_registry(registry, settings) as port:
        wait_until_ready(registry)
        yield port


@pytest.fixture
def start() -> Iterator[Start]:
    with contextlib.ExitStack() as servers:
        yield lambda **values: servers.enter_context(running(Settings(**values)))


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def read_all(connection: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            received += part
    return received


def seconds_of_a_translation(port: int) -> float:
    started = time.monotonic()
    body = {"text": "a b", "source": "en", "target": "de"}
    answer = httpx.post(f"http://127.0.0.1:{port}/v1/translate", json=body)
    assert answer.status_code == 200
    return time.monotonic() - started


def test_five_hundred_slow_connections_are_closed_and_delay_no_other_client(start: Start) -> None:
    port = start(head_timeout_s=1.5)
    alone = min(seconds_of_a_translation(port) for _ in range(5))
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        slow, silent = ([stack.enter_context(connect(port)) for _ in range(250)] for _ in range(2))
        for connection in (*slow, *silent):
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ)
        started, sent, open_ones = time.monotonic(), 0, 500
        times = []
        while open_ones and time.monotonic() - started < 10:
            if time.monotonic() - started > 0.5 * sent:  # a byte now and then
                for connection in slow:
                    with contextlib.suppress(OSError):
                        connection.send(HEAD[sent : sent + 1])
                sent += 1
            times.append(seconds_of_a_translation(port))
            for key, _ in selector.select(0):
                assert isinstance(key.fileobj, socket.socket)
                with contextlib.suppress(ConnectionResetError):
                    if key.fileobj.recv(65536):
                        continue
                selector.unregister(key.fileobj)
                open_ones -= 1
        taken_s = time.monotonic() - started
    assert open_ones == 0
    assert 1 < taken_s < 9
    assert sorted(times)[len(times) // 2] < 10 * alone + 0.1


def test_a_slow_head_gets_408(start: Start) -> None:
    port = start(head_timeout_s=0.3)
    with connect(port) as connection:
        connection.sendall(HEAD)
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert json.loads(body)["error"]["code"] == "head_too_slow"
    with connect(port) as connection:  # no request, so no answer
        assert read_all(connection) == b""


def metrics(port: int) -> dict[str, float]:
    lines = httpx.get(f"http://127.0.0.1:{port}/metrics").text.splitlines()
    return {line.split(" ")[0]: float(line.split(" ")[1]) for line in lines if line[0] != "#"}


def test_connections_without_a_valid_request_are_counted_and_logged(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="dragoman")
    port = start(head_timeout_s=1.0, max_connections=2)
    for sent in (b"SECRET\r\n\r\n", b"GET /SECRET HTTP/1.1\r\nSECRET: "):
        with connect(port) as connection:
            connection.sendall(sent)
            assert read_all(connection)
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(connect(port))
        time.sleep(0.05)
        crowded = httpx.get(
            f"http://127.0.0.1:{port}/SECRET?SECRET", headers={"X-Request-ID": "mine"}
        )
        assert (crowded.status_code, crowded.headers["x-request-id"]) == (503, "mine")
    end = time.monotonic() + 10
    while (values := metrics(port))["dragoman_connections"] > 1 and time.monotonic() < end:
        time.sleep(0.05)
    for reason in ("malformed_request", "head_too_slow", "too_many_connections"):
        assert values[f'dragoman_refused_total{{reason="{reason}"}}'] == 1
    assert values["dragoman_connections"] == 1
    assert values["dragoman_max_connections"] == 2
    lines = [line for line in caplog.messages if "rejected" in line or "refusal=too" in line]
    assert lines[:2] == [
        "connection rejected: malformed_request (400)",
        "connection rejected: head_too_slow (408)",
    ]
    assert lines[2].startswith("request mine GET - 503 ")
    assert "SECRET" not in "".join(record.getMessage() for record in ours(caplog))


def ours(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name.startswith("dragoman")]


def test_broken_chunks_in_the_middle_of_an_answer_close_the_connection(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    port = start(max_body_bytes=1024)
    with connect(port) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n800\r\n" + b"x" * 2048)
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")  # it listens for a moment more
        connection.sendall(b"\r\nzz\r\n")
        assert b"HTTP/1.1" not in read_all(connection)
    assert metrics(port)['dragoman_refused_total{reason="malformed_request"}'] == 1
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_slow_head_on_a_connection_that_was_used_before(start: Start) -> None:
    port = start(head_timeout_s=0.3)
    with connect(port) as connection:
        for _ in range(2):
            connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while not answer.endswith(b'{"status":"live"}'):
                answer += connection.recv(65536)
            time.sleep(0.5)  # idle: the keep-alive timeout runs, not that of a head
        started = time.monotonic()
        with contextlib.suppress(OSError):
            for byte in HEAD:
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
        assert b" 408 " in read_all(connection)
        assert time.monotonic() - started < 4


def test_a_body_may_take_longer_than_the_head_timeout(start: Start) -> None:
    port = start(head_timeout_s=0.3)
    body = b'{"text": "a", "source": "en", "target": "de"}'
    with connect(port) as connection:
        length = b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
        connection.sendall(HEAD + length)
        time.sleep(0.6)  # the head was there in time; bodies have a limit of their own
        connection.sendall(body)
        assert read_all(connection).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n folded\x00: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA\xff: b\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1_0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n",
        b"GET http://\r\n\r\n",
    ],
)
def test_malformed_http_gets_400_in_json(http_port: int, request_bytes: bytes) -> None:
    with connect(http_port) as connection:
        connection.sendall(request_bytes)
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"content-type: application/json" in head.lower()
    assert json.loads(body)["error"]["code"] == "malformed_request"


def test_a_long_query_that_comes_in_pieces(http_port: int) -> None:
    text = "%E6%88%91" * 5000
    query = f"POST /translate?q={text}&source=en&target=de HTTP/1.1\r\nHost: x\r\n"
    with connect(http_port) as connection:
        for start in range(0, len(query), 9000):
            connection.sendall(query[start : start + 9000].encode())
            time.sleep(0.02)
        connection.sendall(b"Connection: close\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 200")


def test_a_head_without_an_end(http_port: int) -> None:
    with connect(http_port) as connection, contextlib.suppress(ConnectionError):
        for _ in range(200):
            connection.sendall(b"A: " + b"b" * 5000 + b"\r\n" if _ else b"GET / HTTP/1.1\r\n")
            time.sleep(0.002)
        raise AssertionError("it took a megabyte")


@pytest.fixture(scope="module")
def http_port() -> Iterator[int]:
    with running(Settings(head_timeout_s=2)) as port:
        yield port


@pytest.mark.parametrize(
    "chunks",
    [
        b"zz\r\nabc\r\n0\r\n\r\n",
        b"-5\r\nabc\r\n0\r\n\r\n",
        b"5\r\nabcdefghij\r\n0\r\n\r\n",
        b"ffffffffffffffffffffffff\r\nabc",
        b"3;" + b"x" * 70_000 + b"\r\nabc\r\n0\r\n\r\n",
        b"5\nabcde\n0\n\n",
    ],
)
def test_malformed_chunks(chunks: bytes) -> None:
    with running(Settings(body_timeout_s=0.3)) as port, connect(port) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(
                HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
            )
        answer = read_all(connection)
        assert answer[9:12] in (b"400", b"408", b"413", b"")
        assert seconds_of_a_translation(port) < 5


def test_a_client_that_does_not_read_is_disconnected(start: Start) -> None:
    port = start(answer_timeout_s=0.5, max_characters=2_000_000, max_body_bytes=8_000_000,
                 max_queue_characters=2_000_000, deadline_s=60)  # fmt: skip
    body = json.dumps(
        {"text": "a" * 1_900_000, "source": "en", "target": "de", "alternatives": 4}
    ).encode()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(10)
        connection.connect(("127.0.0.1", port))
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        deadline = time.monotonic() + 10
        while is_open(port, connection) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not is_open(port, connection)
        assert len(read_all(connection)) < 9_000_000
    assert seconds_of_a_translation(port) < 5


def is_open(port: int, connection: socket.socket) -> bool:
    """Whether the server still holds its end, as the kernel lists it."""
    ours = connection.getsockname()[1]
    with open("/proc/net/tcp", encoding="ascii") as lines:
        for line in list(lines)[1:]:
            _, local, remote, state, *_ = line.split()
            if local.endswith(f":{port:04X}") and remote.endswith(f":{ours:04X}"):
                return state == "01"  # established
    return False


def test_a_slow_reader_gets_its_answer(start: Start) -> None:
    port = start(answer_timeout_s=0.5, max_characters=2_000_000, max_body_bytes=8_000_000,
                 max_queue_characters=2_000_000, deadline_s=60)  # fmt: skip
    body = json.dumps({"text": "a" * 1_900_000, "source": "en", "target": "de"}).encode()
    head = HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.connect(("127.0.0.1", port))
        connection.sendall(head + body)
        received = 0
        while part := connection.recv(65536):
            received += len(part)
            time.sleep(0.02)
    assert received > 1_900_000


def test_too_many_connections_get_503_with_retry_after(start: Start) -> None:
    port = start(max_connections=20, head_timeout_s=5)
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connect(port))
        base = f"http://127.0.0.1:{port}"
        time.sleep(0.1)
        for path, body in (("/v1/translate", {"text": "a"}), ("/translate", {"q": "a"})):
            refused = httpx.post(base + path, json=body)
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) >= 1
            assert "max_connections" in str(refused.json()["error"])
        assert httpx.get(f"{base}/health/ready").status_code == 200
    time.sleep(0.2)
    assert seconds_of_a_translation(port) < 5


def test_connections_above_the_spare_ones_are_closed_at_once(start: Start) -> None:
    port = start(max_connections=5, head_timeout_s=5)
    with contextlib.ExitStack() as stack:
        for _ in range(5 + 64):
            stack.enter_context(connect(port)).sendall(HEAD)
        time.sleep(0.1)
        with connect(port) as connection:
            assert read_all(connection) == b""
    time.sleep(0.2)
    assert metrics(port)['dragoman_refused_total{reason="too_many_connections"}'] == 1
    assert seconds_of_a_translation(port) < 5


def test_packed_bodies_are_refused_unread_in_every_dialect(http_port: int) -> None:
    for path in ("/v1/translate", "/translate", "/v2/translate", "/language/translate/v2"):
        for encoding in ("gzip", "deflate", "br", "zstd", "identity, gzip", "GZIP", "x"):
            with connect(http_port) as connection:
                connection.sendall(
                    f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Encoding: {encoding}\r\n"
                    "Content-Length: 1000000\r\nConnection: close\r\n\r\n".encode()
                )
                connection.shutdown(socket.SHUT_WR)
                head, _, body = read_all(connection).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 415 ")
            assert b"without Content-Encoding" in body
            assert json.loads(body).keys() & {"error", "message"}


def test_the_server_ignores_forwarded_addresses() -> None:
    settings = Settings()
    app = create_app(fake_registry(settings, "en-de"), settings)
    app.access.close()
    config = configure(app, settings)
    assert not config.proxy_headers
