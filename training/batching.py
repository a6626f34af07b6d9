"""Pairs -> batches of similar length under a token budget, in a new order every epoch.

The order is a function of the seed and the epoch alone, so a resumed run sees the batches that an
unbroken one would have seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from model.batch import SourceBatch
from model.tokenizer import BOS, EOS, PAD
from training.token_store import TokenStore

TokenIds = Sequence[int] | NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True)
class PairBatch:
    """Sources and targets side by side; the target is read from BOS and predicted up to EOS."""

    source: SourceBatch
    target_input: Int[Tensor, "batch tgt_len"]
    target_output: Int[Tensor, "batch tgt_len"]  # PAD behind EOS
    num_target_tokens: int  # EOS counted

    def to(self, device: torch.device) -> "PairBatch":
        """The same batch on a device."""
        if device.type == "cpu":
            return self
        return PairBatch(
            SourceBatch.from_padded(self.source.token_ids.to(device, non_blocking=True)),
            self.target_input.to(device, non_blocking=True),
            self.target_output.to(device, non_blocking=True),
            self.num_target_tokens,
        )


def epoch_batches(
    store: TokenStore, *, batch_tokens: int, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """Pair numbers of every batch of one epoch, shuffled.

    A batch holds pairs of nearly equal target length; rows x (longest side, EOS counted) stays
    within `batch_tokens` unless one pair alone is longer. A corpus of weight w gives each of its
    pairs w times on average.
    """
    random = np.random.default_rng([seed, epoch])
    pairs = _weighted(store, random)
    random.shuffle(pairs)
    source_lengths = store.source_lengths[pairs] + 1
    target_lengths = store.target_lengths[pairs] + 1
    # Stable, after the shuffle: pairs of equal lengths meet other neighbours every epoch.
    order = np.lexsort((source_lengths, target_lengths))
    pairs = pairs[order]
    longest = np.maximum(source_lengths, target_lengths)[order]
    batches = _cut(pairs, longest, batch_tokens)
    random.shuffle(batches)
    return batches


def read_batch(store: TokenStore, pairs: NDArray[np.int64]) -> PairBatch:
    """The batch of these pairs of a store."""
    return collate([store.source(int(p)) for p in pairs], [store.target(int(p)) for p in pairs])


def collate(sources: Sequence[TokenIds], targets: Sequence[TokenIds]) -> PairBatch:
    """Ids without BOS and EOS, side by side in one batch that has them."""
    target = _padded(targets)
    start = torch.full((len(targets), 1), BOS, dtype=torch.long)
    without_eos = target[:, :-1].masked_fill(target[:, :-1] == EOS, PAD)
    return PairBatch(
        source=SourceBatch.from_padded(_padded(sources)),
        target_input=torch.cat([start, without_eos], dim=1),
        target_output=target,
        num_target_tokens=sum(len(ids) + 1 for ids in targets),
    )


def _weighted(store: TokenStore, random: np.random.Generator) -> NDArray[np.int64]:
    weights = np.asarray(store.weights, dtype=np.float64)
    if (weights == 1.0).all():
        return np.arange(len(store), dtype=np.int64)
    expected = weights[store.corpus_index]
    whole = np.floor(expected)
    times = whole + (random.random(len(expected)) < expected - whole)
    return np.repeat(np.arange(len(store), dtype=np.int64), times.astype(np.int64))


def _cut(
    pairs: NDArray[np.int64], longest: NDArray[np.int64], batch_tokens: int
) -> list[NDArray[np.int64]]:
    batches = []
    start, widest = 0, 0
    for place, length in enumerate(longest.tolist()):
        if place > start and (place - start + 1) * max(widest, length) > batch_tokens:
            batches.append(pairs[start:place])
            start, widest = place, 0
        widest = max(widest, length)
    if start < len(pairs):
        batches.append(pairs[start:])
    return batches


def _padded(sequences: Sequence[TokenIds]) -> Int[Tensor, "batch length"]:
    padded = np.full((len(sequences), max(map(len, sequences)) + 1), PAD, dtype=np.int64)
    for row, ids in enumerate(sequences):
        padded[row, : len(ids)] = ids
        padded[row, len(ids)] = EOS
    return torch.from_numpy(padded)
