"""Learns a lexical shortlist from prepared pairs: likely target pieces of each source piece.

Uses IBM model 1 (Brown et al., 1993): p(target piece | source piece) is estimated from the pairs by
a few rounds of expectation maximisation.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.inference.shortlist import Shortlist
from model.text.tokenizer import EOS, PAD, UNK
from training.data.token_store import TokenStore

CANDIDATES = 24  # target pieces kept for every source piece
FREQUENT = 96  # target pieces that every sentence may use
_ROUNDS = 4
_MAX_LINKS = 20_000_000  # source pieces x target pieces, summed over pairs
_BLOCK_LINKS = 1_000_000  # of the pairs that are computed at a time
_PAIRS_AT_ONCE = 1 << 16  # whose lengths are read at a time
_NOTHING = PAD  # the source of target pieces that translate no source piece


def learn_shortlist(
    store: TokenStore, *, source_vocab_size: int, target_vocab_size: int, joint: bool, seed: int
) -> Shortlist:
    """Learns a shortlist from all pairs, or from a sample if there are very many.

    With a joint vocabulary a source piece may also be copied.
    """
    links = _Links.read(store, source_vocab_size, target_vocab_size, seed)
    source_ids, target_ids = np.divmod(links.kinds.astype(np.int64), target_vocab_size)
    probabilities = _model_1(links, source_ids, source_vocab_size)
    # By source piece, the likeliest target piece first.
    order = np.lexsort((target_ids, -probabilities, source_ids))
    source_ids, target_ids = source_ids[order], target_ids[order]
    rank = np.arange(len(order)) - np.searchsorted(source_ids, source_ids)
    kept = (rank < CANDIDATES) & (target_ids > EOS)
    by_source = np.full((source_vocab_size, CANDIDATES + joint), PAD, dtype=np.int32)
    by_source[source_ids[kept], rank[kept]] = target_ids[kept]
    if joint:
        by_source[UNK + 1 :, -1] = np.arange(UNK + 1, source_vocab_size)
    counts: NDArray[np.int64] = np.sum([block.target_counts for block in links.blocks], axis=0)
    counts[: EOS + 1] = 0
    frequent = np.argsort(-counts, kind="stable")[:FREQUENT]
    frequent = frequent[counts[frequent] > 0].astype(np.int32)
    return Shortlist(torch.from_numpy(by_source), torch.from_numpy(frequent))


@dataclass(frozen=True)
class _Block:
    """The links of some pairs: each source piece with each target piece of its pair."""

    kinds: NDArray[np.unsignedinteger[Any]]  # source piece x vocabulary + target piece
    targets: NDArray[np.uint32]  # position of the link's target piece in the text of the block
    target_counts: NDArray[np.int64]  # by target piece


@dataclass(frozen=True)
class _Links:
    """All links that a shortlist is learnt from; 8 bytes each."""

    blocks: list[_Block]  # their kinds are indices into `kinds`
    kinds: NDArray[np.unsignedinteger[Any]]  # the distinct ones, sorted

    @classmethod
    def read(
        cls, store: TokenStore, source_vocab_size: int, target_vocab_size: int, seed: int
    ) -> "_Links":
        number = np.min_scalar_type(source_vocab_size * target_vocab_size)
        blocks = [
            _read_block(store, pairs, target_vocab_size, number) for pairs in _drawn(store, seed)
        ]
        kinds = np.unique(np.concatenate([np.unique(block.kinds) for block in blocks]))
        indexed = (np.searchsorted(kinds, block.kinds).astype(np.uint32) for block in blocks)
        return cls(
            [replace(block, kinds=indices) for block, indices in zip(blocks, indexed, strict=True)],
            kinds,
        )


def _drawn(store: TokenStore, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yields pairs in random order, in blocks of about _BLOCK_LINKS, until _MAX_LINKS are drawn."""
    order = np.random.default_rng(seed).permutation(len(store))
    num_left = _MAX_LINKS
    for start in range(0, len(order), _PAIRS_AT_ONCE):
        pairs = order[start : start + _PAIRS_AT_ONCE]
        # _NOTHING is one more source piece of every pair.
        num_links = (store.source_lengths[pairs].astype(np.int64) + 1) * store.target_lengths[pairs]
        ends = np.cumsum(num_links)
        within = int(np.searchsorted(ends, num_left, side="right")) + 1
        pairs, ends = pairs[:within], ends[:within]
        yield from np.split(pairs, np.flatnonzero(np.diff(ends // _BLOCK_LINKS)) + 1)
        num_left -= int(ends[-1])
        if num_left < 0:
            return


def _read_block(
    store: TokenStore, pairs: NDArray[np.int64], target_vocab_size: int, number: np.dtype[Any]
) -> _Block:
    sources = [np.append(store.source(pair), _NOTHING).astype(np.int64) for pair in pairs.tolist()]
    targets = [store.target(pair).astype(np.int64) for pair in pairs.tolist()]
    starts = np.cumsum([0, *map(len, targets)])
    kinds = [
        (source[:, None] * target_vocab_size + target).ravel()
        for source, target in zip(sources, targets, strict=True)
    ]
    positions = [
        np.tile(np.arange(start, start + len(target), dtype=np.uint32), len(source))
        for source, target, start in zip(sources, targets, starts[:-1], strict=True)
    ]
    return _Block(
        np.concatenate(kinds).astype(number),
        np.concatenate(positions),
        np.bincount(np.concatenate(targets), minlength=target_vocab_size),
    )


def _model_1(
    links: _Links, source_ids: NDArray[np.int64], source_vocab_size: int
) -> NDArray[np.float64]:
    """Estimates p(target piece | source piece) of every distinct link."""
    probabilities = np.ones(len(links.kinds))
    for _ in range(_ROUNDS):
        counts = np.zeros(len(links.kinds))
        for block in links.blocks:
            shares = probabilities[block.kinds]
            shares /= np.bincount(block.targets, weights=shares)[block.targets]
            counts += np.bincount(block.kinds, weights=shares, minlength=len(links.kinds))
        totals = np.bincount(source_ids, weights=counts, minlength=source_vocab_size)
        probabilities = counts / totals[source_ids]
    return probabilities
