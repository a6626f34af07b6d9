"""File jobs: every line is kept; bad input is named and leaves nothing half-written."""

import gzip
import json
import os
from pathlib import Path

import pytest

from model.errors import InputError
from model.text.text_file import read_lines
from service.files.journal import JobError
from service.files.lines import survey
from service.files.output_format import LineFormat
from service.files.translate_file import FileJob, translate_file
from tests.service.echo_translator import EchoTranslator, reverse, run_job
from tests.service.files.file_jobs import ODD_LINES, translated


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


def test_no_lines_make_an_empty_gzip_file(tmp_path: Path) -> None:
    source = tmp_path / "in.txt"
    source.write_bytes(b"")
    run_job(source, tmp_path / "out.txt.gz")
    assert gzip.decompress((tmp_path / "out.txt.gz").read_bytes()) == b""
    assert survey(tmp_path / "out.txt.gz").num_lines == 0


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
