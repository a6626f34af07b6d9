"""Stores pairs in two text files, one segment per line, and reads them in spans of a few thousand.

Spans let every worker process read its own part; the parent process sends positions, not text.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from training.data.readers import Pair


@dataclass(frozen=True)
class TextSpan:
    """Position of consecutive pairs in both files; begin and length count bytes."""

    num_pairs: int
    source_begin: int
    source_length: int
    target_begin: int
    target_length: int


def spanned_files(folder: Path, name: str) -> tuple[Path, Path]:
    """Returns the paths of both sides."""
    return folder / f"{name}.source", folder / f"{name}.target"


class SpanWriter:
    """Appends spans to both files; made by `new_spans`."""

    def __init__(self, sources: BinaryIO, targets: BinaryIO) -> None:
        self._sources = sources
        self._targets = targets

    def append(self, num_pairs: int, source: bytes, target: bytes) -> TextSpan:
        """Appends lines of UTF-8, each with its "\n"; returns their span."""
        span = TextSpan(
            num_pairs, self._sources.tell(), len(source), self._targets.tell(), len(target)
        )
        self._sources.write(source)
        self._targets.write(target)
        return span


@contextmanager
def new_spans(folder: Path, name: str) -> Iterator[SpanWriter]:
    """Creates both files and closes them at the end of the block."""
    sources, targets = spanned_files(folder, name)
    with sources.open("wb") as source_file, targets.open("wb") as target_file:
        yield SpanWriter(source_file, target_file)


def read_span(folder: Path, name: str, span: TextSpan) -> Iterator[Pair]:
    """Yields the pairs of a span, exactly as they were written."""
    sides = (side.decode("utf-8").split("\n")[:-1] for side in _read(folder, name, span))
    return map(Pair, *sides)


def read_some(folder: Path, name: str, span: TextSpan, indices: Sequence[int]) -> list[Pair]:
    """Reads the pairs with these indices in a span, counted from 0; decodes no others."""
    sources, targets = (side.split(b"\n") for side in _read(folder, name, span))
    return [Pair(sources[index].decode(), targets[index].decode()) for index in indices]


def _read(folder: Path, name: str, span: TextSpan) -> tuple[bytes, bytes]:
    sources, targets = spanned_files(folder, name)
    return (
        _read_bytes(sources, span.source_begin, span.source_length),
        _read_bytes(targets, span.target_begin, span.target_length),
    )


def _read_bytes(path: Path, begin: int, length: int) -> bytes:
    with path.open("rb") as stream:
        stream.seek(begin)
        return stream.read(length)
