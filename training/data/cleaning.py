"""Rules that remove pairs from a training corpus, and the samples that dev and test are made of.

Rules on text run before the tokenizer exists, rules on pieces after. They are pure functions; the
callers count what each removed. Dev and test are never cleaned.
"""

import hashlib
from collections.abc import Sequence
from enum import StrEnum

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray

from training.config import CleaningConfig
from training.data.readers import Pair

# Pairs with at most this many pieces may have any ratio: "Ja." may be "Yes, I do think so."
MIN_PIECES_FOR_RATIO = 10

# A SentencePiece piece has at most 16 characters, and normalisation rarely shortens text by more
# than a factor of four, so a text with more characters per token is too long for any tokenizer.
_CHARS_PER_TOKEN_AT_MOST = 64
_SORT_CHUNK = 1 << 20  # hashes read from disk at a time


class Rule(StrEnum):
    """Reasons to remove a pair from training, in the order in which they are checked."""

    EMPTY = "empty"
    IDENTICAL = "identical"
    TOO_LONG = "too_long"
    HELD_OUT = "held_out"  # became a dev or test pair
    LEAKED = "leaked"  # shares a sentence with dev or test
    DUPLICATES = "duplicates"
    LENGTH_RATIO = "length_ratio"


def broken_text_rule(pair: Pair, config: CleaningConfig) -> Rule | None:
    """Returns the first rule on text that a pair (stripped, on one line) breaks, or None."""
    if not pair.source or not pair.target:
        return Rule.EMPTY
    if config.drop_identical and pair.source == pair.target:
        return Rule.IDENTICAL
    if max(len(pair.source), len(pair.target)) > _CHARS_PER_TOKEN_AT_MOST * config.max_tokens:
        return Rule.TOO_LONG
    return None


def broken_piece_rule(num_source: int, num_target: int, config: CleaningConfig) -> Rule | None:
    """Returns the first rule on piece counts (EOS not counted) that a pair breaks, or None."""
    shorter, longer = sorted((num_source, num_target))
    if shorter == 0:  # normalisation removed all of it, for example zero-width spaces
        return Rule.EMPTY
    if longer > config.max_tokens:
        return Rule.TOO_LONG
    if longer > MIN_PIECES_FOR_RATIO and longer > config.max_length_ratio * shorter:
        return Rule.LENGTH_RATIO
    return None


def pair_hash(pair: Pair) -> bytes:
    """Returns an 8-byte hash of the exact pair, the same on every machine.

    Among 50 million different pairs, the probability of any collision is below 1 in 10,000.
    """
    # Neither side contains a line end, so different pairs give different joined texts.
    return hashlib.blake2b(f"{pair.source}\n{pair.target}".encode(), digest_size=8).digest()


class HeldSentences:
    """Finds training pairs that share a sentence with dev or test.

    A pair leaks when its source is a source of dev or test, or its target a target, ignoring case
    and white space.
    """

    def __init__(self) -> None:
        self._sources: set[str] = set()
        self._targets: set[str] = set()

    def add(self, pairs: Sequence[Pair]) -> None:
        """Adds the sentences of dev or test pairs."""
        self._sources.update(_key(pair.source) for pair in pairs)
        self._targets.update(_key(pair.target) for pair in pairs)

    def leak(self, pair: Pair) -> bool:
        """Returns whether either side of the pair occurs in dev or test."""
        return _key(pair.source) in self._sources or _key(pair.target) in self._targets


def _key(text: str) -> str:
    return " ".join(text.casefold().split())


def mark_repeats(
    hashes: NDArray[np.uint64], *, max_bytes: int = 256 << 20
) -> Bool[np.ndarray, " pairs"]:
    """Returns an array that is True for every hash that also occurs earlier.

    `hashes` may be a memory map of any size. It is read in several passes, each of
    which takes about `max_bytes` of memory: a pass sorts the hashes of one residue class. The
    result takes one byte per pair.
    """
    repeats = np.zeros(len(hashes), dtype=np.bool_)
    # In one pass a hash takes 40 bytes: its value, index, sort order and sorted copies.
    num_passes = max(1, -(-len(hashes) * 40 // max_bytes))
    for residue in range(num_passes):
        values, indices = _residue_class(hashes, residue, num_passes)
        order = np.argsort(values, kind="stable")
        values = values[order]
        later = order[1:][values[1:] == values[:-1]]
        repeats[indices[later]] = True
    return repeats


def _residue_class(
    hashes: NDArray[np.uint64], residue: int, num_classes: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Returns the hashes with this remainder, and their indices."""
    values, indices = [], []
    for start in range(0, len(hashes), _SORT_CHUNK):
        chunk = np.asarray(hashes[start : start + _SORT_CHUNK])
        inside = np.flatnonzero(chunk % np.uint64(num_classes) == residue)
        values.append(chunk[inside])
        indices.append(inside + start)
    if not values:
        return np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64)
    return np.concatenate(values), np.concatenate(indices)


def smallest(
    hashes: NDArray[np.uint64], eligible: Bool[np.ndarray, " pairs"], count: int
) -> NDArray[np.int64]:
    """Returns the indices of the `count` smallest eligible hashes, smallest first.

    The choice depends on content only: a pair stays held out when the corpus is reordered, and
    mostly when it grows.
    """
    best = np.empty(0, dtype=np.int64)
    for start in range(0, len(hashes), _SORT_CHUNK):
        candidates = np.flatnonzero(eligible[start : start + _SORT_CHUNK]) + start
        best = np.concatenate([best, candidates])
        best = best[np.argsort(hashes[best], kind="stable")[:count]]
    return best
