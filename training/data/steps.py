"""The three steps of `prepare.py`, each applied to one block of pairs in a worker process.

A step depends on its block only, so the result is the same for any number of processes. Workers get
a step once, blocks one by one.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.text.text_file import one_line
from model.text.tokenizer import TokenizerPair
from training.config import CleaningConfig
from training.data.cleaning import (
    HeldSentences,
    Rule,
    broken_piece_rule,
    broken_text_rule,
    pair_hash,
)
from training.data.readers import Pair, PairBlock
from training.data.text_spans import TextSpan, read_span
from training.data.token_store import PairBuffer

CANDIDATES, TRAIN = "candidates", "train"  # names of text files


@dataclass(frozen=True)
class TextBlock:
    """Pairs that passed a step, as lines of UTF-8, and counts of the removed ones."""

    num_pairs: int
    source: bytes
    target: bytes
    removed: Counter[Rule]

    @property
    def num_read(self) -> int:
        """Number of pairs before the step."""
        return self.num_pairs + self.removed.total()

    @classmethod
    def of(cls, pairs: list[Pair], removed: Counter[Rule]) -> "TextBlock":
        source = "".join([pair.source + "\n" for pair in pairs]).encode()
        target = "".join([pair.target + "\n" for pair in pairs]).encode()
        return cls(len(pairs), source, target, removed)


@dataclass(frozen=True)
class Candidates:
    """Pairs that passed the rules on text, with an 8-byte hash for each."""

    text: TextBlock
    hashes: bytes


@dataclass(frozen=True)
class FindCandidates:
    """First step: parses a block of the input and applies the rules on text."""

    cleaning: CleaningConfig

    def __call__(self, block: PairBlock) -> Candidates:
        pairs: list[Pair] = []
        hashes: list[bytes] = []
        removed: Counter[Rule] = Counter()
        for raw in block.pairs():
            pair = Pair(one_line(raw.source).strip(), one_line(raw.target).strip())
            rule = broken_text_rule(pair, self.cleaning)
            if rule is None:
                pairs.append(pair)
                hashes.append(pair_hash(pair))
            else:
                removed[rule] += 1
        return Candidates(TextBlock.of(pairs, removed), b"".join(hashes))


@dataclass(frozen=True)
class CandidateSpan:
    """Candidates of the second step, and which of them are held out or repeats."""

    span: TextSpan
    taken: NDArray[np.bool_]  # became dev or test
    repeats: NDArray[np.bool_]  # removed unless an earlier rule applies


@dataclass(frozen=True)
class ChooseTrainText:
    """Second step: removes candidates in dev or test, leaks and repeats."""

    folder: Path
    sentences: HeldSentences

    def __call__(self, block: CandidateSpan) -> TextBlock:
        pairs: list[Pair] = []
        removed: Counter[Rule] = Counter()
        candidates = read_span(self.folder, CANDIDATES, block.span)
        flags = zip(block.taken.tolist(), block.repeats.tolist(), strict=True)
        for pair, (taken, repeat) in zip(candidates, flags, strict=True):
            if taken:
                removed[Rule.HELD_OUT] += 1
            elif self.sentences.leak(pair):
                removed[Rule.LEAKED] += 1
            elif repeat:
                removed[Rule.DUPLICATES] += 1
            else:
                pairs.append(pair)
        return TextBlock.of(pairs, removed)


@dataclass(frozen=True)
class EncodedBlock:
    """Token ids of the pairs that passed the rules on pieces, and counts of the others."""

    ids: PairBuffer
    removed: Counter[Rule]


@dataclass(frozen=True)
class Encode:
    """Third step: encodes training text and applies the rules on pieces."""

    folder: Path
    tokenizers: TokenizerPair
    cleaning: CleaningConfig

    def __call__(self, span: TextSpan) -> EncodedBlock:
        pairs = list(read_span(self.folder, TRAIN, span))
        all_source_ids = self.tokenizers.source.encode_many([pair.source for pair in pairs])
        all_target_ids = self.tokenizers.target.encode_many([pair.target for pair in pairs])
        ids = PairBuffer(
            source_vocab_size=self.tokenizers.source.size,
            target_vocab_size=self.tokenizers.target.size,
            max_tokens=self.cleaning.max_tokens,
        )
        removed: Counter[Rule] = Counter()
        for source_ids, target_ids in zip(all_source_ids, all_target_ids, strict=True):
            rule = broken_piece_rule(len(source_ids), len(target_ids), self.cleaning)
            if rule is None:
                ids.append(source_ids, target_ids)
            else:
                removed[rule] += 1
        return EncodedBlock(ids, removed)
