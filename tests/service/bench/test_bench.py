"""`dragoman bench` from the command line to the picture; what it drives is tested beside this."""

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
import torch

from model.config import ModelConfig
from model.errors import ConfigError, InputError
from service import cli
from service.bench import picture, process
from service.bench.flops import Lengths, Product
from service.bench.latency import ShortBesideLong
from service.bench.offline import Machine, OfflineRun, ceilings_of, throughput_of
from service.bench.open_loop import LatencySummary, OpenLoop
from service.bench.peak import copy_ceiling, matrix_ceiling, product_seconds, torch_threads
from service.bench.plan import BenchPlan, Task, sentences_of
from service.bench.process import BenchError, measure_apart
from service.bench.report import (
    Alone,
    BenchReport,
    Ceilings,
    PrecisionReport,
    StageWork,
    Throughput,
    Unsupported,
)
from service.bench.table import report_lines
from service.commands.loading import Loading
from tests.networks import SMALL
from tests.service.commands.running_commands import one_line_error

CPU = torch.device("cpu")
LATENCY = LatencySummary(3, 1.0, 2.0, 3.0, 4.0, 5.0)


def precision_report(precision: str = "fp32", **changes: Any) -> PrecisionReport:
    """One with a number for everything."""
    stages = (
        StageWork("encoder", 100.0, 0.25, 1.5, 0.5),
        StageWork("output", 300.0, 0.75, 2.5, 0.75),
    )
    loop = OpenLoop(10.0, 5.0, 9.5, 2, 1, LATENCY)
    report = PrecisionReport(
        precision=precision,
        device="cpu",
        threads=2,
        import_s=1.5,
        load_s=0.25,
        first_translation_s=2.0,
        peak_memory_mb=345.0,
        peak_gpu_memory_mb=None,
        throughput=(Throughput(2, 8, 0.5, 1.9, 16.0, 80.0, 96.0, 4e9, 0.5, 0.125),),
        alone=(Alone(2, LATENCY),),
        open_loop=(loop, replace(loop, rate_per_s=20.0, achieved_per_s=15.0)),
        short_beside_long=ShortBesideLong(6, 60, 8, LATENCY, replace(LATENCY, p50_ms=77.7)),
        ceilings=Ceilings(8e9, 16e9, 2, 8, 12, 4_000_000, stages, 250.0, 0.4),
    )
    return replace(report, **changes)


def bench_report(*precisions: PrecisionReport) -> BenchReport:
    return BenchReport(
        checkpoint="tiny",
        version="abc",
        processor="An Abacus",
        cores=2,
        torch_version="2",
        slots=64,
        beam_size=2,
        sentences_from="8 from here",
        precisions=precisions,
        unsupported=(Unsupported("int8", "there are no integers"),),
    )


