"""Makes batches of pairs of similar length under a token budget, in a new order every epoch.

The order depends only on the seed and the epoch, so a resumed run gets the same batches as an
unbroken run, for any number of workers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from model.network.batch import SourceBatch
from model.text.tokenizer import BOS, EOS, PAD
from training.data.token_store import TokenStore

TokenIds = Sequence[int] | NDArray[np.unsignedinteger[Any]]

_BLOCK_PAIRS = 1 << 20  # per step, where arrays of all pairs would take much memory


@dataclass(frozen=True)
class PairBatch:
    """A padded batch of pairs; the decoder reads the target from BOS and predicts it up to EOS."""

    source: SourceBatch
    target_input: Int[Tensor, "batch tgt_len"]
    target_output: Int[Tensor, "batch tgt_len"]  # PAD behind EOS
    num_target_tokens: int  # EOS counted

    def to(self, device: torch.device) -> "PairBatch":
        """Copies the batch to a device."""
        if device.type == "cpu":
            return self
        return PairBatch(
            SourceBatch.from_padded(self.source.token_ids.to(device, non_blocking=True)),
            self.target_input.to(device, non_blocking=True),
            self.target_output.to(device, non_blocking=True),
            self.num_target_tokens,
        )

    def pinned(self) -> "PairBatch":
        """Copies the batch to pinned memory, from which a GPU copies asynchronously."""
        return PairBatch(
            SourceBatch.from_padded(self.source.token_ids.pin_memory()),
            self.target_input.pin_memory(),
            self.target_output.pin_memory(),
            self.num_target_tokens,
        )


def epoch_batches(
    store: TokenStore, *, batch_tokens: int, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """Returns the pair numbers of every batch of one epoch, shuffled.

    A batch holds pairs of nearly equal target length; rows x (longest side, EOS counted) stays
    within `batch_tokens` unless one pair alone is longer. Pairs of a corpus with weight w occur w
    times on average.
    """
    random = np.random.default_rng([seed, epoch])
    pairs = _weighted(store, random)
    random.shuffle(pairs)
    pairs = _sorted_by_lengths(store, pairs)
    batches = _cut(store, pairs, batch_tokens)
    random.shuffle(batches)
    return batches


def read_batch(
    store: TokenStore, pairs: NDArray[np.int64], *, pad_to_multiple: int = 1
) -> PairBatch:
    """Reads pairs from a store into a batch."""
    sources = [store.source(int(pair)) for pair in pairs]
    targets = [store.target(int(pair)) for pair in pairs]
    return collate(sources, targets, pad_to_multiple=pad_to_multiple)


def collate(
    sources: Sequence[TokenIds], targets: Sequence[TokenIds], *, pad_to_multiple: int = 1
) -> PairBatch:
    """Makes a batch of token ids that have no BOS and EOS yet; adds both.

    Sources and targets are padded to their longest, rounded up to `pad_to_multiple`.
    """
    target = _padded(targets, pad_to_multiple)
    start = torch.full((len(targets), 1), BOS, dtype=torch.long)
    without_eos = target[:, :-1].masked_fill(target[:, :-1] == EOS, PAD)
    return PairBatch(
        source=SourceBatch.from_padded(_padded(sources, pad_to_multiple)),
        target_input=torch.cat([start, without_eos], dim=1),
        target_output=target,
        num_target_tokens=sum(len(ids) + 1 for ids in targets),
    )


def _weighted(store: TokenStore, random: np.random.Generator) -> NDArray[np.int64]:
    weights = np.asarray(store.weights, dtype=np.float64)
    if (weights == 1.0).all():
        return np.arange(len(store), dtype=np.int64)
    blocks = []
    for start in range(0, len(store), _BLOCK_PAIRS):
        expected = weights[store.corpus_index[start : start + _BLOCK_PAIRS]]
        whole = np.floor(expected)
        times = whole + (random.random(len(expected)) < expected - whole)
        numbers = np.arange(start, start + len(expected), dtype=np.int64)
        blocks.append(np.repeat(numbers, times.astype(np.int64)))
    return np.concatenate(blocks) if blocks else np.empty(0, dtype=np.int64)


def _sorted_by_lengths(store: TokenStore, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sorts pairs by target length, then source length, then their order in the input.

    After a shuffle, pairs of equal lengths get other neighbours every epoch. The three keys are
    packed into one number, which is sorted in place: 50 million pairs take 1.2 GB at the peak,
    input and output included.
    """
    keys = np.empty(len(pairs), dtype=np.uint64)
    for start in range(0, len(pairs), _BLOCK_PAIRS):
        block = pairs[start : start + _BLOCK_PAIRS]
        key = keys[start : start + _BLOCK_PAIRS]
        # Sentences longer than 65,535 tokens count as equally long.
        key[:] = np.minimum(store.target_lengths[block], 0xFFFF)
        key <<= np.uint64(16)
        key |= np.minimum(store.source_lengths[block], 0xFFFF).astype(np.uint64)
        key <<= np.uint64(32)
        key |= np.arange(start, start + len(block), dtype=np.uint64)
    keys.sort()
    keys &= np.uint64(0xFFFFFFFF)
    return pairs[keys.view(np.int64)]


def _cut(store: TokenStore, pairs: NDArray[np.int64], batch_tokens: int) -> list[NDArray[np.int64]]:
    """Cuts the sorted pairs into batches as large as the budget allows."""
    longest = np.empty(len(pairs), dtype=store.target_lengths.dtype)
    for start in range(0, len(pairs), _BLOCK_PAIRS):
        block = pairs[start : start + _BLOCK_PAIRS]
        longest[start : start + _BLOCK_PAIRS] = (
            np.maximum(store.source_lengths[block], store.target_lengths[block]) + 1
        )
    batches = []
    start = 0
    while start < len(pairs):
        at_most = max(batch_tokens // int(longest[start]), 1)
        widest = np.maximum.accumulate(longest[start : start + at_most])
        padded = widest * np.arange(1, len(widest) + 1)  # never falls
        num_rows = max(int(np.searchsorted(padded, batch_tokens, side="right")), 1)
        batches.append(pairs[start : start + num_rows])
        start += num_rows
    return batches


def _padded(sequences: Sequence[TokenIds], multiple: int) -> Int[Tensor, "batch length"]:
    length = -(-(max(map(len, sequences)) + 1) // multiple) * multiple
    padded = np.full((len(sequences), length), PAD, dtype=np.int64)
    for row, ids in enumerate(sequences):
        padded[row, : len(ids)] = ids
        padded[row, len(ids)] = EOS
    return torch.from_numpy(padded)
