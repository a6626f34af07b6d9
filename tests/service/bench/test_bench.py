"""`dragoman bench` from the command line to the picture."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from model.errors import ConfigError, InputError
from service import cli
from service.bench import picture, process
from service.bench.latency import LatencySummary, ShortBesideLong
from service.bench.open_loop import OpenLoop
from service.bench.plan import BenchPlan, Task, sentences_of
from service.bench.process import BenchError, measure_apart
from service.bench.report import (
    AloneLatency,
    BenchReport,
    PrecisionReport,
    Throughput,
    Unsupported,
    report_lines,
)
from service.commands.loading import Loading
from tests.service.commands.running_commands import one_line_error

LATENCY = LatencySummary(3, 1.0, 2.0, 3.0, 4.0, 5.0)
TASK = Task(Loading(Path("anywhere"), precision="int8"), BenchPlan(), ("one",), 0.0)


def precision_report(precision: str = "fp32") -> PrecisionReport:
    loop = OpenLoop(10.0, 5.0, 9.5, 2, 1, LATENCY)
    return PrecisionReport(
        precision=precision,
        device="cpu",
        threads=2,
        import_s=1.5,
        load_s=0.25,
        first_translation_s=2.0,
        peak_memory_mb=345.0,
        peak_gpu_memory_mb=None,
        throughput=(Throughput(2, 8, 0.5, 1.9, 16.0, 80.0, 96.0),),
        alone=(AloneLatency(2, LATENCY),),
        open_loop=(loop, replace(loop, rate_per_s=20.0, achieved_per_s=15.0)),
        short_beside_long=ShortBesideLong(6, 60, 8, LATENCY, replace(LATENCY, p50_ms=77.7)),
    )


REPORT = BenchReport(
    checkpoint="tiny",
    version="abc",
    processor="An Abacus",
    cores=2,
    torch_version="2",
    slots=64,
    beam_size=2,
    sentences_from="8 from here",
    precisions=(precision_report(), precision_report("bf16")),
    unsupported=(Unsupported("int8", "there are no integers"),),
)


def test_the_command_measures_in_another_process_and_draws(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = tmp_path / "bench.svg"
    options = [
        *("--precision", "fp32", "--sentences", "7", "--beam-size", "1"),
        *("--rates", "20,40", "--seconds", "0.2", "--threads", "1", "--json"),
        *("--picture", str(drawn)),
    ]
    assert cli.run(["bench", str(tiny_checkpoint), *options]) == 0
    report = json.loads(capsys.readouterr().out)
    assert "7: the checkpoint's 5 examples, repeated" in report["sentences_from"]
    assert report["unsupported"] == []
    (measured,) = report["precisions"]
    assert (measured["precision"], measured["device"], measured["threads"]) == ("fp32", "cpu", 1)
    assert 0 < measured["import_s"] < measured["first_translation_s"]
    assert 0 < measured["load_s"] < measured["first_translation_s"]
    assert measured["peak_memory_mb"] > 50
    assert report["beam_size"] == 2  # the checkpoint's own, measured although only 1 was given
    assert [row["beam_size"] for row in measured["throughput"]] == [1, 2]
    for row in measured["throughput"]:
        assert row["sentences_per_s"] == pytest.approx(7 / row["seconds"])
        assert 0 < row["cores_used"] < 4
        assert row["target_tokens_per_s"] > 0
    assert [row["beam_size"] for row in measured["alone"]] == [1, 2]
    assert [row["rate_per_s"] for row in measured["open_loop"]] == [20, 40]
    for row in measured["open_loop"]:
        latency = row["latency"]
        assert 0 < latency["p50_ms"] <= latency["p99_ms"] <= latency["max_ms"]
    assert measured["short_beside_long"]["beside"]["num_requests"] >= 1
    assert b"<svg" in drawn.read_bytes()


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--rates", "5,many"], 2, "'many' is not a rate"),
        (["--rates", "0"], 2, "'0' is not a rate"),
        (["--seconds", "0"], 2, "--seconds"),
        (["--picture", "bench.bmp"], 1, "ends in .png or .svg"),
        (["--picture", "nowhere/bench.png"], 1, "the folder nowhere of --picture does not exist"),
        (["--source", "nothing.txt"], 1, "there is no file"),
        (["--precision", "fp3", "--precision", "fp4", "--threads", "1"], 1, "'fp3' is unknown"),
    ],
)
def test_a_wrong_option_gives_one_line(
    options: list[str],
    status: int,
    message: str,
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def measure_here(task: Task, *, progress: object) -> Unsupported:
        messages: list[tuple[str, Any]] = []
        process.run_task(task, lambda kind, content: messages.append((kind, content)))
        ((kind, reason),) = messages
        assert kind == "unsupported"
        return Unsupported(task.loading.precision, reason)

    monkeypatch.setattr("service.bench.command.measure_apart", measure_here)
    monkeypatch.chdir(tmp_path)
    assert cli.run(["bench", str(tiny_checkpoint), *options]) == status
    assert message in one_line_error(capsys)


def test_a_picture_without_matplotlib_is_refused_before_the_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"needs matplotlib.*dragoman\[training\]"):
        picture.check_picture(tmp_path / "bench.png")


def run_instead(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Makes the measuring process run this program."""
    command = [sys.executable, "-c", program]
    monkeypatch.setattr(process, "python_command", lambda _module: (command, dict(os.environ)))


