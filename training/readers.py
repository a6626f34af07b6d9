"""Parallel text from disk, one pair at a time: aligned text files, TSV, JSON lines and TMX.

Every reader streams, so memory does not grow with the file; TMX is in tmx.py. What is read is the
raw text: nothing is normalised, cleaned or dropped here. Damaged input raises CorpusError with
file and line, never yields half of it silently.
"""

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO

from training.config import CorpusConfig
from training.errors import CorpusError
from training.tmx import read_tmx

MAX_LINE_BYTES = 16 << 20  # a longer "line" is a file without line ends, or a decompression bomb

_GZIP_MAGIC = b"\x1f\x8b"
_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_BUFFER_BYTES = 1 << 18


@dataclass(frozen=True)
class Pair:
    """One source segment and its translation, raw."""

    source: str
    target: str


def read_pairs(
    corpus: CorpusConfig, *, source_language: str, target_language: str
) -> Iterator[Pair]:
    """The pairs of one corpus, in the order of its file(s).

    Languages name the keys of JSON lines and choose the variants of a TMX unit. Wholly blank lines
    of TSV and JSON lines, and TMX units without both languages, hold no pair and are passed over.
    Raises CorpusError naming file and line; that line counts of two files differ shows at the end.
    """
    if corpus.source is not None and corpus.target is not None:
        return _read_aligned(corpus.source, corpus.target)
    if corpus.path is None:
        raise ValueError("CorpusConfig promises either source and target, or path")
    match _format_of(corpus.path):
        case ".tsv":
            return _read_tsv(corpus.path, (corpus.source_column, corpus.target_column))
        case ".jsonl":
            keys = (
                _json_keys(corpus.source_key, source_language, "source"),
                _json_keys(corpus.target_key, target_language, "target"),
            )
            return _read_jsonl(corpus.path, keys)
        case _:
            return _read_tmx(corpus.path, source_language, target_language)


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, plain or gzip (known by its content), without their line ends.

    Lines end at "\\n" or "\\r\\n" and nowhere else; a byte-order mark is taken off. Raises
    CorpusError with file and line for other encodings, NUL bytes, damaged gzip and huge lines.
    """
    number = 0
    with _open_bytes(path) as stream, _damage_named(path, lambda: number):
        while line := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
                raise CorpusError(
                    f"{path}, line {number}: longer than {MAX_LINE_BYTES >> 20} MiB; "
                    "put one sentence or paragraph on a line"
                )
            if number == 1:
                if line.startswith(_UTF16_BOMS):
                    raise CorpusError(f"{path} is UTF-16, not UTF-8; {_iconv('UTF-16')}")
                line = line.removeprefix(_UTF8_BOM)
            yield _decoded(line, path, number)


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
    return text.removesuffix("\n").removesuffix("\r")


def _iconv(encoding: str) -> str:
    return f"convert it with `iconv -f {encoding} -t UTF-8`"


def _read_aligned(source: Path, target: Path) -> Iterator[Pair]:
    """Raises CorpusError with both counts when one file has more lines."""
    num_source = num_target = 0
    for source_line, target_line in zip_longest(read_lines(source), read_lines(target)):
        # Once one side has ended, the other is still counted to its end: the message needs both.
        num_source += source_line is not None
        num_target += target_line is not None
        if source_line is not None and target_line is not None:
            yield Pair(source_line, target_line)
    if num_source != num_target:
        raise CorpusError(
            f"{source} has {num_source:,} lines but {target} has {num_target:,}; line n of one "
            "must be the translation of line n of the other"
        )


def _read_tsv(path: Path, columns: tuple[int, int]) -> Iterator[Pair]:
    """No quoting: a quotation mark is text, as in the files of Tatoeba and OPUS."""
    needed = max(columns) + 1
    for number, line in enumerate(read_lines(path), start=1):
        if not line:
            continue
        fields = line.split("\t")
        if len(fields) < needed:
            raise CorpusError(
                f"{path}, line {number}: {len(fields)} tab-separated column(s), but source_column "
                f"{columns[0]} and target_column {columns[1]} (counted from 0) need {needed}"
            )
        yield Pair(fields[columns[0]], fields[columns[1]])


def _json_keys(key: str | None, language: str, side: str) -> tuple[str, ...]:
    """The keys to try in order: the one asked for, or the language, its base language, the side."""
    if key is not None:
        return (key,)
    return tuple(dict.fromkeys((language, language.partition("-")[0], side)))


def _read_jsonl(path: Path, keys: tuple[tuple[str, ...], tuple[str, ...]]) -> Iterator[Pair]:
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):  # RecursionError: "[[[[..." nested without end
            raise CorpusError(f"{path}, line {number}: not valid JSON") from None
        if not isinstance(record, dict):
            raise CorpusError(
                f'{path}, line {number}: not a JSON object such as {{"{keys[0][0]}": "...", '
                f'"{keys[1][0]}": "..."}}'
            )
        yield Pair(
            _json_text(record, keys[0], path, number), _json_text(record, keys[1], path, number)
        )


def _json_text(record: dict[str, object], keys: tuple[str, ...], path: Path, number: int) -> str:
    key = next((key for key in keys if key in record), None)
    if key is None:
        wanted = " or ".join(f'"{key}"' for key in keys)
        raise CorpusError(
            f"{path}, line {number}: no {wanted}; name the key with source_key or target_key"
        )
    text = record[key]
    if not isinstance(text, str):
        raise CorpusError(
            f'{path}, line {number}: "{key}" is not a string but {type(text).__name__}'
        )
    # JSON escapes can spell what UTF-8 cannot: halves of surrogate pairs, and NUL.
    if "\0" in text or not _encodable(text):
        raise CorpusError(
            f'{path}, line {number}: "{key}" holds an escaped NUL or half of a surrogate pair; '
            "remove it"
        )
    return text


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _read_tmx(path: Path, source_language: str, target_language: str) -> Iterator[Pair]:
    with _open_bytes(path) as stream, _damage_named(path, None):
        for source, target in read_tmx(stream, path, source_language, target_language):
            yield Pair(source, target)


def _format_of(path: Path) -> str:
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if suffix not in (".tsv", ".jsonl", ".tmx"):
        raise CorpusError(
            f"{path}: the name does not tell its format; path takes .tsv, .jsonl or .tmx (or one "
            "of them with .gz), two plain text files go into source and target"
        )
    return suffix


def open_file(path: Path) -> io.BufferedReader:
    """The file as it is on disk; CorpusError when there is none."""
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise CorpusError(f"there is no file {path}; check the path") from None
    except IsADirectoryError:
        raise CorpusError(f"{path} is a folder, not a file of text") from None


@contextmanager
def _open_bytes(path: Path) -> Iterator[BinaryIO]:
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
def _damage_named(path: Path, num_lines: Callable[[], int] | None) -> Iterator[None]:
    """Turns the decompressor's errors into a CorpusError that says how far reading came."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        after = f" after line {num_lines()}" if num_lines is not None else ""
        what = "ends too early" if isinstance(error, EOFError) else "is damaged"
        raise CorpusError(f"{path}: the gzip data {what}{after}; fetch the file again") from None
