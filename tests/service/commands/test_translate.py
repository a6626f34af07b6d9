"""`dragoman translate`: files, pipes, Ctrl-C, full disks; the same text, the same translation."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from service import cli
from tests.service.commands.running_commands import lines_of, one_line_error
from tests.service.echo_translator import EchoModel, reverse


def test_translate_a_file_into_a_file(
    echo: EchoModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.txt.gz"
    source.write_bytes(gzip.compress("one\n\nüber\n".encode()))
    output = tmp_path / "out.txt"
    output.write_bytes(b"older\n")
    assert cli.run(["translate", "ckpt", str(source), "-o", str(output)]) == 0
    assert output.read_bytes() == "eno\n\nrebü\n".encode()
    said = capsys.readouterr()
    assert said.out == ""
    assert "3 lines in" in said.err


def test_translate_to_standard_output(
    echo: EchoModel, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    source = tmp_path / "in.txt"
    source.write_bytes(b"one\r\ntwo")
    assert cli.run(["translate", "ckpt", str(source)]) == 0
    assert capsysbinary.readouterr() == (b"eno\nowt\n", b"")
    assert cli.run(["translate", "ckpt", str(source), "--json", "-o", "-"]) == 0
    rows = [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]
    assert [(row["line"], row["text"]) for row in rows] == [(1, "eno"), (2, "owt")]
    assert cli.run(["translate", "ckpt", str(source), "-o", "/dev/null"]) == 0
    assert capsysbinary.readouterr().out == b""


def test_a_pipe_into_a_file(
    echo: EchoModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"one\ntwo\n")
    os.close(writer)
    with open(reader, encoding="utf-8") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert cli.run(["translate", "ckpt", "-", "-o", str(tmp_path / "out.txt")]) == 0
    assert (tmp_path / "out.txt").read_bytes() == b"eno\nowt\n"


def test_ctrl_c_prints_how_to_resume(
    echo: EchoModel,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, output = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_bytes(b"".join(b"%d\n" % number for number in range(3000)))
    step = echo.step

    def interrupted() -> Any:
        if len(echo.added) > 2048:
            raise KeyboardInterrupt
        return step()

    monkeypatch.setattr(echo, "step", interrupted)
    assert cli.run(["translate", "ckpt", str(source), "-o", str(output)]) == 130
    assert "2,048 of 3,000 lines are safe: the same command with --resume" in (
        capsys.readouterr().err
    )
    echo.waiting.clear()
    monkeypatch.setattr(echo, "step", step)
    assert cli.run(["translate", "ckpt", str(source), "-o", str(output), "--resume"]) == 0
    assert "3,000 lines (2,048 were done before)" in capsys.readouterr().err
    assert output.read_bytes() == b"".join(
        f"{reverse(str(number))}\n".encode() for number in range(3000)
    )


ECHO_PROCESS = """
import sys
from tests.service.echo_translator import EchoModel
import service.commands.translate as command
command.load_translator = lambda loading, many_texts: EchoModel()
command.search_settings = lambda translator, chosen: None
from service.cli import main
main()
"""


def echo_process(*arguments: str) -> list[str]:
    """The command in a process of its own, with every checkpoint an EchoModel."""
    return [sys.executable, "-c", ECHO_PROCESS, *arguments]


def test_a_closed_pipe_ends_the_command_silently(tmp_path: Path) -> None:
    source = tmp_path / "in.txt"
    source.write_bytes(b"line\n" * 100_000)
    command = echo_process("translate", "ckpt", str(source))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"enil\n"
        process.stdout.close()
        assert process.stderr.read() == b""


def test_lines_written_slowly_are_each_answered_at_once() -> None:
    with subprocess.Popen(
        echo_process("translate", "ckpt"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in (b"one\n", b"\n", b"three\n"):
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline() == reverse(line.decode().strip()).encode() + b"\n"
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.wait(60) == 0


def test_ctrl_c_at_the_prompt_is_status_130_and_no_traceback() -> None:
    with subprocess.Popen(
        echo_process("translate", "ckpt"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(b"one\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"eno\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr.read() == b""


def test_a_full_disk_under_standard_output_is_one_line(tmp_path: Path) -> None:
    source = tmp_path / "in.txt"
    source.write_bytes(b"line\n")
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "wb") as full:
        answer = subprocess.run(
            echo_process("translate", "ckpt", str(source)), stdout=full, stderr=subprocess.PIPE
        )
    assert answer.returncode == 1
    assert answer.stderr == b"error: No space left on device\n"


@pytest.mark.usefixtures("quick")
def test_the_same_text_gives_the_same_translation_however_it_comes(
    tiny_checkpoint: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    source, output = lines_of(tmp_path, 40), tmp_path / "out.txt"
    assert cli.run(["translate", str(tiny_checkpoint), str(source), "-o", str(output)]) == 0
    assert b"warning: " in capsysbinary.readouterr().err  # an untrained network never ends
    assert cli.run(["translate", str(tiny_checkpoint), str(source), "--slots", "3"]) == 0
    streamed = capsysbinary.readouterr().out
    assert streamed == output.read_bytes()
    for number in (0, 2, 3):
        alone = tmp_path / "alone.txt"
        alone.write_bytes(source.read_bytes().split(b"\n")[number] + b"\n")
        assert cli.run(["translate", str(tiny_checkpoint), str(alone)]) == 0
        assert capsysbinary.readouterr().out == streamed.split(b"\n")[number] + b"\n"


def test_lines_are_cut_into_sentences_when_asked(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.txt"
    source.write_text("Two pears. Ten apples.\n")
    found = {}
    for mode in ("sentence", "line", "none"):
        options = ["--segmentation", mode, "--alignments"]
        assert cli.run(["translate", str(tiny_checkpoint), str(source), *options]) == 0
        (row,) = [json.loads(line) for line in capsys.readouterr().out.split("\n")[:-1]]
        found[mode] = [segment["source"] for segment in row["segments"]]
    whole = ["Two pears. Ten apples."]
    assert found == {"sentence": ["Two pears.", "Ten apples."], "line": whole, "none": whole}


def test_a_job_is_resumed_only_with_its_segmentation(
    echo: EchoModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, output = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("a\n" * 3000)
    step = echo.step

    def interrupted(timeout_s: float | None = None) -> Any:
        if len(echo.added) > 2500:
            raise KeyboardInterrupt
        return step(timeout_s)

    monkeypatch.setattr(echo, "step", interrupted)
    command = ["translate", "ckpt", str(source), "-o", str(output)]
    assert cli.run([*command, "--segmentation", "sentence"]) == 130
    monkeypatch.setattr(echo, "step", step)
    echo.waiting.clear()
    capsys.readouterr()
    assert cli.run([*command, "--resume"]) == 1
    assert "this changed: segmentation" in one_line_error(capsys)
    assert cli.run([*command, "--segmentation", "sentence", "--resume"]) == 0


def test_alignments_and_alternatives(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = lines_of(tmp_path, 5)
    options = ["--n-best", "2", "--beam-size", "3", "--alignments"]
    assert cli.run(["translate", str(tiny_checkpoint), str(source), *options]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.split("\n")[:-1]]
    assert [row["line"] for row in rows] == [1, 2, 3, 4, 5]
    for row in rows:
        assert len(row["alternatives"]) == 1
        assert row["alternatives"][0]["score"] <= row["score"]
        (segment,) = row["segments"]
        assert len(segment["alignment"]) == len(segment["token_log_probs"])
        for weights in segment["alignment"]:
            assert len(weights) == len(segment["source_pieces"]) + 1  # EOS
            assert sum(weights) == pytest.approx(1, abs=0.01)


def test_impossible_search_settings_give_a_one_line_error(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["translate", str(tiny_checkpoint), str(lines_of(tmp_path, 1))]
    assert cli.run([*command, "--n-best", "4", "--beam-size", "2"]) == 1
    assert "n_best is 4 and beam_size 2" in one_line_error(capsys)
    assert cli.run([*command, "--device", "abacus"]) == 1
    assert "'abacus' is unknown" in one_line_error(capsys)


TRANSLATOR_JOB = """
import sys
from pathlib import Path
import torch
from model.translator import Translator
from service.files.translate_file import FileJob, translate_file
from service.files.output_format import LineFormat
from service.files.lines import survey

