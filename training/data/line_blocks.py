"""Lines of UTF-8 files, plain or gzip, in blocks: one process reads them, any may decode them.

Lines end at "\\n" or "\\r\\n" and nowhere else; a byte-order mark is taken off. Other encodings,
NUL bytes, damaged gzip and huge lines raise CorpusError with file and line. Whatever stands before
the damage comes first, so the error is always about the first damage in the file.
"""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from training.errors import CorpusError

MAX_LINE_BYTES = 16 << 20  # a longer "line" is a file without line ends, or a decompression bomb
BLOCK_LINES = 5000
BLOCK_BYTES = 1 << 20  # and one line more

_GZIP_MAGIC = b"\x1f\x8b"
_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_BUFFER_BYTES = 1 << 18


@dataclass(frozen=True)
class LineBlock:
    """Lines that follow one another in a file, not decoded yet."""

    path: Path
    first_number: int  # counted from 1
    data: bytes  # whole lines; the very last of a file may lack its "\n"

    def lines(self) -> Iterator[str]:
        """The lines without their line ends; CorpusError at the first that is not UTF-8 text."""
        data = self.data.removeprefix(_UTF8_BOM) if self.first_number == 1 else self.data
        try:
            text = data.decode("utf-8")  # many lines at once, which is several times faster
        except UnicodeDecodeError:
            return self._one_by_one()
        if "\0" in text:
            return self._one_by_one()
        lines = text.split("\n")
        if self.data.endswith(b"\n"):
            lines.pop()
        return (line.removesuffix("\r") for line in lines) if "\r" in text else iter(lines)

    def _one_by_one(self) -> Iterator[str]:
        for number, line in enumerate(self.data.split(b"\n"), start=self.first_number):
            if number == 1:
                if line.startswith(_UTF16_BOMS):
                    raise CorpusError(f"{self.path} is UTF-16, not UTF-8; {_iconv('UTF-16')}")
                line = line.removeprefix(_UTF8_BOM)
            yield _decoded(line, self.path, number)


def _decoded(line: bytes, path: Path, number: int) -> str:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{path}, line {number}: not UTF-8 (byte 0x{line[error.start]:02x} at position "
            f"{error.start + 1}); {_iconv('ISO-8859-1')}, or from whatever it is in"
        ) from None
    if "\0" in text:
        raise CorpusError(
            f"{path}, line {number}: holds a NUL byte; if the file is UTF-16, {_iconv('UTF-16')}, "
            "else remove it"
        )
    return text.removesuffix("\r")


def _iconv(encoding: str) -> str:
    return f"convert it with `iconv -f {encoding} -t UTF-8`"


class LineReader:
    """Takes lines from an open file; made by `line_reader`."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self.path = path
        self.num_taken = 0
        self._readline = partial(stream.readline, MAX_LINE_BYTES + 1)
        self._given_back: list[bytes] = []
        self._damage: CorpusError | None = None  # met behind lines that were still good

    def take(self, count: int = BLOCK_LINES) -> list[bytes]:
        """The next lines, at most `count` and about BLOCK_BYTES; none at the end of the file."""
        lines, self._given_back = self._given_back[:count], self._given_back[count:]
        if not lines:
            if self._damage is not None:
                raise self._damage
            self._read(lines, count)
            if not lines and self._damage is not None:
                raise self._damage
        self.num_taken += len(lines)
        return lines

    def give_back(self, lines: list[bytes]) -> None:
        """The last lines taken are the next to be taken again."""
        self._given_back = lines + self._given_back
        self.num_taken -= len(lines)

    def _read(self, lines: list[bytes], count: int) -> None:
        """Fills `lines`; damage is kept for the next call."""
        num_bytes = 0
        try:
            with damage_named(self.path, lambda: self.num_taken + len(lines)):
                for line in islice(iter(self._readline, b""), count):
                    num_bytes += len(line)
                    if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
                        raise CorpusError(
                            f"{self.path}, line {self.num_taken + len(lines) + 1}: longer than "
                            f"{MAX_LINE_BYTES >> 20} MiB; put one sentence or paragraph on a line"
                        )
                    lines.append(line)
                    if num_bytes >= BLOCK_BYTES:
                        return
        except CorpusError as error:
            self._damage = error


@contextmanager
def line_reader(path: Path) -> Iterator[LineReader]:
    """A reader at the first line of a file."""
    with open_bytes(path) as stream:
        yield LineReader(path, stream)


def read_line_blocks(path: Path) -> Iterator[LineBlock]:
    """The whole file in blocks."""
    with line_reader(path) as reader:
        while lines := reader.take():
            yield LineBlock(path, reader.num_taken - len(lines) + 1, b"".join(lines))


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a file, decoded, without their line ends."""
    for block in read_line_blocks(path):
        yield from block.lines()


def open_file(path: Path) -> io.BufferedReader:
    """The file as it is on disk; CorpusError when there is none."""
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise CorpusError(f"there is no file {path}; check the path") from None
    except IsADirectoryError:
        raise CorpusError(f"{path} is a folder, not a file of text") from None


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, decompressed when it is gzip, whatever its name."""
    with open_file(path) as raw:
        if raw.peek(2)[:2] == _GZIP_MAGIC:
            # GzipFile.readline is slow Python; a BufferedReader over it reads lines in C.
            with io.BufferedReader(gzip.GzipFile(fileobj=raw), _BUFFER_BYTES) as stream:
                yield stream
        elif path.suffix.lower() == ".gz":
            raise CorpusError(
                f"{path} is named .gz but holds no gzip data; rename it or fetch it again"
            )
        else:
            yield raw


@contextmanager
def damage_named(path: Path, num_lines: Callable[[], int] | None) -> Iterator[None]:
    """Turns the decompressor's errors into a CorpusError that says how far reading came."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        after = f" after line {num_lines()}" if num_lines is not None else ""
        what = "ends too early" if isinstance(error, EOFError) else "is damaged"
        raise CorpusError(f"{path}: the gzip data {what}{after}; fetch the file again") from None
