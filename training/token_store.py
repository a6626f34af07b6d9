"""A corpus as token ids in memory-mapped arrays, so that it may be larger than memory.

A store is a folder: per side the ids of all segments in one flat array (uint16, or uint32 for
vocabularies above 65,536), where each begins, and how long it is; per pair the corpus it came
from; and store.json. Disk per pair: 2 bytes a token, 26 for the rest. Memory: whatever pages the
system chooses to keep, and nothing that grows with the corpus while writing.
"""

import json
import sys
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from jaxtyping import Int32, UInt16
from numpy.typing import NDArray

from model.files import replaced_folder, write_json
from training.errors import CorpusError

FORMAT_VERSION = 1
_INDEX_FILE = "store.json"
_SIDES = ("source", "target")


class TokenStore:
    """Read-only pairs of token ids, without BOS and EOS; lengths do not count EOS either.

    All arrays are views of files: index them, do not copy them whole.
    """

    def __init__(self, folder: Path, index: dict[str, Any]) -> None:
        num_pairs = index["num_pairs"]
        self.weights: tuple[float, ...] = tuple(index["weights"])  # one a corpus
        self.corpus_index: UInt16[np.ndarray, " pairs"] = _map(
            folder / "corpus_index.bin", "<u2", num_pairs
        )
        self._ids: list[NDArray[np.unsignedinteger[Any]]] = []
        self._offsets: list[NDArray[np.int64]] = []
        self._lengths: list[Int32[np.ndarray, " pairs"]] = []
        for side in _SIDES:
            num_tokens, dtype = index[f"{side}_tokens"], index[f"{side}_dtype"]
            self._ids.append(_map(folder / f"{side}_ids.bin", dtype, num_tokens))
            self._offsets.append(_map(folder / f"{side}_offsets.bin", "<i8", num_pairs))
            self._lengths.append(_map(folder / f"{side}_lengths.bin", "<i4", num_pairs))

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The store in a folder; CorpusError when a file is missing or not as long as it was."""
        try:
            index = json.loads((folder / _INDEX_FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CorpusError(f"{folder} holds no token store ({_INDEX_FILE} is missing)") from None
        except ValueError:
            raise _damaged(folder / _INDEX_FILE, "is not valid JSON") from None
        version = index.get("format_version") if isinstance(index, dict) else None
        if version != FORMAT_VERSION:
            raise CorpusError(
                f"{folder} is a token store of format {version}, this version reads "
                f"{FORMAT_VERSION}; prepare the corpus again"
            )
        try:
            return cls(folder, index)
        except (KeyError, TypeError):
            raise _damaged(folder / _INDEX_FILE, "lacks an entry") from None

    def __len__(self) -> int:
        return len(self.corpus_index)

    @property
    def source_lengths(self) -> Int32[np.ndarray, " pairs"]:
        """Source pieces of every pair, EOS not counted."""
        return self._lengths[0]

    @property
    def target_lengths(self) -> Int32[np.ndarray, " pairs"]:
        """Target pieces of every pair, EOS not counted."""
        return self._lengths[1]

    def source(self, pair: int) -> NDArray[np.unsignedinteger[Any]]:
        """Token ids of one source segment: a view, without EOS."""
        return self._segment(0, pair)

    def target(self, pair: int) -> NDArray[np.unsignedinteger[Any]]:
        """Token ids of one target segment: a view, without BOS and EOS."""
        return self._segment(1, pair)

    def _segment(self, side: int, pair: int) -> NDArray[np.unsignedinteger[Any]]:
        start = int(self._offsets[side][pair])
        return self._ids[side][start : start + int(self._lengths[side][pair])]


@dataclass
class _Column:
    """Numbers on their way to a file: little-endian there, few in memory."""

    file: BinaryIO
    buffer: "array[int]"

    def flush(self) -> None:
        if sys.byteorder == "big":
            self.buffer.byteswap()
        self.buffer.tofile(self.file)
        del self.buffer[:]


class TokenStoreWriter:
    """Takes pairs one by one; made by write_token_store."""

    _FLUSH_TOKENS = 1 << 18  # a few hundred kilobytes of ids in memory

    def __init__(
        self, folder: Path, files: ExitStack, vocab_sizes: tuple[int, int], weights: Sequence[float]
    ) -> None:
        self._folder = folder
        self._weights = tuple(weights)
        self._num_pairs = 0
        self._num_tokens = [0, 0]

        def column(name: str, type_code: str) -> _Column:
            file = files.enter_context((folder / f"{name}.bin").open("wb"))
            return _Column(file, array(type_code))

        self._id_codes = ["H" if size <= 1 << 16 else "I" for size in vocab_sizes]
        self._corpora = column("corpus_index", "H")
        self._ids = [
            column(f"{side}_ids", code) for side, code in zip(_SIDES, self._id_codes, strict=True)
        ]
        self._offsets = [column(f"{side}_offsets", "q") for side in _SIDES]
        self._lengths = [column(f"{side}_lengths", "i") for side in _SIDES]

    def append(
        self, source_ids: Sequence[int], target_ids: Sequence[int], corpus_index: int
    ) -> None:
        """Adds one pair, without BOS and EOS; `corpus_index` points into the weights."""
        if not 0 <= corpus_index < len(self._weights):
            raise ValueError(f"corpus {corpus_index} has no weight; there are {len(self._weights)}")
        self._corpora.buffer.append(corpus_index)
        for side, ids in enumerate((source_ids, target_ids)):
            self._ids[side].buffer.extend(ids)
            self._offsets[side].buffer.append(self._num_tokens[side])
            self._lengths[side].buffer.append(len(ids))
            self._num_tokens[side] += len(ids)
        self._num_pairs += 1
        if sum(len(column.buffer) for column in self._ids) > self._FLUSH_TOKENS:
            self._flush()

    def _flush(self) -> None:
        for column in (self._corpora, *self._ids, *self._offsets, *self._lengths):
            column.flush()

    def finish(self) -> None:
        """Writes what is still in memory, and the index."""
        self._flush()
        index: dict[str, object] = {
            "format_version": FORMAT_VERSION,
            "num_pairs": self._num_pairs,
            "weights": self._weights,
        }
        for side, num_tokens, code in zip(_SIDES, self._num_tokens, self._id_codes, strict=True):
            index[f"{side}_tokens"] = num_tokens
            index[f"{side}_dtype"] = "<u2" if code == "H" else "<u4"
        write_json(self._folder / _INDEX_FILE, index)


@contextmanager
def write_token_store(
    folder: Path, *, source_vocab_size: int, target_vocab_size: int, weights: Sequence[float]
) -> Iterator[TokenStoreWriter]:
    """A writer whose store appears under `folder`, complete, when the block succeeds.

    After a failure nothing is left; an OSError (disk full, no permission) passes through.
    """
    # The files are closed before the folder gets its name.
    with replaced_folder(folder) as partial, ExitStack() as files:
        vocab_sizes = (source_vocab_size, target_vocab_size)
        writer = TokenStoreWriter(partial, files, vocab_sizes, weights)
        yield writer
        writer.finish()


def _map(path: Path, dtype: str, count: int) -> Any:
    """A file as a plain read-only array; numpy cannot map an empty file."""
    expected = count * np.dtype(dtype).itemsize
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        raise _damaged(path, "is missing") from None
    if found != expected:
        raise _damaged(path, f"has {found:,} bytes instead of {expected:,}")
    if count == 0:
        return np.empty(0, dtype=dtype)
    # A view as plain ndarray: slices of np.memmap cost several times more.
    return np.memmap(path, dtype=dtype, mode="r").view(np.ndarray)


def _damaged(path: Path, what: str) -> CorpusError:
    return CorpusError(
        f"{path} {what}, so the prepared corpus is damaged; remove {path.parent} and prepare again"
    )
