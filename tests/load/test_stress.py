"""Pressure on the service: its tools by themselves, and each kind for a moment on a real one."""

import asyncio
import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from model.errors import InputError
from model.system.process import python_command
from service.bench.usage import family
from tests.load import __main__ as command
from tests.load import abandoned as leaving
from tests.load import long_text, overload, soak
from tests.load.client import (
    Connections,
    Reply,
    Sentences,
    bodies,
    closed_loop,
    open_loop,
    statuses,
)
from tests.load.server_process import Served, served
from tests.tiny_checkpoint import ENGLISH

PROC = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
NUMBERED = [b'{"text": "%d"}' % number for number in range(100_000)]


def test_new_sentences_never_repeat_and_known_ones_do() -> None:
    sentences = Sentences(ENGLISH[:3])
    new = [text for _ in range(200) for text in sentences.new(5)]
    assert len(set(new)) == 1000
    assert set(sentences.known(100)) == set(ENGLISH[:3])


@pytest.mark.parametrize("num_characters", [1, 40, 1234])
def test_a_text_has_the_size_that_was_asked_for(num_characters: int) -> None:
    assert len(Sentences(ENGLISH[:3]).text(num_characters)) == num_characters


def test_bodies_hold_so_many_texts() -> None:
    body = json.loads(next(bodies(Sentences(ENGLISH[:3]), 4, "demo")))
    assert body["model"] == "demo"
    assert len(set(body["text"])) == 4


class Fake:
    """Answers with a status and header fields, after a time; hangs up on None."""

    def __init__(self, answers: Iterator[bytes | None], answer_s: float = 0.0) -> None:
        self.bodies: list[bytes] = []
        self.num_connections = 0
        self._answers = answers
        self._answer_s = answer_s

    def run(self, work: Callable[[Connections], Awaitable[list[Reply]]]) -> list[Reply]:
        async def run() -> list[Reply]:
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()[:2]
            async with server, Connections(address) as connections:
                return await work(connections)

        return asyncio.run(run())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
                self.bodies.append(await reader.readexactly(length))
                await asyncio.sleep(self._answer_s)
                answer = next(self._answers)
                if answer is None:
                    break
                writer.write(b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\n{}" % answer)
                if answer.endswith(b"close"):
                    break
        except asyncio.IncompleteReadError:
            pass
        writer.close()


def test_a_closed_loop_waits_for_each_answer() -> None:
    fake = Fake(itertools.repeat(b"200 OK"), answer_s=0.02)
    replies = fake.run(lambda connections: closed_loop(connections, iter(NUMBERED), 3, 0.2))
    assert statuses(replies) == {"200": len(replies)}
    assert 3 <= len(replies) <= 3 * 11
    assert fake.num_connections == 3
    assert fake.bodies == NUMBERED[: len(replies)]
    assert min(reply.seconds for reply in replies) >= 0.02


def test_an_open_loop_does_not_wait_and_counts_from_the_planned_arrival() -> None:
    fake = Fake(itertools.repeat(b"200 OK"), answer_s=0.3)
    started = time.perf_counter()
    replies = fake.run(lambda connections: open_loop(connections, iter(NUMBERED), 100, 0.3))
    assert time.perf_counter() - started < 2
    assert 15 <= len(replies) <= 50
    assert fake.num_connections == len(replies)  # none was free when the next one came
    assert fake.bodies == NUMBERED[: len(replies)]
    assert min(reply.seconds for reply in replies) >= 0.3


def test_what_comes_instead_of_an_answer_is_told() -> None:
    answers = [
        b"200 OK",
        b"429 Too Many Requests\r\nRetry-After: 3",
        b"503 Service Unavailable\r\nRetry-After: soon",
        b"200 OK\r\nConnection: close",
        None,
        b"200 OK",
    ]

    async def six(connections: Connections) -> list[Reply]:
        return [await connections.send(NUMBERED[number]) for number in range(6)]

    fake = Fake(iter(answers))
    replies = fake.run(six)
    assert [reply.status for reply in replies] == [200, 429, 503, 200, 0, 200]
    assert [reply.retry_after for reply in replies] == [False, True, False, False, False, False]
    assert fake.num_connections == 3


def test_a_connection_that_is_not_waited_for_is_not_used_again() -> None:
    async def impatient(connections: Connections) -> list[Reply]:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connections.send(NUMBERED[0]), 0.05)
        return [await connections.send(NUMBERED[1])]

    fake = Fake(itertools.repeat(b"200 OK"), answer_s=0.1)
    assert statuses(fake.run(impatient)) == {"200": 1}
    assert fake.num_connections == 2


@pytest.fixture(scope="module")
def service(tiny_checkpoint: Path) -> Iterator[Served]:
    few = {"DRAGOMAN_MAX_QUEUE_TEXTS": "32", "DRAGOMAN_MAX_TEXTS": "32"}
    with served(tiny_checkpoint, ["--precision", "fp32", "--threads", "1"], few) as service:
        yield service


