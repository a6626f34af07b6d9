"""Tests that stored pairs are read back, damage is reported, and failures leave no files."""

import errno
import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.token_store import PairBuffer, TokenStore, TokenStoreWriter, write_token_store
from training.errors import CorpusError

PAIRS = [([5, 6, 7], [8], 0), ([9], [10, 11], 1), ([], [65_535], 0), ([4] * 300, [5] * 200, 1)]


@contextmanager
def writer(folder: Path, source_vocab_size: int = 100) -> Iterator[TokenStoreWriter]:
    with write_token_store(
        folder,
        source_vocab_size=source_vocab_size,
        target_vocab_size=1 << 16,
        weights=[1.0, 2.5],
    ) as found:
        yield found


def fill(folder: Path) -> None:
    with writer(folder) as store:
        for source, target, corpus in PAIRS:
            store.append(source, target, corpus)


def test_stored_pairs_are_read_back_unchanged(tmp_path: Path) -> None:
    fill(tmp_path / "store")
    store = TokenStore.open(tmp_path / "store")
    assert len(store) == 4
    found = [
        (store.source(pair).tolist(), store.target(pair).tolist(), int(store.corpus_index[pair]))
        for pair in range(len(store))
    ]
    assert found == PAIRS
    assert store.source_lengths.tolist() == [3, 1, 0, 300]
    assert store.target_lengths.tolist() == [1, 2, 1, 200]
    assert store.weights == (1.0, 2.5)
    assert store.source(0).dtype == np.uint16
    with pytest.raises(ValueError, match="read-only"):
        store.source(0)[0] = 1


def test_pairs_can_be_read_in_any_order(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pairs = [
        (random.integers(0, 99, s).tolist(), random.integers(0, 99, t).tolist())
        for s, t in random.integers(0, 30, (300, 2)).tolist()
    ]
    buffers = []
    for start, stop in ((0, 1), (1, 100), (100, 131), (131, 131)):  # not by 32
        buffer = PairBuffer(source_vocab_size=100, target_vocab_size=1 << 16, max_tokens=1000)
        for pair in pairs[start:stop]:
            buffer.append(*pair)
        buffers.append(buffer)
    with writer(tmp_path / "store") as store:
        for buffer in buffers:
            store.extend(buffer, 1)
        for pair in pairs[131:]:
            store.append(*pair, 0)
    opened = TokenStore.open(tmp_path / "store")
    assert opened.corpus_index.tolist() == [1] * 131 + [0] * 169
    for number in random.permutation(300).tolist():
        found = (opened.source(number).tolist(), opened.target(number).tolist())
        assert found == pairs[number]


def test_a_store_closes_its_files(tmp_path: Path) -> None:
    fill(tmp_path / "store")

    def num_open() -> int:
        links = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
        return sum("_ids.bin" in os.readlink(link) for link in links if link.is_symlink())

    store = TokenStore.open(tmp_path / "store")
    assert num_open() == 2
    del store
    assert num_open() == 0


def test_ids_truncated_after_opening_raise_an_error(tmp_path: Path) -> None:
    fill(tmp_path / "store")
    store = TokenStore.open(tmp_path / "store")
    os.truncate(tmp_path / "store" / "source_ids.bin", 20)
    assert store.source(1).tolist() == [9]
    with pytest.raises(CorpusError, match="the source ids of pair 3 are incomplete"):
        store.source(3)


def test_a_vocabulary_above_65536_uses_four_bytes_per_id(tmp_path: Path) -> None:
    with writer(tmp_path / "store", source_vocab_size=(1 << 16) + 1) as store:
        store.append([1 << 16], [7], 0)
    opened = TokenStore.open(tmp_path / "store")
    assert opened.source(0).tolist() == [1 << 16]
    assert opened.source(0).dtype == np.uint32
    assert opened.target(0).dtype == np.uint16


def test_an_id_outside_the_vocabulary_raises_overflow_error(tmp_path: Path) -> None:
    with pytest.raises(OverflowError), writer(tmp_path / "store") as store:
        store.append([1 << 16], [7], 0)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="corpus 2 has no weight"), writer(tmp_path / "s") as store:
        store.append([1], [2], 2)


segments = st.lists(st.integers(0, 99), max_size=20)


@settings(max_examples=25, deadline=None)  # each one waits for the disk
@given(pairs=st.lists(st.tuples(segments, segments, st.integers(0, 1)), max_size=30))
def test_pairs_are_unchanged_for_any_flush_size(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[list[int], list[int], int]]
) -> None:
    folder = tmp_path_factory.mktemp("stores") / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TokenStoreWriter, "_FLUSH_TOKENS", 16)
        with writer(folder) as store:
            for source, target, corpus in pairs:
                store.append(source, target, corpus)
    opened = TokenStore.open(folder)
    found = [
        (opened.source(pair).tolist(), opened.target(pair).tolist(), opened.corpus_index[pair])
        for pair in range(len(opened))
    ]
    assert found == pairs


def test_the_store_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    with writer(tmp_path / "store") as store:
        store.append([1], [2], 0)
        assert not (tmp_path / "store").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_an_exception_leaves_no_files(tmp_path: Path) -> None:
    def interrupted() -> None:
        with writer(tmp_path / "store") as store:
            store.append([1], [2], 0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


@contextmanager
def files_up_to(num_bytes: int) -> Iterator[None]:
    """Limits the size of files, which simulates a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("num_pairs", [15_000, 100_000])  # noticed at the last flush, or midway
def test_a_disk_that_takes_no_more_leaves_nothing(tmp_path: Path, num_pairs: int) -> None:
    def too_much() -> None:
        with writer(tmp_path / "store") as store:
            for _ in range(num_pairs):
                store.append([1, 2, 3, 4], [2], 0)

    with files_up_to(100_000), pytest.raises(OSError, match="File too large") as caught:
        too_much()
    assert caught.value.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_created_raises_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"), writer(tmp_path / "file" / "store"):
        pass


@pytest.mark.parametrize("name", ["source_ids", "target_offsets", "target_lengths", "corpus_index"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_damaged_arrays_are_refused(tmp_path: Path, name: str, damage: str) -> None:
    fill(tmp_path / "store")
    path = tmp_path / "store" / f"{name}.bin"
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorpusError, match=rf"{name}\.bin (is missing|has [\d,]+ bytes instead of)"):
        TokenStore.open(tmp_path / "store")


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ("{", "is not valid JSON"),
        ("[]", "format None"),
        ('{"format_version": 99}', "format 99, this version of Dragoman reads 2"),
        ('{"format_version": 1}', "format 1, this version of Dragoman reads 2; start a new run"),
        ('{"format_version": 2}', "lacks an entry"),
    ],
)
def test_a_damaged_index_is_refused(tmp_path: Path, index: str, reason: str) -> None:
    fill(tmp_path / "store")
    (tmp_path / "store" / "store.json").write_text(index)
    with pytest.raises(CorpusError, match=reason):
        TokenStore.open(tmp_path / "store")


def test_a_folder_without_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="holds no token store"):
        TokenStore.open(tmp_path)


def test_the_index_describes_the_store(tmp_path: Path) -> None:
    fill(tmp_path / "store")
    index = json.loads((tmp_path / "store" / "store.json").read_text())
    assert (index["num_pairs"], index["source_tokens"], index["target_tokens"]) == (4, 304, 204)
