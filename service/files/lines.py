"""Numbered lines from a file, a pipe or a terminal, on demand."""

import hashlib
import itertools
import os
import select
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from model.errors import InputError
from model.text.text_file import decode_line, read_line_blocks, read_lines

_PIPE_BLOCK = 1 << 16  # the capacity of a Linux pipe


@dataclass(frozen=True)
class Survey:
    """What one pass over a text file found; it exists only if every line can be decoded."""

    num_lines: int
    sha256: str  # of the text, unpacked


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
    """The lines of a pipe or terminal as they arrive: a slow writer never delays a translation.

    Reads the file descriptor itself, because select cannot see what a buffered reader holds.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self._name = name
        self._complete: list[bytes] = []  # reversed: the next line is the last item
        self._rest: list[bytes] = []  # start of a line whose end has not arrived yet
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
                if taken:  # return the lines before it; the next call raises
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
    """Reads the whole file once, so that a bad line is found before a long job starts.

    Raises InputError with file and line number.
    """
    num_lines = 0
    digest = hashlib.sha256()
    for block in read_line_blocks(path):
        digest.update(block.data)
        num_lines += sum(1 for _ in block.lines())
    return Survey(num_lines, digest.hexdigest())
