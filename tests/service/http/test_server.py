"""The process: addresses, signals and the way out, over real sockets."""

import contextlib
import fcntl
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from model.errors import CheckpointError, ConfigError
from service.http import server
from service.http.server import listen, serve
from service.settings import Settings

Process = subprocess.Popen[str]
Start = Callable[..., tuple[Process, str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a server of fakes; gives the process and its address, not yet ready."""
    processes: list[Process] = []

    def start_one(
        *, step_s: float = 0.0, grace_s: float = 0.0, outcome: str = "serve", **options: Any
    ) -> tuple[Process, str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.service.serve_fakes", str(step_s), str(grace_s), outcome],
            cwd=Path(__file__).parents[3],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        processes.append(process)
        assert process.stdout is not None
        return process, f"http://127.0.0.1:{process.stdout.readline().strip()}"

    yield start_one
    for process in processes:
        process.kill()
        process.communicate()


def wait_ready(address: str) -> None:
    for _ in range(500):
        if httpx.get(f"{address}/health/ready").status_code == 200:
            return
        time.sleep(0.01)
    raise AssertionError("the server did not become ready")


def post(address: str, text: str) -> httpx.Response:
    body = {"source": "en", "target": "de", "text": text}
    return httpx.post(f"{address}/v1/translate", json=body, timeout=30)


def send(address: str, text: str) -> socket.socket:
    """A request that is on its way; its answer is read with `receive`."""
    body = json.dumps({"source": "en", "target": "de", "text": text})
    host, port = address.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    connection.sendall(
        f"POST /v1/translate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
    )
    return connection


def receive(connection: socket.socket) -> bytes:
    with connection:
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_accepted_work_is_finished_and_the_exit_code_is_0(
    start: Start, number: signal.Signals
) -> None:
    process, address = start(step_s=0.02)
    wait_ready(address)
    connections = [send(address, "w " * 50) for _ in range(4)]
    receive(send(address, "later, but shorter"))  # so the ones before have been accepted
    process.send_signal(number)
    for answer in [receive(connection) for connection in connections]:
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"W " * 50 in answer
    assert process.wait(20) == 0
    with pytest.raises(httpx.ConnectError):
        post(address, "late")


def test_readiness_turns_red_before_the_socket_closes(start: Start) -> None:
    process, address = start(grace_s=1.0)
    wait_ready(address)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert httpx.get(f"{address}/health/ready").status_code == 503
    assert httpx.get(f"{address}/health/live").status_code == 200
    assert post(address, "still answered").status_code == 200
    assert process.wait(20) == 0


def test_a_second_signal_exits_at_once(start: Start) -> None:
    process, address = start(step_s=0.05)
    wait_ready(address)
    connections = [send(address, "w " * 300) for _ in range(3)]
    receive(send(address, "short"))
    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=2)
    assert process.returncode == 128 + signal.SIGTERM
    assert "WARNING second signal: exiting at once, requests dropped: 3\n" in errors
    for connection in connections:
        with contextlib.suppress(ConnectionError):
            assert receive(connection) == b""


def test_sighup_does_not_end_the_service_unless_its_terminal_closes(start: Start) -> None:
    process, address = start()
    wait_ready(address)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert post(address, "still here").status_code == 200
    master, terminal = pty.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        signal.signal(
            signal.SIGHUP, signal.SIG_DFL
        )  # the default, whatever the parent process has set

    process, address = start(start_new_session=True, preexec_fn=take_terminal)
    wait_ready(address)
    os.close(terminal)
    os.close(master)
    assert process.wait(20) == 0


def test_while_a_model_loads_live_answers_and_a_signal_ends_the_service(start: Start) -> None:
    process, address = start(outcome="hang")
    assert httpx.get(f"{address}/health/live").status_code == 200
    assert httpx.get(f"{address}/health/ready").status_code == 503
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


def test_the_service_exits_when_no_model_loads(start: Start) -> None:
    process, _ = start(outcome="fail")
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "error: no model could be loaded: en-de: weights.safetensors is damaged" in errors
    assert "Traceback" not in errors


def test_log_has_a_line_for_start_model_and_request(start: Start) -> None:
    process, address = start()
    wait_ready(address)
    post(address, "private words")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert f"serving en-de at {address}" in errors
    assert "model en-de ready" in errors
    assert "POST /v1/translate 200" in errors
    assert "private" not in errors


def checkpoint_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    return folder


def test_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    checkpoint_folder(tmp_path / "en-de")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1 port {port}: .*in use.*--port"):
            serve(tmp_path, host="127.0.0.1", port=port, settings=Settings())


def test_unknown_host_is_one_sentence(tmp_path: Path) -> None:
    checkpoint_folder(tmp_path / "en-de")
    with pytest.raises(ConfigError, match=r"cannot listen on host\.invalid port 0"):
        serve(tmp_path, host="host.invalid", port=0, settings=Settings())


def test_models_folder_must_hold_something(tmp_path: Path) -> None:
    for folder, words in ((tmp_path / "none", "does not exist"), (tmp_path, "no checkpoint")):
        with pytest.raises(CheckpointError, match=words):
            serve(folder, host="127.0.0.1", port=0, settings=Settings())


def test_answers_are_sent_without_waiting_for_acknowledgements() -> None:
    with listen("127.0.0.1", 0) as listener:
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_language_tables_are_loaded_from_the_start_of_a_service_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    done: list[str] = []
    monkeypatch.setattr(server, "load_tables", lambda: done.append("load"))
    monkeypatch.setattr(server, "run", lambda *_: done.append("run"))
    serve(tmp_path, "127.0.0.1", 0, Settings())
    assert done == ["load", "run"]
