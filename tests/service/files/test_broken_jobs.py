"""File jobs that are killed, stopped or disturbed are resumed to the same bytes, or refused."""

import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from model.errors import DragomanError
from model.text.text_file import read_lines
from service.files.journal import JobError, job_paths
from service.files.lines import survey
from service.files.output_format import LineFormat
from service.files.translate_file import FileJob, Interrupted, translate_file
from tests.service.echo_translator import EchoTranslator, run_job
from tests.service.files.file_jobs import translated


@pytest.mark.parametrize("name", ["out.txt", "out.txt.gz"])
def test_killed_at_any_moment_and_resumed_equals_unbroken(
    long_file: Path, tmp_path: Path, name: str
) -> None:
    whole = tmp_path / f"whole-{name}"
    run_job(long_file, whole, window_lines=20)
    output = tmp_path / name
    part, journal = job_paths(output)
    command = [
        *(sys.executable, "-m", "tests.service.echo_translator"),
        *(str(long_file), str(output), "20", "0.002", "--resume"),
    ]
    generator = random.Random(name)
    num_kills = 0
    for _ in range(4):
        size_before = part.stat().st_size if part.exists() else 0
        process = subprocess.Popen(command)
        while process.poll() is None and (not part.exists() or part.stat().st_size <= size_before):
            time.sleep(0.001)
        time.sleep(generator.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        num_kills += process.wait() == -signal.SIGKILL
        assert not output.exists() or output.read_bytes() == whole.read_bytes()
    assert num_kills >= 2
    report = run_job(long_file, output, window_lines=20, resume=True)
    assert report.num_resumed > 0
    assert output.read_bytes() == whole.read_bytes()
    assert not part.exists()
    assert not journal.exists()


class _StopsAfter(EchoTranslator):
    """Ctrl-C in the middle of a job."""

    def step(self, timeout_s=None):  # type: ignore[no-untyped-def]  # as the class above
        if len(self.added) >= 12:
            raise KeyboardInterrupt
        return super().step()


def interrupted_job(source: Path, output: Path) -> None:
    """Leaves the files of a job of windows of 5 lines that stopped in its third window."""
    with pytest.raises(Interrupted, match=r"10 of 500 lines are safe.*--resume"):
        translate_file(
            _StopsAfter(),
            FileJob(source, output, LineFormat(), window_lines=5),
            survey(source),
            {"checkpoint": "abc"},
            resume=False,
            progress=lambda num_done: None,
        )


def test_an_interrupted_job_is_reported_then_resumed(long_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    output.write_bytes(b"older\n")
    interrupted_job(long_file, output)
    assert output.read_bytes() == b"older\n"
    with pytest.raises(JobError, match=r"stopped after 10 lines; go on with --resume"):
        run_job(long_file, output)
    assert run_job(long_file, output, resume=True).num_resumed == 10
    assert output.read_bytes() == translated(list(read_lines(long_file)))


@pytest.mark.parametrize("num_more", [0, 1, 4])
def test_lines_of_an_unfinished_window_do_not_count(
    long_file: Path, tmp_path: Path, num_more: int
) -> None:
    output = tmp_path / "out.txt"
    interrupted_job(long_file, output)
    part, _ = job_paths(output)
    with part.open("ab") as file:
        file.write(b"a line\n" * num_more + b"half a li")
    assert run_job(long_file, output, resume=True).num_resumed == 10
    assert output.read_bytes() == translated(list(read_lines(long_file)))


def test_an_unfinished_gzip_member_does_not_count(long_file: Path, tmp_path: Path) -> None:
    output, whole = tmp_path / "out.txt.gz", tmp_path / "whole.txt.gz"
    run_job(long_file, whole)
    for num_bytes in (0, 5, 100, 1000, whole.stat().st_size - 1):
        interrupted_job(long_file, output)
        part, _ = job_paths(output)
        members = part.read_bytes()
        assert whole.read_bytes().startswith(members)
        part.write_bytes(whole.read_bytes()[: max(num_bytes, len(members))] + b"torn"[:num_bytes])
        num_resumed = run_job(long_file, output, resume=True).num_resumed
        assert num_resumed % 5 == 0
        assert num_resumed >= 10
        assert output.read_bytes() == whole.read_bytes()


def test_a_job_killed_before_the_rename_has_nothing_left_to_translate(
    long_file: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.txt"
    interrupted_job(long_file, output)
    part, _ = job_paths(output)
    part.write_bytes(translated(list(read_lines(long_file))))
    assert run_job(long_file, output, resume=True).num_resumed == 500
    assert output.read_bytes() == translated(list(read_lines(long_file)))


def test_a_last_window_may_be_shorter(long_file: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_bytes(b"line\n" * 12)
    part, journal = job_paths(output)
    kept: list[bytes] = []

    def keep(num_done: int) -> None:
        kept.append(journal.read_bytes())

    job = FileJob(source, output, LineFormat(), window_lines=5)
    translate_file(
        EchoTranslator(), job, survey(source), {"checkpoint": "abc"}, resume=False, progress=keep
    )
    journal.write_bytes(kept[0])
    part.write_bytes(output.read_bytes())
    assert run_job(source, output, resume=True).num_resumed == 12


def test_a_job_is_not_resumed_as_another(long_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    interrupted_job(long_file, output)
    with pytest.raises(JobError, match=r"this changed: checkpoint;"):
        run_job(long_file, output, resume=True, settings={"checkpoint": "def"})
    with pytest.raises(JobError, match=r"this changed: window;"):
        run_job(long_file, output, resume=True, window_lines=6)
    long_file.write_bytes(long_file.read_bytes() + b"more\n")
    with pytest.raises(JobError, match=r"this changed: input;"):
        run_job(long_file, output, resume=True)


def test_a_job_without_its_part_file_starts_over(long_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    interrupted_job(long_file, output)
    part, _ = job_paths(output)
    part.unlink()  # also the state after a kill between the rename and the end of the journal
    assert run_job(long_file, output, resume=True).num_resumed == 0
    assert output.read_bytes() == translated(list(read_lines(long_file)))


def test_files_that_are_not_of_a_job_are_not_overwritten(long_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    part, journal = job_paths(output)
    part.write_bytes(b"a download\n")
    with pytest.raises(JobError, match="no journal belongs to it"):
        run_job(long_file, output)
    assert part.read_bytes() == b"a download\n"
    part.unlink()
    journal.write_bytes(b"dear diary\n")
    with pytest.raises(JobError, match="is not the journal of a file job"):
        run_job(long_file, output, resume=True)
    assert journal.read_bytes() == b"dear diary\n"


def test_two_processes_do_not_write_one_output(long_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    _, journal = job_paths(output)
    command = [
        *(sys.executable, "-m", "tests.service.echo_translator"),
        *(str(long_file), str(output), "20", "0.05"),
    ]
    with subprocess.Popen(command) as process:
        try:
            while not journal.exists() or not journal.read_bytes():
                time.sleep(0.005)
            with pytest.raises(JobError, match="another process is writing"):
                run_job(long_file, output, window_lines=20, resume=True)
        finally:
            process.kill()


def test_full_disk_keeps_what_was_done(long_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        with pytest.raises(DragomanError, match=r"cannot write .*: File too large; .*--resume"):
            run_job(long_file, output, window_lines=20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not output.exists()
    assert run_job(long_file, output, window_lines=20, resume=True).num_resumed > 0
    assert output.read_bytes() == translated(list(read_lines(long_file)))