def test_a_failed_measurement_reports_how_the_process_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for program, message in (
        ("import sys; sys.exit('the disk is full')", r"int8 ended .* 1: the disk is full"),
        ("import os; os.kill(os.getpid(), 9)", "int8 was ended by SIGKILL"),
        ("""print('{"error": "text 3: too long"}')""", "^text 3: too long$"),
    ):
        run_instead(monkeypatch, program)
        with pytest.raises(BenchError, match=message):
            measure_apart(TASK, progress=lambda num_done: None)


def test_a_report_passes_between_processes_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    report = precision_report()
    answer = json.dumps({"report": asdict(report)})
    run_instead(monkeypatch, f"""print('{{"progress": 3}}'); print({answer!r})""")
    progress: list[int] = []
    assert measure_apart(TASK, progress=progress.append) == report
    assert progress == [3]

    run_instead(monkeypatch, """print('{"unsupported": "there are no integers"}')""")
    unsupported = Unsupported("int8", "there are no integers")
    assert measure_apart(TASK, progress=progress.append) == unsupported


def test_a_text_that_cannot_be_translated_is_named(tiny_checkpoint: Path) -> None:
    loading = Loading(tiny_checkpoint, precision="fp32", threads=1)  # loads faster
    messages: list[tuple[str, object]] = []
    for bad in ("t\0o", "\u200b"):
        sentences = ("one", bad) if bad == "t\0o" else (bad,)
        process.run_task(
            Task(loading, BenchPlan(), sentences, time.monotonic()),
            lambda kind, content: messages.append((kind, content)),
        )
    assert [kind for kind, _ in messages] == ["error", "error"]
    assert "text 2: " in str(messages[0][1])
    assert "nothing to translate" in str(messages[1][1])


PARENT = """
from pathlib import Path
from service.bench.plan import BenchPlan, Task
from service.bench.process import measure_apart
from service.commands.loading import Loading
task = Task(Loading(Path("anywhere")), BenchPlan(), ("one",), 0.0)
measure_apart(task, progress=print)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_measuring_process_never_outlives_its_parent(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stderr=subprocess.DEVNULL) as parent:
        while not (children := children_of(parent.pid)):
            assert parent.poll() is None
            time.sleep(0.01)
        parent.send_signal(number)
        assert parent.wait() == -number
    while any(map(is_running, children)):
        time.sleep(0.01)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # a zombie has ended


def test_sentences_come_from_a_file_or_from_the_checkpoint(tmp_path: Path) -> None:
    source = tmp_path / "source.txt"
    source.write_text("one\n\n \ntwo\nthree\n", encoding="utf-8")
    assert sentences_of(source, 2, tmp_path, {})[0] == ("one", "two")
    metrics = {"examples": ["a", "", "b", 7]}
    assert sentences_of(None, 3, tmp_path, metrics)[0] == ("a", "b", "a")
    source.write_text("\n\n", encoding="utf-8")
    with pytest.raises(InputError, match="has no sentence"):
        sentences_of(source, 2, tmp_path, metrics)
    with pytest.raises(InputError, match="give a file of source sentences with --source"):
        sentences_of(None, 2, tmp_path, {})


def test_the_plan_counts_its_measurements() -> None:
    plan = BenchPlan(beam_sizes=(1, 5, 1), rates=(3.0, 4.0))
    assert plan.all_beam_sizes(5) == (1, 5)
    assert plan.all_beam_sizes(4) == (1, 5, 4)
    # each beam size all at once and one at a time, each rate, short beside long
    assert plan.num_measurements(4) == 3 * 2 + 2 + 1


def test_the_tables_show_every_number() -> None:
    lines = report_lines(REPORT)
    text = "\n".join(lines)
    for shown in ("int8 was not measured: there are no integers", "8 of 60 words", "77.7", "345"):
        assert shown in text
    for title in ("all sentences at once", "one sentence at a time", "requests at random times"):
        start = next(number for number, line in enumerate(lines) if line.startswith(title))
        head, first = lines[start + 1], lines[start + 2]
        assert head.startswith("precision")
        assert first.startswith("fp32")
        assert len(head) == len(first)


def test_the_picture_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "bench.png"
    picture.draw_picture(REPORT, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [each.name for each in tmp_path.iterdir()] == ["bench.png"]
