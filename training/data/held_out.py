"""Makes the dev and test splits: from their own files, or held out of the training candidates.

They are kept in memory and never cleaned.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray

from model.text.text_file import one_line
from training.config import CorpusConfig, DataConfig
from training.data.cleaning import HeldSentences, smallest
from training.data.prepared_corpus import new_text
from training.data.readers import Pair, corpus_name, read_pairs
from training.data.steps import CANDIDATES
from training.data.text_spans import TextSpan, read_some
from training.errors import CorpusError

MAX_HELD_PAIRS = 200_000  # dev and test are kept in memory; a few thousand are enough

# A held-out pair may have at most max_tokens times this many characters, about the length of the
# longest training pair, so that no whole document is translated at every validation.
_HELD_CHARS_PER_TOKEN = 4


@dataclass(frozen=True)
class Splits:
    """The dev and test splits, and the candidates that became part of them."""

    dev: list[Pair]
    test: list[Pair] | None
    sentences: HeldSentences
    taken: frozenset[int]


def read_held(split: str, corpus: CorpusConfig | None, data: DataConfig) -> list[Pair] | None:
    """Reads all pairs of a dev or test corpus; raises CorpusError for a pair with a blank side."""
    if corpus is None:
        return None
    pairs = []
    languages = {
        "source_language": data.source_language,
        "target_language": data.target_language,
    }
    for number, raw in enumerate(read_pairs(corpus, **languages), start=1):
        pair = Pair(one_line(raw.source), one_line(raw.target))
        if not pair.source.strip() or not pair.target.strip():
            side = "target" if pair.source.strip() else "source"
            raise CorpusError(
                f"{split}: pair {number:,} of {corpus_name(corpus)} has a blank {side}; dev and "
                "test are not cleaned, so remove the pair or complete it"
            )
        if number > MAX_HELD_PAIRS:
            raise CorpusError(
                f"{split}: {corpus_name(corpus)} has more than {MAX_HELD_PAIRS:,} pairs; keep "
                "a few thousand and move the rest to train"
            )
        pairs.append(pair)
    if not pairs:
        raise CorpusError(f"{split}: {corpus_name(corpus)} holds no pairs; name another file")
    return pairs


def hold_out(
    data: DataConfig,
    work: Path,
    spans: Sequence[TextSpan],
    hashes: NDArray[np.uint64],
    eligible: Bool[np.ndarray, " candidates"],
    dev: list[Pair] | None,
    test: list[Pair] | None,
) -> Splits:
    """Returns dev and test: the given pairs, else the candidates with the smallest hashes.

    No sentence of one split occurs in the other.
    """
    sentences = HeldSentences()
    for pairs in (dev, test):
        sentences.add(pairs or [])
    at_most = int(eligible.sum()) // 10
    num_test = min(data.test_size, at_most) if test is None else 0
    num_dev = min(data.dev_size, at_most) if dev is None else 0
    taken: dict[int, Pair] = {}
    # Four times as many are read, because some are too long or share a sentence.
    likely = smallest(hashes, eligible, 4 * (num_dev + num_test))
    for index, pair in _candidates_at(work, spans, likely):
        if len(taken) == num_dev + num_test:
            break
        longer = max(len(pair.source), len(pair.target))
        if longer <= _HELD_CHARS_PER_TOKEN * data.cleaning.max_tokens and not sentences.leak(pair):
            sentences.add([pair])
            taken[index] = pair
    chosen = list(taken.values())
    if chosen:  # if they are fewer than asked for, dev and test shrink alike
        num_test = len(chosen) * num_test // (num_test + num_dev)
    if dev is None:
        dev = chosen[num_test:]
        if not dev:
            raise CorpusError(
                f"{int(eligible.sum()):,} different pairs are too few to hold out a dev split; "
                "name files for data.dev and data.test"
            )
    if test is None:
        test = chosen[:num_test] or None
    return Splits(dev, test, sentences, frozenset(taken))


def _candidates_at(
    work: Path, spans: Sequence[TextSpan], indices: NDArray[np.int64]
) -> Iterator[tuple[int, Pair]]:
    """Yields the candidates with these indices, in the given order; reads only their spans."""
    ends = np.cumsum([span.num_pairs for span in spans])
    in_order = np.sort(indices)
    span_of = np.searchsorted(ends, in_order, side="right")
    pair_at: dict[int, Pair] = {}
    for number in np.unique(span_of).tolist():
        inside = in_order[span_of == number]
        in_span = inside - ends[number] + spans[number].num_pairs
        pairs = read_some(work, CANDIDATES, spans[number], in_span.tolist())
        pair_at.update(zip(inside.tolist(), pairs, strict=True))
    for index in indices.tolist():
        yield index, pair_at[index]


def write_held(work: Path, split: str, pairs: list[Pair]) -> None:
    """Writes a split in the format that `prepared_corpus.open_corpus` reads."""
    with (
        new_text(work / f"{split}.source") as sources,
        new_text(work / f"{split}.target") as targets,
    ):
        for pair in pairs:
            sources.write(pair.source + "\n")
            targets.write(pair.target + "\n")
