"""Learns a lexical shortlist from prepared pairs: likely target pieces of each source piece.

Uses IBM model 1 (Brown et al., 1993): p(target piece | source piece) is estimated from the pairs by
a few rounds of expectation maximisation.
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
_MAX_LINKS = 20_000_000  # source pieces x target pieces, summed over pairs; takes 1 GB of memory
_NOTHING = PAD  # the source of target pieces that translate no source piece


def learn_shortlist(
    store: TokenStore, *, source_vocab_size: int, target_vocab_size: int, joint: bool, seed: int
) -> Shortlist:
    """Learns a shortlist from all pairs, or from a sample if there are very many.

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
    """All combinations of a source piece and a target piece of the same pair, as flat arrays."""

    def __init__(
        self, keys: NDArray[np.int64], targets: NDArray[np.int64], target_counts: NDArray[np.int64]
    ) -> None:
        # Distinct (source piece, target piece), each as one number; and its index for every link.
        self.pairs, self.kinds = np.unique(keys, return_inverse=True)
        self.targets = targets  # position of each link's target piece in the text
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
            positions = np.arange(num_targets, num_targets + len(target))
            targets.append(np.tile(positions, len(source)))
            np.add.at(target_counts, target, 1)
            num_targets += len(target)
            num_links += len(source) * len(target)
            if num_links > _MAX_LINKS:
                break
        return cls(np.concatenate(keys), np.concatenate(targets), target_counts)


def _model_1(
    links: _Links, source_ids: NDArray[np.int64], source_vocab_size: int
) -> NDArray[np.float64]:
    """Estimates p(target piece | source piece) of every distinct link."""
    probabilities = np.ones(len(links.pairs))
    for _ in range(_ROUNDS):
        shares = probabilities[links.kinds]
        shares /= np.bincount(links.targets, weights=shares)[links.targets]
        counts = np.bincount(links.kinds, weights=shares, minlength=len(links.pairs))
        totals = np.bincount(source_ids, weights=counts, minlength=source_vocab_size)
        probabilities = counts / totals[source_ids]
    return probabilities