@PROC
def test_overload(service: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "_CLIENTS": 8,
        "_WARM_UP_S": 0.1,
        "_CAPACITY_S": 0.6,
        "_REST_S": 0.0,
    }.items():
        monkeypatch.setattr(overload, name, value)
    report = asyncio.run(
        overload.overload(service, Sentences(ENGLISH), "tiny", factor=3.0, seconds=0.5, texts=2)
    )
    assert report.accepted is not None
    assert report.refused is not None
    assert set(report.statuses) == {"200", "429"}
    assert report.accepted.num_requests == report.statuses["200"]
    assert report.refusals_without_retry_after == 0
    assert min(report.memory_mb) > 10


def test_overload_of_what_translates_nothing(
    service: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_WARM_UP_S", "_CAPACITY_S"):
        monkeypatch.setattr(overload, name, 0.05)
    work = overload.overload(
        service, Sentences(ENGLISH), "missing", factor=3.0, seconds=0.1, texts=1
    )
    with pytest.raises(InputError, match="404"):
        asyncio.run(work)


def test_leaving(service: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "_IDLE_S", 0.1)
    monkeypatch.setattr(leaving, "_STAY_S", 0.02)
    report = asyncio.run(leaving.leaving(service, Sentences(ENGLISH), "tiny", clients=5))
    assert report.clients == 5
    assert report.seconds_until_idle < 10
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
            seconds=0.5,
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
            requests=60,
            seconds=10.0,
            warm_up=20,
            state_every_s=0.1,
        )
    )
    assert report.requests == 60
    assert report.abandoned > 0
    assert sum(report.statuses.values()) + report.abandoned == 60
    assert set(report.statuses) == {"200", "422"}
    numbers = [state.requests for state in report.states]
    assert numbers == sorted(numbers)
    assert report.states[-1].descriptors > 0
    assert "requests=" in capsys.readouterr().err  # how far it is


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)  # the command's own
    monkeypatch.setattr(sys, "argv", ["stress", *arguments])
    command.main()


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "source"
    path.write_text("\n".join(ENGLISH[:5]), encoding="utf-8")
    return str(path)


def test_a_service_that_does_not_start(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    with pytest.raises(
        SystemExit, match=r"stress: the service ended with status 1: error: .*models"
    ):
        run(monkeypatch, "leaving", str(models), "--model", "x", "--source", source)


def test_sentences_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n \n")
    for arguments in (["soak", "m", "--model", "x"], ["swaps", "a", "b"]):
        with pytest.raises(SystemExit, match="has no sentence"):
            run(monkeypatch, *arguments, "--source", str(empty))


@pytest.mark.parametrize(
    ("pressure", "option", "value"),
    [
        ("overload", "--factor", "0"),
        ("overload", "--seconds", "-1"),
        ("overload", "--seconds", "nan"),
        ("overload", "--texts", "0"),
        ("leaving", "--clients", "0"),
        ("leaving", "--clients", "many"),
        ("long-text", "--characters", "0"),
        ("long-text", "--rate", "-0.5"),
        ("long-text", "--seconds", "inf"),
        ("soak", "--requests", "1.5"),
        ("soak", "--warm-up", "-1"),
        ("soak", "--state-every", "0"),
        ("swaps", "--swaps", "0"),
        ("swaps", "--pause-ms", "-1"),
        ("swaps", "--threads", "0"),
        ("swaps", "--precision", "bf16"),
    ],
)
def test_a_wrong_value_is_told_with_its_option(
    pressure: str,
    option: str,
    value: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    served_by = ["a", "b"] if pressure == "swaps" else ["models", "--model", "x"]
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, pressure, *served_by, "--source", "s", f"{option}={value}")
    told = capsys.readouterr().err
    assert f"argument {option}: " in told
    assert value in told


@PROC
@pytest.mark.parametrize(
    ("number", "moment"), [(signal.SIGTERM, "starting"), (signal.SIGINT, "under way")]
)
def test_nothing_is_left_behind(
    number: signal.Signals, moment: str, tiny_checkpoint: Path, source: str
) -> None:
    start, environment = python_command("tests.load")
    environment["DRAGOMAN_PRECISION"] = "fp32"  # starts sooner
    pressure = ["soak", str(tiny_checkpoint), "--model", "tiny", "--source", source]
    with subprocess.Popen(
        [*start, *pressure], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        assert process.stderr is not None
        if moment == "under way":
            assert b"requests=" in process.stderr.readline()
        until(lambda: b"\0serve\0" in b"".join(map(command_line, family(process.pid))))
        time.sleep(0.2)
        started = family(process.pid)[1:]
        process.send_signal(number)
        _, complaints = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert b"Traceback" not in complaints
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
