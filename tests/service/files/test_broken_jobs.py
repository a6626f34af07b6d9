"""File jobs that are killed, stopped or interfered with go on to the same bytes, or say why not."""

import json
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from model.errors import DragomanError
from service.files.journal import JobError, job_paths
from service.files.lines import read_lines, survey
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
        process = subprocess.Popen(command)
        lines_before = journal.read_bytes().count(b"\n") if journal.exists() else 0
        while process.poll() is None and (
            not journal.exists() or journal.read_bytes().count(b"\n") <= lines_before
        ):
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


def test_a_half_written_window_or_journal_line_does_not_count(
    long_file: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.txt"
    interrupted_job(long_file, output)
    part, journal = job_paths(output)
    with part.open("ab") as file:
        file.write(b"half a wind")
    with journal.open("ab") as file:
        file.write(b'{"num_lines": 15, "num_b')
    assert run_job(long_file, output, resume=True).num_resumed == 10
    assert output.read_bytes() == translated(list(read_lines(long_file)))


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


def test_a_part_file_changed_or_gone_is_refused(long_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    interrupted_job(long_file, output)
    part, _ = job_paths(output)
    content = bytearray(part.read_bytes())
    content[0] ^= 1
    part.write_bytes(content)
    with pytest.raises(JobError, match="was changed since the job stopped"):
        run_job(long_file, output, resume=True)
    part.unlink()
    with pytest.raises(JobError, match="is gone"):
        run_job(long_file, output, resume=True)


def test_killed_between_the_rename_and_the_journals_end(long_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    _, journal = job_paths(output)
    kept: list[bytes] = []

    def keep_journal(num_done: int) -> None:
        kept.append(journal.read_bytes())

    job = FileJob(long_file, output, LineFormat(), window_lines=500)
    found, settings = survey(long_file), {"checkpoint": "abc"}
    translator = EchoTranslator()
    translate_file(translator, job, found, settings, resume=False, progress=keep_journal)
    content = output.read_bytes()
    record = {"num_lines": 500, "num_bytes": len(content), "sha256": survey(output).sha256}
    journal.write_bytes(kept[0] + json.dumps(record).encode() + b"\n")
    report = translate_file(
        translator, job, found, settings, resume=True, progress=lambda num_done: None
    )
    assert report.num_resumed == 500
    assert output.read_bytes() == content
    assert not journal.exists()


def test_files_of_others_are_left_alone(long_file: Path, tmp_path: Path) -> None:
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
