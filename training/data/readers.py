"""Reads sentence pairs from aligned text files, TSV, JSON lines and TMX.

Every reader streams, so memory does not grow with the file. Files of lines come in blocks, which
any process can parse (`model/text/text_file.py`); TMX is parsed while it is read (`tmx.py`). The
result is the raw text: nothing is normalised, cleaned or dropped here. Text that cannot be decoded
raises InputError, everything else that is wrong CorpusError, both with file and line.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from model.text.text_file import (
    BLOCK_BYTES,
    LineBlock,
    damage_named,
    line_reader,
    open_bytes,
    read_line_blocks,
)
from training.config import CorpusConfig
from training.data.tmx import read_tmx
from training.errors import CorpusError

_TMX_BLOCK_PAIRS = 1000


class Pair(NamedTuple):
    """One source segment and its translation, as they are in the file."""

    source: str
    target: str


class PairBlock(Protocol):
    """Consecutive pairs of a corpus; can be sent to another process before it is parsed."""

    def pairs(self) -> Iterator[Pair]:
        """Yields the pairs; raises InputError or CorpusError with file and line."""
        ...


def corpus_name(corpus: CorpusConfig) -> str:
    """Returns the name of a corpus in reports and errors: those of its files."""
    return " + ".join(path.name for path in corpus.files())


def read_pairs(
    corpus: CorpusConfig, *, source_language: str, target_language: str
) -> Iterator[Pair]:
    """Yields the pairs of one corpus, in the order of its files.

    Languages name the keys of JSON lines and choose the variants of a TMX unit. Blank lines of TSV
    and JSON lines, and TMX units without both languages, are skipped. Raises InputError or
    CorpusError with file and line; different line counts of two files are found at the end.
    """
    for block in read_blocks(
        corpus, source_language=source_language, target_language=target_language
    ):
        yield from block.pairs()


def read_blocks(
    corpus: CorpusConfig, *, source_language: str, target_language: str
) -> Iterator[PairBlock]:
    """Yields the pairs of one corpus in blocks of a few thousand, most of them not parsed yet."""
    if corpus.source is not None and corpus.target is not None:
        return _read_aligned(corpus.source, corpus.target)
    if corpus.path is None:
        raise ValueError("CorpusConfig guarantees either source and target, or path")
    match _format_of(corpus.path):
        case ".tsv":
            columns = (corpus.source_column, corpus.target_column)
            return (_TsvBlock(lines, columns) for lines in read_line_blocks(corpus.path))
        case ".jsonl":
            keys = (
                _json_keys(corpus.source_key, source_language, "source"),
                _json_keys(corpus.target_key, target_language, "target"),
            )
            return (_JsonBlock(lines, keys) for lines in read_line_blocks(corpus.path))
        case _:
            return _read_tmx(corpus.path, source_language, target_language)


@dataclass(frozen=True)
class _AlignedBlock:
    source: LineBlock
    target: LineBlock  # as many lines

    def pairs(self) -> Iterator[Pair]:
        return map(Pair, self.source.lines(), self.target.lines())


def _read_aligned(source: Path, target: Path) -> Iterator[_AlignedBlock]:
    """Yields blocks of both files; raises CorpusError if their line counts differ."""
    with line_reader(source) as sources, line_reader(target) as targets:
        while source_lines := sources.take():
            target_lines = targets.take(len(source_lines))
            if not target_lines:
                break
            sources.give_back(source_lines[len(target_lines) :])
            del source_lines[len(target_lines) :]
            first = targets.num_taken - len(target_lines) + 1
            yield _AlignedBlock(
                LineBlock(source, first, b"".join(source_lines)),
                LineBlock(target, first, b"".join(target_lines)),
            )
        # One file has ended; the other is read to its end, because the message names both counts.
        while sources.take() or targets.take():
            pass
        if sources.num_taken != targets.num_taken:
            raise CorpusError(
                f"{source} has {sources.num_taken:,} lines but {target} has "
                f"{targets.num_taken:,}; line n of one must be the translation of line n of the "
                "other"
            )


@dataclass(frozen=True)
class _TsvBlock:
    """Lines of a TSV file without quoting: a quotation mark is text, as in Tatoeba and OPUS."""

    lines: LineBlock
    columns: tuple[int, int]

    def pairs(self) -> Iterator[Pair]:
        source_column, target_column = self.columns
        needed = max(self.columns) + 1
        for number, line in enumerate(self.lines.lines(), start=self.lines.first_number):
            if not line:
                continue
            fields = line.split("\t")
            if len(fields) < needed:
                raise CorpusError(
                    f"{self.lines.path}, line {number}: {len(fields)} tab-separated column(s), but "
                    f"source_column {source_column} and target_column {target_column} (counted "
                    f"from 0) need {needed}"
                )
            yield Pair(fields[source_column], fields[target_column])


def _json_keys(key: str | None, language: str, side: str) -> tuple[str, ...]:
    """Returns the keys to try: the configured one, or language, base language and side."""
    if key is not None:
        return (key,)
    return tuple(dict.fromkeys((language, language.partition("-")[0], side)))


@dataclass(frozen=True)
class _JsonBlock:
    lines: LineBlock
    keys: tuple[tuple[str, ...], tuple[str, ...]]  # to try in order, for source and target

    def pairs(self) -> Iterator[Pair]:
        path = self.lines.path
        for number, line in enumerate(self.lines.lines(), start=self.lines.first_number):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):  # RecursionError: "[[[[..." nested without end
                raise CorpusError(
                    f"{path}, line {number}: not valid JSON; correct or remove the line"
                ) from None
            if not isinstance(record, dict):
                raise CorpusError(
                    f'{path}, line {number}: not a JSON object such as {{"{self.keys[0][0]}": '
                    f'"...", "{self.keys[1][0]}": "..."}}'
                )
            yield Pair(*(_json_text(record, keys, path, number) for keys in self.keys))


def _json_text(record: dict[str, object], keys: tuple[str, ...], path: Path, number: int) -> str:
    key = next((key for key in keys if key in record), None)
    if key is None:
        wanted = " or ".join(f'"{key}"' for key in keys)
        raise CorpusError(
            f"{path}, line {number}: has no key {wanted}; set source_key or target_key"
        )
    text = record[key]
    if not isinstance(text, str):
        raise CorpusError(
            f'{path}, line {number}: "{key}" is {type(text).__name__}, not a string; correct it'
        )
    # JSON escapes can write NUL, and half a surrogate pair, which UTF-8 cannot encode.
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


@dataclass(frozen=True)
class _ParsedBlock:
    parsed: list[Pair]

    def pairs(self) -> Iterator[Pair]:
        return iter(self.parsed)


def _read_tmx(path: Path, source_language: str, target_language: str) -> Iterator[_ParsedBlock]:
    parsed: list[Pair] = []
    num_characters = 0
    with open_bytes(path) as stream, damage_named(path, None):
        for source, target in read_tmx(stream, path, source_language, target_language):
            parsed.append(Pair(source, target))
            num_characters += len(source) + len(target)
            if len(parsed) == _TMX_BLOCK_PAIRS or num_characters > BLOCK_BYTES:
                yield _ParsedBlock(parsed)
                parsed, num_characters = [], 0
    if parsed:
        yield _ParsedBlock(parsed)


def _format_of(path: Path) -> str:
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if suffix not in (".tsv", ".jsonl", ".tmx"):
        raise CorpusError(
            f"{path} has an unknown format; path takes .tsv, .jsonl or .tmx, also with .gz; for "
            "two plain text files use source and target"
        )
    return suffix