def test_everything_is_measured_in_a_process_of_its_own(
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
    (found,) = report["precisions"]
    assert (found["precision"], found["device"], found["threads"]) == ("fp32", "cpu", 1)
    assert 0 < found["import_s"] < found["first_translation_s"]
    assert 0 < found["load_s"] < found["first_translation_s"]
    assert found["peak_memory_mb"] > 50
    assert report["beam_size"] == 2  # the checkpoint's own, measured though not asked for
    assert [row["beam_size"] for row in found["throughput"]] == [1, 2]
    for row in found["throughput"]:
        assert row["sentences_per_s"] == pytest.approx(7 / row["seconds"])
        assert 0 < row["share_of_ceiling"] < 1
        assert 0 < row["share_of_copy_ceiling"] < 1
    assert [row["beam_size"] for row in found["alone"]] == [1, 2]
    assert [row["rate_per_s"] for row in found["open_loop"]] == [20, 40]
    for row in found["open_loop"]:
        latency = row["latency"]
        assert 0 < latency["p50_ms"] <= latency["p99_ms"] <= latency["max_ms"]
    assert found["short_beside_long"]["beside"]["num_requests"] >= 1
    stages = found["ceilings"]["stages"]
    assert sum(stage["share_of_work"] for stage in stages) == pytest.approx(1)
    assert b"<svg" in drawn.read_bytes()


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--rates", "5,many"], 2, "'many' is no rate"),
        (["--rates", "0"], 2, "'0' is no rate"),
        (["--rates", "nan"], 2, "'nan' is no rate"),
        (["--beam-size", "0"], 2, "--beam-size"),
        (["--seconds", "0"], 2, "--seconds"),
        (["--picture", "bench.bmp"], 1, "end in .png or .svg"),
        (["--picture", "nowhere/bench.png"], 1, "there is no folder nowhere"),
        (["--source", "nothing.txt"], 1, "there is no file"),
        (["--precision", "fp3", "--precision", "fp4"], 1, "'fp3' is unknown"),
        (["--device", "abacus"], 1, "'abacus' is unknown"),
    ],
)
def test_wrong_options_are_one_line(
    options: list[str],
    status: int,
    said: str,
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def measure_here(task: Task, *, progress: object) -> Unsupported:
        answers: list[tuple[str, Any]] = []
        process.answer(task, lambda kind, content: answers.append((kind, content)))
        ((kind, reason),) = answers
        assert kind == "unsupported"
        return Unsupported(task.loading.precision, reason)

    monkeypatch.setattr("service.bench.run.measure_apart", measure_here)
    monkeypatch.chdir(tmp_path)
    assert cli.run(["bench", str(tiny_checkpoint), *options]) == status
    assert said in one_line_error(capsys)


def test_a_picture_without_matplotlib_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"needs matplotlib.*dragoman\[training\]"):
        picture.check_picture(tmp_path / "bench.png")


def run_instead(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """The process that measures runs this."""
    command = [sys.executable, "-c", program]
    monkeypatch.setattr(process, "python_command", lambda _module: (command, dict(os.environ)))


def test_a_failed_measurement_says_how_it_ended(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task(Loading(tiny_checkpoint), BenchPlan(), ("one",), 0.0)
    for program, said in (
        ("import sys; sys.exit('the disk is on fire')", r"fp32 ended .* 1: the disk is on fire"),
        ("import os; os.kill(os.getpid(), 9)", "fp32 was ended by SIGKILL"),
        ("""print('{"error": "text 3: too odd"}')""", "^text 3: too odd$"),
    ):
        run_instead(monkeypatch, program)
        with pytest.raises(BenchError, match=said):
            measure_apart(
                replace(task, loading=Loading(tiny_checkpoint, precision="fp32")),
                progress=lambda num_done: None,
            )


def test_a_report_survives_the_way_between_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    report = precision_report()
    answer = json.dumps({"report": asdict(report)})
    program = f"""print('{{"progress": 3}}'); print({answer!r})"""
    run_instead(monkeypatch, program)
    heard: list[int] = []
    task = Task(Loading(Path("anywhere"), precision="int8"), BenchPlan(), ("one",), 0.0)
    assert measure_apart(task, progress=heard.append) == report
    assert heard == [3]

    program = """print('{"unsupported": "there are no integers"}')"""
    run_instead(monkeypatch, program)
    refused = Unsupported("int8", "there are no integers")
    assert measure_apart(task, progress=heard.append) == refused


def test_a_text_that_cannot_be_translated_is_named(tiny_checkpoint: Path) -> None:
    loading = Loading(tiny_checkpoint, precision="fp32", threads=1)  # loaded sooner
    task = Task(loading, BenchPlan(), ("one", "t\0o"), time.monotonic())
    answers: list[tuple[str, object]] = []
    process.answer(task, lambda kind, content: answers.append((kind, content)))
    ((kind, reason),) = answers
    assert kind == "error"
    assert "text 2: " in str(reason)
    process.answer(
        replace(task, sentences=("\u200b",)), lambda kind, content: answers.append((kind, content))
    )
    assert "nothing to translate" in str(answers[-1][1])


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL])
def test_the_measuring_process_never_outlives_the_command(
    blow: signal.Signals, tiny_checkpoint: Path
) -> None:
    command = "from service.cli import main; main()"
    arguments = ["bench", str(tiny_checkpoint), "--threads", "1", "--precision", "fp32"]
    bench = subprocess.Popen(
        [sys.executable, "-c", command, *arguments], stderr=subprocess.PIPE, text=True
    )
    with bench:
        while not (children := children_of(bench.pid)):
            assert bench.poll() is None
            time.sleep(0.01)
        bench.send_signal(blow)
        assert bench.wait() == (130 if blow == signal.SIGINT else -blow)
        assert bench.stderr is not None
        assert "Traceback" not in bench.stderr.read()
    while any(map(is_running, children)):  # the test run's limit of time ends a wait without end
        time.sleep(0.01)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # ended, and nobody has asked how


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
    # each beam at once and alone, each rate, short beside long, ceilings
    assert plan.num_measurements(4) == 3 * 2 + 2 + 2


