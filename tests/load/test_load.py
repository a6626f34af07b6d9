"""Each load test for a moment against a real service, and the command line."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

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


@PROC
def test_overload(service: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_CLIENTS", 8), ("_WARM_UP_S", 0.1), ("_CAPACITY_S", 0.4), ("_REST_S", 0)):
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


def test_overload_of_a_missing_model_is_an_error(
    service: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_WARM_UP_S", "_CAPACITY_S"):
        monkeypatch.setattr(overload, name, 0.05)
    work = overload.overload(
        service, Sentences(ENGLISH), "missing", factor=3.0, seconds=0.1, texts=1
    )
    with pytest.raises(InputError, match="404"):
        asyncio.run(work)


def test_abandoned(service: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abandoned, "_IDLE_S", 0.1)
    monkeypatch.setattr(abandoned, "_CONNECTED_S", 0.02)
    report = asyncio.run(abandoned.abandoned(service, Sentences(ENGLISH), "tiny", clients=5))
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
