"""Tests the size and the variety of the artificial corpus."""

from itertools import pairwise
from pathlib import Path

import pytest

from tests.training.data import big_corpus


def test_generated_pairs_are_aligned_and_distinct(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(big_corpus, "_CHUNK_PAIRS", 2000)
    big_corpus.write(tmp_path, num_pairs=2100)  # more than a chunk
    sides = [(tmp_path / name).read_text().splitlines() for name in ("big.en", "big.de")]
    assert [len(side) for side in sides] == [2100, 2100]
    lengths = [[len(line.split(" ")) for line in side] for side in sides]
    assert lengths[0] == lengths[1]
    assert (min(lengths[0]), max(lengths[0])) == (3, 40)
    assert len(set(sides[0])) > 2090
    assert not any(source == target for source, target in zip(*sides, strict=True))
    words = big_corpus.words()
    assert len(set(words)) == big_corpus.NUM_WORDS
    counts = [sum(f" {word} " in line for line in sides[0]) for word in words[1:1000:300]]
    assert all(more > fewer for more, fewer in pairwise(counts))  # frequency falls with the rank