def test_shares_of_the_ceiling_by_hand() -> None:
    config = ModelConfig(**SMALL)
    run = OfflineRun(1, 2, 0.5, 1.0, 10, 12, [Lengths(5, 6), Lengths(7, 8)])
    found = throughput_of(run, config, Machine("fp32", CPU, 1e6, 1e8), slots=64)
    assert (found.sentences_per_s, found.source_tokens_per_s) == (4.0, 20.0)
    assert found.share_of_ceiling == pytest.approx(found.multiply_adds_per_s / 1e6)
    ceilings = ceilings_of(run, config, Machine("fp32", CPU, 1e6, 1e8), slots=64)
    assert (ceilings.num_sentences, ceilings.source_tokens) == (2, 6)
    tokens = 14  # with both EOS
    work = sum(stage.multiply_adds for stage in ceilings.stages) * tokens
    assert work / 0.5 == pytest.approx(found.multiply_adds_per_s)
    # 14 tokens are 7 steps of both sentences, in half a second
    copied = ceilings.bytes_per_step * 14 / 1e8
    assert found.share_of_copy_ceiling == pytest.approx(copied)
    bare_us = sum(stage.bare_us or 0 for stage in ceilings.stages)
    assert ceilings.bare_tokens_per_s == pytest.approx(1e6 / bare_us)
    assert ceilings.share_of_bare == pytest.approx(tokens / 0.5 * bare_us / 1e6)

    unknown = Machine("fp32", CPU, None, 1e8)
    assert throughput_of(run, config, unknown, slots=1).share_of_ceiling is None
    assert ceilings_of(run, config, unknown, slots=1).stages[0].bare_share_of_ceiling is None


def test_ceilings_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.bench.peak._SECONDS", 0.0)
    monkeypatch.setattr("service.bench.peak._SHAPE_SECONDS", 0.0)
    monkeypatch.setattr("service.bench.peak._MATRICES", {"cpu": (64, 128)})
    monkeypatch.setattr("service.bench.peak._COPIED_BYTES", {"cpu": 1 << 20})
    for precision in ("fp32", "bf16"):
        assert (matrix_ceiling(precision, CPU) or 0) > 1e6
    assert copy_ceiling(CPU) > 1e6
    states = Product(4, 8, 8, count=3, weights=False)
    assert (product_seconds(states, "int8", CPU) or 0) > 0

    def refuse(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError  # as torch does where a device has no such product

    monkeypatch.setattr(torch, "_int_mm", refuse)
    assert matrix_ceiling("int8", CPU) is None
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_the_table_has_every_number() -> None:
    lines = report_lines(bench_report(precision_report(), precision_report("bf16")))
    text = "\n".join(lines)
    wanted = ("no int8: there are no integers", "8 of 60 words", "77.7", "345", "75.0 %")
    for shown in wanted:
        assert shown in text
    for title in ("all sentences at once", "one sentence alone", "requests that arrive"):
        start = next(number for number, line in enumerate(lines) if line.startswith(title))
        head, first = lines[start + 1], lines[start + 2]
        assert head.startswith("precision")
        assert first.startswith("fp32")
        assert len(head) == len(first)
    gaps = replace(precision_report().ceilings, multiply_adds_per_s=None, bare_tokens_per_s=None)
    assert "  -  " in "\n".join(report_lines(bench_report(precision_report(ceilings=gaps))))


def test_the_picture_is_drawn_whole(tmp_path: Path) -> None:
    path = tmp_path / "bench.png"
    picture.draw_picture(bench_report(precision_report(), precision_report("bf16")), path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [each.name for each in tmp_path.iterdir()] == ["bench.png"]
