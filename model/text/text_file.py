"""Reads the lines of UTF-8 text files, plain or gzip, in blocks of bounded size.

Lines end at "\\n" or "\\r\\n" and nowhere else; a "\\r" elsewhere is text. A byte order mark at the
start of a file is dropped. Gzip is recognised by its content. Other encodings, NUL characters,
damaged gzip and very long lines raise InputError with file and line. The lines before the damage
are returned first, so the error is always about the first damage in the file.
"""

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from model.errors import InputError

MAX_LINE_BYTES = 16 << 20  # a longer "line" is a file without line ends, or a decompression bomb
BLOCK_LINES = 5000
BLOCK_BYTES = 1 << 20  # and one line more

_GZIP_MAGIC = b"\x1f\x8b"
_BUFFER_BYTES = 1 << 18
_LINE_BREAKS = re.compile(r"[\r\n]+")


@dataclass(frozen=True)
class LineBlock:
    """Consecutive lines of a file, not decoded yet; any process can decode them."""

    path: Path
    first_number: int  # counted from 1
    data: bytes  # whole lines; the very last of a file may lack its "\n"

    def lines(self) -> Iterator[str]:
        """The lines without their line ends; InputError at the first that is not UTF-8 text."""
        bom = codecs.BOM_UTF8 if self.first_number == 1 else b""
        try:
            text = self.data.removeprefix(bom).decode("utf-8")  # all at once: several times faster
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
            yield decode_line(line, str(self.path), number)


def decode_line(line: bytes, name: str, number: int) -> str:
    """One line, without its "\\n", as text; InputError names file and line if it is not UTF-8."""
    if number == 1:
        if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise InputError(f"{name} is UTF-16, not UTF-8; convert it: {_iconv('UTF-16')}")
        line = line.removeprefix(codecs.BOM_UTF8)
    if b"\0" in line:
        raise InputError(
            f"{name}, line {number}: holds a NUL character (byte {line.index(0) + 1} of the line); "
            f"if the file is UTF-16, convert it: {_iconv('UTF-16')}; if not, remove the NULs: "
            f"tr -d '\\000' < OLD > NEW"
        )
    try:
        return line.decode("utf-8").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name}, line {number}: not UTF-8 (byte {error.start + 1} of the line is "
            f"0x{line[error.start]:02x}); convert the file from its encoding, for Latin-1: "
            f"{_iconv('ISO-8859-1')}"
        ) from None


def _iconv(encoding: str) -> str:
    return f"iconv -f {encoding} -t UTF-8 < OLD > NEW"


class LineReader:
    """Takes lines from an open file; `line_reader` makes one."""

    def __init__(self, path: Path, stream: io.BufferedReader) -> None:
        self.path = path
        self.num_taken = 0
        self._readline = partial(stream.readline, MAX_LINE_BYTES + 1)
        self._given_back: list[bytes] = []
        self._damage: InputError | None = None  # found after lines that were still good

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
        """Puts back the last lines taken: the next call of `take` returns them again."""
        self._given_back = lines + self._given_back
        self.num_taken -= len(lines)

    def _read(self, lines: list[bytes], count: int) -> None:
        """Fills `lines`; keeps an error for the next call."""
        num_bytes = 0
        try:
            with damage_named(self.path, lambda: self.num_taken + len(lines)):
                for line in islice(iter(self._readline, b""), count):
                    num_bytes += len(line)
                    if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
                        raise InputError(
                            f"{self.path}, line {self.num_taken + len(lines) + 1}: longer than "
                            f"{MAX_LINE_BYTES >> 20} MiB; put one sentence or paragraph on a line"
                        )
                    lines.append(line)
                    if num_bytes >= BLOCK_BYTES:
                        return
        except InputError as error:
            self._damage = error


@contextmanager
def line_reader(path: Path) -> Iterator[LineReader]:
    """A reader at the first line of a file."""
    with open_bytes(path) as stream:
        yield LineReader(path, stream)


def read_line_blocks(path: Path) -> Iterator[LineBlock]:
    """All lines of a file, in blocks."""
    with line_reader(path) as reader:
        while lines := reader.take():
            yield LineBlock(path, reader.num_taken - len(lines) + 1, b"".join(lines))


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a file, decoded, without their line ends."""
    for block in read_line_blocks(path):
        yield from block.lines()


def open_file(path: Path) -> io.BufferedReader:
    """The file opened for reading bytes as they are on disk."""
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise InputError(f"there is no file {path}; check the path") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder; name a text file in it") from None
    except PermissionError:
        raise InputError(f"{path} may not be read by this user; change its permissions") from None


@contextmanager
def open_bytes(path: Path) -> Iterator[io.BufferedReader]:
    """The file's bytes, decompressed if they are gzip, whatever the file's name."""
    with open_file(path) as raw:
        if raw.peek(2)[:2] == _GZIP_MAGIC:
            # GzipFile.readline is slow Python; a BufferedReader over it reads lines in C.
            unpacked: io.BufferedReader = io.BufferedReader(
                gzip.GzipFile(fileobj=raw), _BUFFER_BYTES
            )
            with unpacked:
                yield unpacked
        elif path.suffix.lower() == ".gz":
            raise InputError(
                f"{path} is named .gz but holds no gzip data; rename it or fetch it again"
            )
        else:
            yield raw


@contextmanager
def damage_named(path: Path, num_lines: Callable[[], int] | None) -> Iterator[None]:
    """Turns the decompressor's errors into an InputError that says how far reading came."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        after = f" after line {num_lines()}" if num_lines is not None else ""
        what = "ends too early" if isinstance(error, EOFError) else "is damaged"
        raise InputError(f"{path}: the gzip data {what}{after}; fetch the file again") from None


def one_line(text: str) -> str:
    """The text with every run of line ends made one space."""
    if "\n" not in text and "\r" not in text:  # nearly always, and far faster than replacing
        return text
    return _LINE_BREAKS.sub(" ", text)
