"""File jobs: every line kept, whatever it holds; killed at any moment, nothing half-written."""

import gzip
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from model.errors import DragomanError, InputError
from service.file_translation import (
    FileJob,
    Interrupted,
    translate_file,
    translate_stream,
    write_whole,
)
from service.job_journal import JobError, job_paths
from service.line_format import LineFormat
from service.text_lines import FileLines, PipeLines, read_lines, survey
from tests.service.echo_translator import EchoTranslator, reverse, run_job

ODD_LINES = [
    "plain",
    "",
    "   ",
    "\t",
    "tab\tbetween\tcolumns",
    "emoji \U0001f600\U0001f468‍\U0001f469‍\U0001f467 done",
    "vertical\x0btab form\x0cfeed",
    "file\x1csep group\x1dsep record\x1esep",
    "next\x85line line\u2028sep para\u2029sep",
    "bell\x07 escape\x1b[31m delete\x7f",
    "漢字かな交じり文。",
    "עברית ‏עם סימון",
    "zero\u200bwidth\ufeffspace",
    "x" * 100_000,
    "ends with space ",
]


@pytest.fixture
def odd_file(tmp_path: Path) -> Path:
    path = tmp_path / "odd.txt"
    path.write_bytes("".join(f"{line}\n" for line in ODD_LINES).encode())
    return path


@pytest.fixture
def long_file(tmp_path: Path) -> Path:
    path = tmp_path / "long.txt"
    generator = random.Random(7)
    lines = ["".join(generator.choices("abc défg", k=generator.randrange(30))) for _ in range(500)]
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return path


def translated(lines: list[str]) -> bytes:
    return "".join(f"{reverse(line)}\n" for line in lines).encode()


def test_order_and_count_are_kept_whatever_a_line_holds(odd_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    report = run_job(odd_file, output)
    assert output.read_bytes() == translated(ODD_LINES)
    assert report.num_lines == len(ODD_LINES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["odd.txt", "out.txt"]


def test_a_window_is_fed_longest_first(tmp_path: Path) -> None:
    source = tmp_path / "in.txt"
    source.write_bytes(b"a\nccc\nbb\ndddd\nf\nee\n")
    translator = EchoTranslator()
    translate_file(
        translator,
        FileJob(source, tmp_path / "out.txt", LineFormat(), window_lines=4),
        survey(source),
        {},
        resume=False,
        progress=lambda num_done: None,
    )
    assert translator.added == ["dddd", "ccc", "bb", "a", "ee", "f"]
    assert (tmp_path / "out.txt").read_bytes() == b"a\nccc\nbb\ndddd\nf\nee\n"


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"no newline at the end", ["no newline at the end"]),
        (b"one\r\ntwo\r\n", ["one", "two"]),
        (b"one\r\ntwo\r", ["one", "two"]),
        (b"a\rb\nc\r\r\n", ["a\rb", "c\r"]),
        (b"\xef\xbb\xbfmarked\n", ["marked"]),
        (b"\r\n\r\n", ["", ""]),
    ],
)
def test_line_ends(tmp_path: Path, content: bytes, lines: list[str]) -> None:
    source = tmp_path / "in.txt"
    source.write_bytes(content)
    assert list(read_lines(source)) == lines
    assert survey(source).num_lines == len(lines)
    run_job(source, tmp_path / "out.txt")
    expected = "".join(reverse(line).replace("\r", " ") + "\n" for line in lines)
    assert (tmp_path / "out.txt").read_bytes() == expected.encode()


def test_a_newline_inside_a_translation_does_not_add_a_line(tmp_path: Path) -> None:
    class Verbose(EchoTranslator):
        def add(self, text: str, search: object = None, **how: object) -> int:
            return super().add("one\r\ntwo\nthree\rfour"[::-1])

    source = tmp_path / "in.txt"
    source.write_bytes(b"x\n")
    translate_file(
        Verbose(),
        FileJob(source, tmp_path / "out.txt", LineFormat()),
        survey(source),
        {},
        resume=False,
        progress=lambda num_done: None,
    )
    assert (tmp_path / "out.txt").read_bytes() == b"one two three four\n"


def test_json_lines(odd_file: Path, tmp_path: Path) -> None:
    run_job(odd_file, tmp_path / "out.jsonl", form=LineFormat(as_json=True))
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().split(b"\n")[:-1]]
    assert [row["text"] for row in rows] == [reverse(line) for line in ODD_LINES]
    assert [row["line"] for row in rows] == list(range(1, len(ODD_LINES) + 1))


@pytest.mark.parametrize(
    ("content", "culprit"),
    [
        (b"good\nL\xe4tin\n", "line 2: not UTF-8 (byte 2 of the line is 0xe4)"),
        (b"good\ngood\nb\0d\n", "line 3: holds a NUL character (byte 2"),
        ("UTF-16".encode("utf-16"), "UTF-16, not UTF-8"),
        (b"good\nplease refuse this\n", "line 2: text is refused"),
    ],
)
def test_bad_text_names_file_and_line_and_writes_nothing(
    tmp_path: Path, content: bytes, culprit: str
) -> None:
    source, output = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_bytes(content)
    output.write_bytes(b"older\n")
    with pytest.raises(InputError) as raised:
        run_job(source, output)
    assert culprit in str(raised.value)
    assert "in.txt" in str(raised.value)
    assert output.read_bytes() == b"older\n"