def run(checkpoint, source, output, resume):
    torch.set_num_threads(1)
    # In bf16 a sentence may depend on its batch, which is the same in the same window.
    translator = Translator.load(Path(checkpoint), precision="bf16")
    job = FileJob(Path(source), Path(output), LineFormat(), window_lines=40)
    found = survey(job.source)
    return translate_file(translator, job, found, {}, resume=resume, progress=lambda done: None)

if __name__ == "__main__":
    run(*sys.argv[1:], resume=False)
"""


@pytest.mark.usefixtures("quick")
def test_a_killed_job_of_a_real_translator_resumes_to_the_same_bytes(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    source, output, whole = lines_of(tmp_path, 200), tmp_path / "out.txt", tmp_path / "whole.txt"
    job: dict[str, Any] = {"__name__": "job"}
    exec(TRANSLATOR_JOB, job)
    job["run"](tiny_checkpoint, source, whole, resume=False)
    command = [sys.executable, "-c", TRANSLATOR_JOB, str(tiny_checkpoint), str(source), str(output)]
    with subprocess.Popen(command) as process:
        part = tmp_path / "out.txt.part"
        while not part.exists() or part.read_bytes().count(b"\n") < 80:
            assert process.poll() is None
            time.sleep(0.002)
        process.kill()
    assert not output.exists()
    assert job["run"](tiny_checkpoint, source, output, resume=True).num_resumed >= 80
    assert output.read_bytes() == whole.read_bytes()
