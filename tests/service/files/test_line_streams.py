"""Lines from and to pipes: answered in order, each as soon as possible."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from model.errors import InputError
from model.text.text_file import read_lines
from service.files.lines import FileLines, PipeLines
from service.files.output_format import LineFormat
from service.files.translate_file import translate_stream, write_whole
from tests.service.echo_translator import EchoTranslator
from tests.service.files.file_jobs import ODD_LINES, translated


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
