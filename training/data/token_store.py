"""Stores a corpus as token ids on disk, so that it may be larger than memory.

A store is a folder. For each side it holds the ids of all segments in one flat array (uint16, or
uint32 for vocabularies above 65,536), the length of each segment (uint16, or uint32 if longer
segments are allowed), and the offset of every 32nd segment. It also holds the corpus of each pair,
and store.json. Disk per pair: 2 bytes per token and 6 for the rest.

Lengths are memory-mapped. Ids are read instead, because mapped pages would count as memory of the
process, growing with every batch. 50 million pairs take 300 MB; writing takes constant memory.
"""

import json
import os
import weakref
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from jaxtyping import UInt, UInt16
from numpy.typing import NDArray

from model.system.atomic_files import replaced_folder, write_json
from training.errors import CorpusError

FORMAT_VERSION = 2  # 1 had lengths of four bytes, and the beginning of every segment
_INDEX_FILE = "store.json"
_SIDES = ("source", "target")
_PAIRS_PER_OFFSET = 32  # summing so few lengths is faster than reading a page


class TokenStore:
    """Reads pairs of token ids, without BOS and EOS; lengths do not count EOS either.

    Lengths are views of files: index them, do not copy them. Threads may share a store.
    """

    def __init__(self, folder: Path, index: dict[str, Any]) -> None:
        num_pairs = index["num_pairs"]
        self.weights: tuple[float, ...] = tuple(index["weights"])  # one a corpus
        self.corpus_index: UInt16[np.ndarray, " pairs"] = _map(
            folder / "corpus_index.bin", "<u2", num_pairs
        )
        self._id_files: list[int] = []
        self._id_types: list[np.dtype[np.unsignedinteger[Any]]] = []
        self._offsets: list[NDArray[np.int64]] = []
        self._lengths: list[UInt[np.ndarray, " pairs"]] = []
        num_offsets = -(-num_pairs // _PAIRS_PER_OFFSET)
        for side in _SIDES:
            num_tokens, dtype = index[f"{side}_tokens"], np.dtype(index[f"{side}_dtype"])
            ids = folder / f"{side}_ids.bin"
            _check_size(ids, num_tokens * dtype.itemsize)
            self._id_files.append(os.open(ids, os.O_RDONLY))
            weakref.finalize(self, os.close, self._id_files[-1])
            self._id_types.append(dtype)
            self._offsets.append(_map(folder / f"{side}_offsets.bin", "<i8", num_offsets))
            self._lengths.append(
                _map(folder / f"{side}_lengths.bin", index["lengths_dtype"], num_pairs)
            )

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Opens the store in a folder; raises CorpusError for a missing or damaged file."""
        try:
            index = json.loads((folder / _INDEX_FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CorpusError(
                f"{folder} holds no token store: {_INDEX_FILE} is missing; start a new run"
            ) from None
        except ValueError:
            raise _damaged(folder / _INDEX_FILE, "is not valid JSON") from None
        version = index.get("format_version") if isinstance(index, dict) else None
        if version != FORMAT_VERSION:
            raise CorpusError(
                f"token store {folder} has format {version}, this version of Dragoman reads "
                f"{FORMAT_VERSION}; start a new run"
            )
        try:
            return cls(folder, index)
        except (KeyError, TypeError):
            raise _damaged(folder / _INDEX_FILE, "lacks an entry") from None

    def __len__(self) -> int:
        return len(self.corpus_index)

    @property
    def source_lengths(self) -> UInt[np.ndarray, " pairs"]:
        """Source pieces of every pair, EOS not counted; adding 1 does not overflow."""
        return self._lengths[0]

    @property
    def target_lengths(self) -> UInt[np.ndarray, " pairs"]:
        """Target pieces of every pair, EOS not counted; adding 1 does not overflow."""
        return self._lengths[1]

    def source(self, pair: int) -> NDArray[np.unsignedinteger[Any]]:
        """Reads the token ids of one source segment, without EOS."""
        return self._segment(0, pair)

    def target(self, pair: int) -> NDArray[np.unsignedinteger[Any]]:
        """Reads the token ids of one target segment, without BOS and EOS."""
        return self._segment(1, pair)

    def _segment(self, side: int, pair: int) -> NDArray[np.unsignedinteger[Any]]:
        lengths, dtype = self._lengths[side], self._id_types[side]
        offset, since = divmod(pair, _PAIRS_PER_OFFSET)
        begin = int(self._offsets[side][offset]) + int(lengths[pair - since : pair].sum(dtype=int))
        num_bytes = int(lengths[pair]) * dtype.itemsize
        data = os.pread(self._id_files[side], num_bytes, begin * dtype.itemsize)
        if len(data) != num_bytes:
            raise CorpusError(
                f"the {_SIDES[side]} ids of pair {pair} are incomplete: the prepared corpus was "
                "damaged after it was opened; start a new run"
            )
        return np.frombuffer(data, dtype)


class PairBuffer:
    """Pairs to be written to a store, in flat arrays; can be sent to another process."""

    def __init__(self, *, source_vocab_size: int, target_vocab_size: int, max_tokens: int) -> None:
        self.ids = [
            array("H" if size <= 1 << 16 else "I")
            for size in (source_vocab_size, target_vocab_size)
        ]
        # Readers count EOS as well, in the same type.
        length_code = "H" if max_tokens < (1 << 16) - 1 else "I"
        self.lengths = [array(length_code) for _ in _SIDES]

    def __len__(self) -> int:
        return len(self.lengths[0])

    def append(self, source_ids: Sequence[int], target_ids: Sequence[int]) -> None:
        """Adds one pair, without BOS and EOS; raises OverflowError for ids or lengths too large."""
        for side, ids in enumerate((source_ids, target_ids)):
            self.ids[side].extend(ids)
            self.lengths[side].append(len(ids))


class TokenStoreWriter:
    """Writes pairs one by one or in buffers; made by `write_token_store`."""

    _FLUSH_TOKENS = 1 << 18  # a few hundred kilobytes of ids in memory

    def __init__(
        self,
        folder: Path,
        files: ExitStack,
        new_buffer: Callable[[], PairBuffer],
        weights: Sequence[float],
    ) -> None:
        self._folder = folder
        self._weights = tuple(weights)
        self._num_pairs = 0
        self._num_tokens = [0, 0]
        self._new_buffer = new_buffer
        self._buffer = new_buffer()
        self._buffer_corpus = 0

        def column(name: str) -> BinaryIO:
            return files.enter_context((folder / f"{name}.bin").open("wb"))

        self._corpora = column("corpus_index")
        self._ids = [column(f"{side}_ids") for side in _SIDES]
        self._offsets = [column(f"{side}_offsets") for side in _SIDES]
        self._lengths = [column(f"{side}_lengths") for side in _SIDES]

    def append(
        self, source_ids: Sequence[int], target_ids: Sequence[int], corpus_index: int
    ) -> None:
        """Adds one pair, without BOS and EOS; `corpus_index` points into the weights."""
        self._check_corpus(corpus_index)
        if corpus_index != self._buffer_corpus:
            self._flush()
            self._buffer_corpus = corpus_index
        self._buffer.append(source_ids, target_ids)
        if sum(map(len, self._buffer.ids)) > self._FLUSH_TOKENS:
            self._flush()

    def extend(self, pairs: PairBuffer, corpus_index: int) -> None:
        """Adds all pairs of a buffer that was made with the same sizes."""
        self._check_corpus(corpus_index)
        self._flush()
        self._write(pairs, corpus_index)

    def _check_corpus(self, corpus_index: int) -> None:
        if not 0 <= corpus_index < len(self._weights):
            raise ValueError(
                f"corpus {corpus_index} has no weight; there are {len(self._weights)} weights"
            )

    def _flush(self) -> None:
        self._write(self._buffer, self._buffer_corpus)
        self._buffer = self._new_buffer()

    def _write(self, pairs: PairBuffer, corpus_index: int) -> None:
        for side in range(len(_SIDES)):
            lengths = np.array(pairs.lengths[side], dtype=np.int64)
            ends = self._num_tokens[side] + np.cumsum(lengths)
            first = -self._num_pairs % _PAIRS_PER_OFFSET
            offsets = (ends - lengths)[first::_PAIRS_PER_OFFSET]
            self._offsets[side].write(offsets.astype("<i8").data)
            self._lengths[side].write(_little_endian(pairs.lengths[side]).data)
            self._ids[side].write(_little_endian(pairs.ids[side]).data)
            self._num_tokens[side] += len(pairs.ids[side])
        self._corpora.write(np.full(len(pairs), corpus_index, dtype="<u2").data)
        self._num_pairs += len(pairs)

    def finish(self) -> None:
        """Writes the buffered pairs and the index."""
        self._flush()
        index: dict[str, object] = {
            "format_version": FORMAT_VERSION,
            "num_pairs": self._num_pairs,
            "weights": self._weights,
            "lengths_dtype": _little_endian(self._buffer.lengths[0]).dtype.str,
        }
        for side, num_tokens, ids in zip(_SIDES, self._num_tokens, self._buffer.ids, strict=True):
            index[f"{side}_tokens"] = num_tokens
            index[f"{side}_dtype"] = _little_endian(ids).dtype.str
        write_json(self._folder / _INDEX_FILE, index)


@contextmanager
def write_token_store(
    folder: Path,
    *,
    source_vocab_size: int,
    target_vocab_size: int,
    weights: Sequence[float],
    max_tokens: int = 1000,
) -> Iterator[TokenStoreWriter]:
    """Yields a writer; the complete store appears at `folder` when the block succeeds.

    No segment may be longer than `max_tokens`. After an error no files are left; OSError (disk
    full, no permission) is not caught.
    """
    # The files are closed before the folder gets its name.
    with replaced_folder(folder) as unfinished, ExitStack() as files:
        new_buffer = partial(
            PairBuffer,
            source_vocab_size=source_vocab_size,
            target_vocab_size=target_vocab_size,
            max_tokens=max_tokens,
        )
        writer = TokenStoreWriter(unfinished, files, new_buffer, weights)
        yield writer
        writer.finish()


def _little_endian(numbers: "array[int]") -> NDArray[Any]:
    kind = np.dtype(numbers.typecode).newbyteorder("<")
    return np.frombuffer(numbers, dtype=numbers.typecode).astype(kind, copy=False)


def _map(path: Path, dtype: str, count: int) -> Any:
    """Maps a file as a read-only array; numpy cannot map an empty file."""
    _check_size(path, count * np.dtype(dtype).itemsize)
    if count == 0:
        return np.empty(0, dtype=dtype)
    # A view as plain ndarray: slices of np.memmap cost several times more.
    return np.memmap(path, dtype=dtype, mode="r").view(np.ndarray)


def _check_size(path: Path, expected: int) -> None:
    try:
        num_bytes = path.stat().st_size
    except FileNotFoundError:
        raise _damaged(path, "is missing") from None
    if num_bytes != expected:
        raise _damaged(path, f"has {num_bytes:,} bytes instead of {expected:,}")


def _damaged(path: Path, what: str) -> CorpusError:
    return CorpusError(f"the prepared corpus is damaged: {path} {what}; start a new run")
