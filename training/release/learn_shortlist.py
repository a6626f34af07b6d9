"""Prepared pairs -> a lexical shortlist: which target pieces go with which source pieces.

IBM model 1 (Brown et al., 1993): the probability that a source piece stands behind a target piece
depends on the two alone, and a few rounds of expectation maximisation over the pairs find it.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from model.inference.shortlist import Shortlist
from model.text.tokenizer import EOS, PAD, UNK
from training.data.token_store import TokenStore

CANDIDATES = 24  # target pieces kept for every source piece
FREQUENT = 96  # target pieces that every sentence may use
_ROUNDS = 4
_MAX_LINKS = 20_000_000  # pieces of one pair taken two by two, over all pairs read: 1 GB of memory
_NOTHING = PAD  # stands for the source of target pieces that translate nothing


def learn_shortlist(
    store: TokenStore, *, source_vocab_size: int, target_vocab_size: int, joint: bool, seed: int
) -> Shortlist:
    """Learns from all pairs, or from a sample when there are very many.

    With a joint vocabulary a source piece may also be copied.
    """
    links = _Links.read(store, target_vocab_size, seed)
    source_ids, target_ids = np.divmod(links.pairs, target_vocab_size)
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
    counts = links.target_counts
    counts[: EOS + 1] = 0
    frequent = np.argsort(-counts, kind="stable")[:FREQUENT]
    frequent = frequent[counts[frequent] > 0].astype(np.int32)
    return Shortlist(torch.from_numpy(by_source), torch.from_numpy(frequent))


class _Links:
    """Every source piece of a pair with every target piece of it, as flat arrays."""

    def __init__(
        self, keys: NDArray[np.int64], targets: NDArray[np.int64], target_counts: NDArray[np.int64]
    ) -> None:
        # (source piece, target piece) as one number, each kind once; and the kind of every link
        self.pairs, self.kinds = np.unique(keys, return_inverse=True)
        self.targets = targets  # which piece of the text each link leads to
        self.target_counts = target_counts  # by target piece

    @classmethod
    def read(cls, store: TokenStore, target_vocab_size: int, seed: int) -> "_Links":
        keys: list[NDArray[np.int64]] = []
        targets: list[NDArray[np.int64]] = []
        target_counts = np.zeros(target_vocab_size, dtype=np.int64)
        num_links = num_targets = 0
        for pair in np.random.default_rng(seed).permutation(len(store)):
            source = np.append(store.source(pair), _NOTHING).astype(np.int64)
            target = store.target(pair).astype(np.int64)
            keys.append((source[:, None] * target_vocab_size + target).ravel())
            places = np.arange(num_targets, num_targets + len(target))
            targets.append(np.tile(places, len(source)))
            np.add.at(target_counts, target, 1)
            num_targets += len(target)
            num_links += len(source) * len(target)
            if num_links > _MAX_LINKS:
                break
        return cls(np.concatenate(keys), np.concatenate(targets), target_counts)


def _model_1(
    links: _Links, source_ids: NDArray[np.int64], source_vocab_size: int
) -> NDArray[np.float64]:
    """p(target piece | source piece) of every kind of link."""
    probabilities = np.ones(len(links.pairs))
    for _ in range(_ROUNDS):
        shares = probabilities[links.kinds]
        shares /= np.bincount(links.targets, weights=shares)[links.targets]
        counts = np.bincount(links.kinds, weights=shares, minlength=len(links.pairs))
        totals = np.bincount(source_ids, weights=counts, minlength=source_vocab_size)
        probabilities = counts / totals[source_ids]
    return probabilities
