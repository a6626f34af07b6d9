"""Runs each load test briefly against a real service, and tests the command line."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from model.errors import InputError
from model.system.process import python_command
from tests.load import __main__ as command
from tests.load import abandoned, long_text, overload, soak
from tests.load.client import Sentences
from tests.load.server_process import Served, family, served
from tests.tiny_checkpoint import ENGLISH

PROC = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")


@pytest.fixture(scope="module")
def service(tiny_checkpoint: Path) -> Iterator[Served]:
    few = {"DRAGOMAN_MAX_QUEUE_TEXTS": "32", "DRAGOMAN_MAX_TEXTS": "32"}
    with served(tiny_checkpoint, ["--precision", "fp32", "--threads", "1"], few) as service:
        yield service


class SlowService:
    """Stands for Served: answers one request at a time in 50 ms and refuses those above a limit."""

    def __init__(self, status: bytes, max_in_flight: int) -> None:
        self.address = ("127.0.0.1", 0)
        self._status = status
        self._max_in_flight = max_in_flight
        self._in_flight = 0
        self._lock = asyncio.Lock()

    def memory_mb(self) -> float:
        return 100.0

    def run(self, work: Callable[[Served], Awaitable[overload.Overload]]) -> overload.Overload:
        async def run() -> overload.Overload:
            async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
                self.address = server.sockets[0].getsockname()[:2]
                return await work(cast(Served, self))

        return asyncio.run(run())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(int(head.split(b"Content-Length: ")[1].split(b"\r")[0]))
                status = b"429 Too Many Requests\r\nRetry-After: 1"
                if self._in_flight < self._max_in_flight:
                    self._in_flight += 1
                    async with self._lock:
                        await asyncio.sleep(0.05)
                    self._in_flight -= 1
                    status = self._status
                writer.write(b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\n{}" % status)
        writer.close()


def short_overload(service: SlowService, monkeypatch: pytest.MonkeyPatch) -> overload.Overload:
    for name, value in (("_CLIENTS", 2), ("_WARM_UP_S", 0.1), ("_CAPACITY_S", 0.5), ("_REST_S", 0)):
        monkeypatch.setattr(overload, name, value)
    return service.run(
        lambda served: overload.overload(
            served, Sentences(ENGLISH), "tiny", factor=4.0, seconds=0.5, texts=2
        )
    )


def test_overload_counts_answers_and_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    report = short_overload(SlowService(b"200 OK", max_in_flight=2), monkeypatch)
    assert 0 < report.capacity_per_s[0] <= 1 / 0.05
    assert set(report.statuses) == {"200", "429"}
    assert report.accepted is not None
    assert report.accepted.num_requests == report.statuses["200"]
    assert report.accepted.p50_ms >= 50
    assert report.refused is not None
    assert report.refused.num_requests == report.statuses["429"]
    assert report.refusals_without_retry_after == 0
    assert report.memory_mb == (100.0, 100.0, 100.0, 100.0)


def test_overload_of_a_service_that_answers_nothing_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(InputError, match="404"):
        short_overload(SlowService(b"404 Not Found", max_in_flight=9), monkeypatch)


def test_abandoned(service: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abandoned, "_IDLE_S", 0.1)
    monkeypatch.setattr(abandoned, "_CONNECTED_S", 0.02)
    report = asyncio.run(abandoned.abandoned(service, Sentences(ENGLISH), "tiny", clients=5))
    assert report.clients == 5
    assert report.seconds_until_idle < 60
    assert report.texts_cancelled <= 5 * 20
    assert report.alone_after.num_requests > 0


def test_long_text(service: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_text, "_WARM_UP_S", 0.1)
    monkeypatch.setattr(long_text, "_PAUSE_S", 0.05)
    report = asyncio.run(
        long_text.long_text(
            service,
            Sentences(ENGLISH),
            "tiny",
            num_characters=200,
            short_per_s=20.0,
            seconds=0.3,
        )
    )
    assert report.short_statuses == {"200": report.alone.num_requests + report.beside.num_requests}
    assert set(report.long_statuses) == {"200"}
    assert len(report.long_seconds) == report.long_statuses["200"]


@PROC
def test_soak(
    service: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(soak, "_BAD", 0.1)
    monkeypatch.setattr(soak, "_ABANDONED", 0.2)
    report = asyncio.run(
        soak.soak(
            service,
            Sentences(ENGLISH),
            "tiny",
            clients=4,
            requests=40,
            seconds=300.0,
            warm_up=20,
            state_every_s=0.1,
        )
    )
    assert report.requests == 40
    assert report.abandoned > 0
    assert sum(report.statuses.values()) + report.abandoned == 40
    assert set(report.statuses) == {"200", "422"}
    numbers = [state.requests for state in report.states]
    assert numbers == sorted(numbers)
    assert report.states[-1].descriptors > 0
    assert "requests=" in capsys.readouterr().err  # the progress


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)  # pytest's stay in place
    monkeypatch.setattr(sys, "argv", ["load", *arguments])
    command.main()


def test_a_service_that_does_not_start_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"the service ended with status 2: .*--no-such-option"),
        served(tmp_path, ["--no-such-option"]),
    ):
        pass


def test_a_source_without_sentences_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n \n")
    with pytest.raises(SystemExit, match=r"error: .* has no sentence"):
        run(monkeypatch, "soak", "m", "--model", "x", "--source", str(empty))


@pytest.mark.parametrize(
    ("test", "option", "value"),
    [
        ("overload", "--seconds", "nan"),
        ("abandoned", "--clients", "many"),
        ("soak", "--warm-up", "-1"),
        ("swaps", "--precision", "bf16"),
    ],
)
def test_a_wrong_value_is_named_with_its_option(
    test: str,
    option: str,
    value: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    models = ["a", "b"] if test == "swaps" else ["models", "--model", "x"]
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, test, *models, "--source", "s", f"{option}={value}")
    error = capsys.readouterr().err
    assert f"argument {option}: " in error
    assert value in error


@PROC
def test_sigterm_ends_the_service_too(tiny_checkpoint: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text(ENGLISH[0], encoding="utf-8")
    start, environment = python_command("tests.load")
    arguments = ["soak", str(tiny_checkpoint), "--model", "tiny", "--source", str(source)]
    with subprocess.Popen(
        [*start, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        until(lambda: b"\0serve\0" in b"".join(map(command_line, family(process.pid))))
        started = family(process.pid)[1:]
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert b"Traceback" not in errors
    until(lambda: not any(Path(f"/proc/{each}").exists() for each in started))


def command_line(process_id: int) -> bytes:
    try:
        return Path(f"/proc/{process_id}/cmdline").read_bytes()
    except OSError:
        return b""


def until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)
