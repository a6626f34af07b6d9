"""The rules that throw pairs out of a training corpus; each is a pure function, counted elsewhere.

Rules on text run before the tokenizer exists, rules on pieces after. Nothing here rewrites text
beyond putting a pair on one line; dev and test are never cleaned.
"""

import hashlib
from collections.abc import Sequence
from enum import StrEnum

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray

from training.config import CleaningConfig
from training.data.readers import Pair

# Below this many pieces on the longer side a ratio says little: "Ja." may be "Yes, I do think so."
MIN_PIECES_FOR_RATIO = 10

# SentencePiece's pieces span at most 16 characters and normalisation rarely shortens text by more
# than a few times, so a text this much longer than max_tokens is too long under any tokenizer.
_CHARS_PER_TOKEN_AT_MOST = 64
_SORT_CHUNK = 1 << 20  # hashes read from disk at a time


class Rule(StrEnum):
    """Why a pair is not trained on, in the order the rules are applied."""

    EMPTY = "empty"
    IDENTICAL = "identical"
    TOO_LONG = "too_long"
    HELD_OUT = "held_out"  # became a dev or test pair itself
    LEAKED = "leaked"  # shares a sentence with dev or test
    DUPLICATES = "duplicates"
    LENGTH_RATIO = "length_ratio"


def broken_text_rule(pair: Pair, config: CleaningConfig) -> Rule | None:
    """The first rule on text alone that the pair (stripped, on one line) breaks, or None."""
    if not pair.source or not pair.target:
        return Rule.EMPTY
    if config.drop_identical and pair.source == pair.target:
        return Rule.IDENTICAL
    if max(len(pair.source), len(pair.target)) > _CHARS_PER_TOKEN_AT_MOST * config.max_tokens:
        return Rule.TOO_LONG
    return None


def broken_piece_rule(num_source: int, num_target: int, config: CleaningConfig) -> Rule | None:
    """The first rule on numbers of pieces (EOS not counted) that a pair breaks, or None."""
    shorter, longer = sorted((num_source, num_target))
    if shorter == 0:  # text that normalisation leaves nothing of, such as zero-width spaces
        return Rule.EMPTY
    if longer > config.max_tokens:
        return Rule.TOO_LONG
    if longer > MIN_PIECES_FOR_RATIO and longer > config.max_length_ratio * shorter:
        return Rule.LENGTH_RATIO
    return None


def pair_hash(pair: Pair) -> bytes:
    """8 bytes that stand for the exact pair, the same on every machine and in every run.

    Among 50 million different pairs the chance that any two collide is below one in ten thousand.
    """
    # Neither side holds a line end, so the joined text is one-to-one with the pair.
    return hashlib.blake2b(f"{pair.source}\n{pair.target}".encode(), digest_size=8).digest()


class HeldSentences:
    """The sentences of dev and test, against which training pairs are checked.

    A pair leaks when its source is a held source, or its target a held target, whatever the case
    and the white space.
    """

    def __init__(self) -> None:
        self._sources: set[str] = set()
        self._targets: set[str] = set()

    def add(self, pairs: Sequence[Pair]) -> None:
        """Holds these pairs' sentences too."""
        self._sources.update(_key(pair.source) for pair in pairs)
        self._targets.update(_key(pair.target) for pair in pairs)

    def leak(self, pair: Pair) -> bool:
        """Whether either side of the pair is held."""
        return _key(pair.source) in self._sources or _key(pair.target) in self._targets


def _key(text: str) -> str:
    return " ".join(text.casefold().split())


def mark_repeats(
    hashes: NDArray[np.uint64], *, max_bytes: int = 256 << 20
) -> Bool[np.ndarray, " pairs"]:
    """True for every hash that stands earlier in the array as well.

    `hashes` may be a memory map of any size: it is read in as many passes as keep the working set
    near `max_bytes` (a pass takes the hashes of one residue class and sorts them stably). The
    result itself takes one byte a pair.
    """
    repeats = np.zeros(len(hashes), dtype=np.bool_)
    # In one pass a hash costs its value, its index, the sort's order and sorted copies: 40 bytes.
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
    """The hashes with this remainder, and where they stand."""
    values, indices = [], []
    for start in range(0, len(hashes), _SORT_CHUNK):
        chunk = np.asarray(hashes[start : start + _SORT_CHUNK])
        places = np.flatnonzero(chunk % np.uint64(num_classes) == residue)
        values.append(chunk[places])
        indices.append(places + start)
    if not values:
        return np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64)
    return np.concatenate(values), np.concatenate(indices)


def smallest(
    hashes: NDArray[np.uint64], eligible: Bool[np.ndarray, " pairs"], count: int
) -> NDArray[np.int64]:
    """Indices of the `count` smallest eligible hashes, smallest first: a sample that no seed moves.

    Chosen by content, a pair stays held out when the corpus is reordered, and mostly when it grows.
    """
    best = np.empty(0, dtype=np.int64)
    for start in range(0, len(hashes), _SORT_CHUNK):
        places = np.flatnonzero(eligible[start : start + _SORT_CHUNK]) + start
        best = np.concatenate([best, places])
        best = best[np.argsort(hashes[best], kind="stable")[:count]]
    return best
