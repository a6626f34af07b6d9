"""Lines of text files, as translators of files need them: exact counts, named culprits.

A line ends at "\\n" and nowhere else: not at the other characters that str.splitlines knows. A
"\\r" in front of it belongs to the line end (CRLF) and is dropped; elsewhere it is text. A UTF-8
byte order mark at the start of a file is dropped. Files whose name ends in .gz are unpacked.
"""

import codecs
import gzip
import hashlib
import io
import itertools
import os
import select
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from model.errors import InputError

_GZIP_MAGIC = b"\x1f\x8b"
_BLOCK = 1 << 20  # bytes hashed at once
_PIPE_BLOCK = 1 << 16  # what a Linux pipe holds


@dataclass(frozen=True)
class Survey:
    """What one pass over a text file found; its existence says that every line is good text."""

    num_lines: int
    num_bytes: int  # of the file as it lies on disk
    sha256: str  # of the same


class LineSource(Protocol):
    """Numbered lines on demand."""

    def take(self, limit: int, *, wait: bool) -> list[tuple[int, str]]:
        """Up to `limit` (line number, text); with `wait`, none only at the end of the input."""
        ...

    @property
    def ended(self) -> bool: ...


class FileLines:
    """The lines of a file on disk."""

    def __init__(self, path: Path) -> None:
        self._lines = enumerate(read_lines(path), start=1)
        self.ended = False

    def take(self, limit: int, *, wait: bool) -> list[tuple[int, str]]:
        taken = list(itertools.islice(self._lines, limit))
        self.ended = len(taken) < limit
        return taken


class PipeLines:
    """The lines of a pipe or terminal, as they come: a slow writer never holds back a result.

    Reads the file descriptor itself: a buffered reader would hide from select what it holds.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self._name = name
        self._complete: list[bytes] = []  # reversed: the next line is the last item
        self._rest: list[bytes] = []  # start of a line whose end has not come yet
        self._number = 0
        self._at_end = False

    @property
    def ended(self) -> bool:
        return self._at_end and not self._complete

    def take(self, limit: int, *, wait: bool) -> list[tuple[int, str]]:
        while not self._complete and not self._at_end:
            if not wait and not select.select([self._descriptor], [], [], 0)[0]:
                return []
            self._read()
        taken: list[tuple[int, str]] = []
        while self._complete and len(taken) < limit:
            try:
                text = decode_line(self._complete[-1], self._name, self._number + 1)
            except InputError:
                if taken:  # hand over the good ones first; the next call meets this line again
                    break
                raise
            self._complete.pop()
            self._number += 1
            taken.append((self._number, text))
        return taken

    def _read(self) -> None:
        block = os.read(self._descriptor, _PIPE_BLOCK)
        if not block:
            self._at_end = True
            if self._rest:
                self._complete.append(b"".join(self._rest))
                self._rest = []
            return
        *ends, rest = block.split(b"\n")
        if ends:
            ends[0] = b"".join([*self._rest, ends[0]])
            self._rest = []
            self._complete = ends[::-1]
        if rest:
            self._rest.append(rest)


def survey(path: Path) -> Survey:
    """Read the whole file once, so that a job meets its bad lines before it starts.

    Raises InputError with file and line number.
    """
    num_lines = sum(1 for _ in read_lines(path))
    digest = hashlib.sha256()
    num_bytes = 0
    with open_input(path, unpack=False) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            num_bytes += len(block)
    return Survey(num_lines, num_bytes, digest.hexdigest())


def read_lines(path: Path) -> Iterator[str]:
    """The file's lines without their ends. Raises InputError with file and line number."""
    number = 0
    with open_input(path) as file:
        try:
            for number, raw in enumerate(file, start=1):
                yield decode_line(raw.removesuffix(b"\n"), str(path), number)
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise InputError(
                f"{path} is not a whole gzip file (readable up to line {number}): {error}; "
                f"fetch or pack it again"
            ) from None


def open_input(path: Path, *, unpack: bool = True) -> IO[bytes]:
    """The file opened for reading bytes; gzip, known by its content, is unpacked on the way."""
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder; name a text file in it")
        raw = path.open("rb")
    except FileNotFoundError:
        raise InputError(f"there is no file {path}; check the path") from None
    except PermissionError:
        raise InputError(f"{path} may not be read by this user; change its permissions") from None
    if not unpack:
        return raw
    if raw.peek(2)[:2] == _GZIP_MAGIC:
        # GzipFile.readline is slow Python; a BufferedReader over it reads lines in C.
        return io.BufferedReader(_OwningGzip(raw))
    if path.name.endswith(".gz") and raw.peek(1):
        raw.close()
        raise InputError(
            f"{path} is named .gz but holds no gzip data; unpack it, rename it or fetch it again"
        )
    return raw


class _OwningGzip(gzip.GzipFile):
    """Closes the file under it, which a GzipFile made from an open file leaves open."""

    def __init__(self, raw: IO[bytes]) -> None:
        super().__init__(fileobj=raw, mode="rb")
        self._raw = raw

    def close(self) -> None:
        super().close()
        self._raw.close()


def decode_line(raw: bytes, name: str, number: int) -> str:
    """One line as text. Raises InputError naming file and line for anything but clean UTF-8."""
    raw = raw.removesuffix(b"\r")
    if number == 1:
        if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise InputError(
                f"{name} is UTF-16, not UTF-8; convert it first: "
                f"iconv -f UTF-16 -t UTF-8 < OLD > NEW"
            )
        raw = raw.removeprefix(codecs.BOM_UTF8)
    if b"\0" in raw:
        raise InputError(
            f"{name}, line {number}: holds a NUL character (byte {raw.index(0) + 1} of the line); "
            f"remove the NULs with: tr -d '\\000' < OLD > NEW"
        )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name}, line {number}: not UTF-8 (byte {error.start + 1} of the line is "
            f"0x{raw[error.start]:02x}); if the file is Latin-1, convert it first: "
            f"iconv -f ISO-8859-1 -t UTF-8 < OLD > NEW"
        ) from None


def one_line(text: str) -> str:
    """The text with line ends made spaces: what one line of input became must stay one line."""
    return text.replace("\r\n", " ").replace("\n", " ").replace("\r", " ")