def test_gzip_in_and_out(odd_file: Path, tmp_path: Path) -> None:
    packed = tmp_path / "in.txt.gz"
    packed.write_bytes(gzip.compress(odd_file.read_bytes()))
    run_job(packed, tmp_path / "out.txt.gz")
    run_job(packed, tmp_path / "again.txt.gz")
    content = (tmp_path / "out.txt.gz").read_bytes()
    assert gzip.decompress(content) == translated(ODD_LINES)
    assert content == (tmp_path / "again.txt.gz").read_bytes()


@pytest.mark.parametrize("damage", ["cut", "flip", "not gzip"])
def test_damaged_gzip_is_refused(tmp_path: Path, damage: str) -> None:
    content = bytearray(gzip.compress(os.urandom(5000).hex().encode() + b"\n"))
    if damage == "cut":
        del content[-100:]
    elif damage == "flip":
        content[len(content) // 2] ^= 0xFF
    else:
        content = bytearray(b"plain text\n")
    source = tmp_path / "in.txt.gz"
    source.write_bytes(content)
    with pytest.raises(InputError, match=r"in\.txt\.gz.*gzip"):
        survey(source)


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        survey(tmp_path / "nowhere.txt")
    with pytest.raises(InputError, match="is a folder"):
        survey(tmp_path)


def test_the_input_is_never_overwritten(odd_file: Path, tmp_path: Path) -> None:
    before = odd_file.read_bytes()
    link = tmp_path / "link.txt"
    link.symlink_to(odd_file)
    part = tmp_path / "result.part"
    part.write_bytes(before)
    for source, output in ((odd_file, odd_file), (odd_file, link), (part, tmp_path / "result")):
        with pytest.raises(JobError, match="is the input itself"):
            run_job(source, output)
    assert odd_file.read_bytes() == part.read_bytes() == before


def test_output_that_cannot_be_written_is_named(odd_file: Path, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="there is no folder"):
        run_job(odd_file, tmp_path / "nowhere" / "out.txt")
    with pytest.raises(JobError, match="is a folder"):
        run_job(odd_file, tmp_path)


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


def stream(content: bytes, tmp_path: Path, form: LineFormat | None = None) -> bytes:
    source = tmp_path / "stream.txt"
    source.write_bytes(content)
    written: list[bytes] = []
    translate_stream(
        EchoTranslator(), FileLines(source), "in", form or LineFormat(), None, write=written.append
    )
    return b"".join(written)


def test_streams_keep_order(odd_file: Path, long_file: Path, tmp_path: Path) -> None:
    assert stream(odd_file.read_bytes(), tmp_path) == translated(ODD_LINES)
    long = long_file.read_bytes() * 3
    assert stream(long, tmp_path) == translated(list(read_lines(long_file))) * 3
    assert stream(b"", tmp_path) == b""


def test_a_pipe_answers_each_line_without_waiting_for_the_next() -> None:
    reader, writer = os.pipe()
    written: list[bytes] = []

    def answer(data: bytes) -> None:
        """Send the next line only when the former was answered, as a person would."""
        written.append(data)
        if len(written) == 1:
            os.write(writer, b"and tw")
            os.write(writer, "o\r\n\nüber".encode())
            os.close(writer)

    os.write(writer, b"one\n")
    lines = PipeLines(reader, "standard input")
    report = translate_stream(
        EchoTranslator(), lines, "standard input", LineFormat(), None, write=answer
    )
    os.close(reader)
    assert report.num_lines == 4
    assert written[0] == b"eno\n"
    assert b"".join(written) == "eno\nowt dna\n\nrebü\n".encode()


@pytest.mark.parametrize(
    ("bad", "culprit"),
    [(b"L\xe4tin", "not UTF-8"), (b"N\0L", "NUL"), (b"refuse", "text is refused")],
)
def test_a_stream_writes_what_precedes_a_bad_line(bad: bytes, culprit: str) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"one\ntwo\n" + bad + b"\nfour\n")
    os.close(writer)
    written: list[bytes] = []
    lines = PipeLines(reader, "standard input")
    with pytest.raises(InputError, match=f"standard input, line 3: .*{culprit}"):
        translate_stream(
            EchoTranslator(), lines, "standard input", LineFormat(), None, write=written.append
        )
    os.close(reader)
    assert b"".join(written) == b"eno\nowt\n"


def test_a_stream_into_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    output = tmp_path / "out.txt.gz"

    def fill(write: Callable[[bytes], object]) -> None:
        write(b"one\n")
        write(b"two\n")

    write_whole(output, fill)
    assert gzip.decompress(output.read_bytes()) == b"one\ntwo\n"

    def fail(write: object) -> None:
        raise InputError("line 3 is bad")

    with pytest.raises(InputError):
        write_whole(output, fail)
    assert gzip.decompress(output.read_bytes()) == b"one\ntwo\n"
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt.gz"]
