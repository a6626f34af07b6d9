"""Log-probabilities of given targets, by teacher forcing; no search.

The targets go through the steps that translate, so a pair gets the same scores in any batch, to the
last bit, where the network's translations do (packed_network.py).
"""

from collections.abc import Iterator, Sequence

import torch

from model.decoding.beam_search import log_sum_exp
from model.inference.packed_network import PackedNetwork
from model.inference.padding import padded_batch, padded_sentences
from model.network.batch import pad
from model.text.tokenizer import BOS, EOS

_MAX_PAIRS = 64  # scored together

IdPair = tuple[Sequence[int], Sequence[int]]  # source and target, neither with BOS nor EOS


@torch.inference_mode()
def score_targets(network: PackedNetwork, pairs: Sequence[IdPair]) -> list[tuple[float, ...]]:
    """Per pair, the log_prob of every target piece and, last, of EOS."""
    scores: list[tuple[float, ...]] = [()] * len(pairs)
    for batch in _batches(pairs):
        for index, found in zip(batch, _score([pairs[i] for i in batch], network), strict=True):
            scores[index] = found
    return scores


def _batches(pairs: Sequence[IdPair]) -> Iterator[Sequence[int]]:
    """Indices of pairs of similar length, the longest first."""
    order = sorted(
        range(len(pairs)), key=lambda index: tuple(-len(side) for side in pairs[index][::-1])
    )
    for start in range(0, len(order), _MAX_PAIRS):
        yield order[start : start + _MAX_PAIRS]


def _score(pairs: Sequence[IdPair], network: PackedNetwork) -> list[tuple[float, ...]]:
    device = network.device
    filler: list[IdPair] = [((), ())] * (padded_sentences(len(pairs), 1) - len(pairs))
    padded = [*pairs, *filler]
    source = padded_batch([source for source, _ in padded], device)
    previous_ids = pad([[BOS, *target] for _, target in padded]).to(device)
    wanted = pad([[*target, EOS] for _, target in padded]).to(device)
    state = network.encode(source)
    found = []
    for previous, ids in zip(previous_ids.unbind(1), wanted.unbind(1), strict=True):
        output = network.step(previous, state)
        state = output.state
        normalisers = log_sum_exp(output.logits.unsqueeze(1)).squeeze(1)
        found.append(output.logits.gather(1, ids[:, None]).squeeze(1) - normalisers)
    table = torch.stack(found, dim=1).tolist()
    return [
        tuple(row[: len(target) + 1])
        for row, (_, target) in zip(table[: len(pairs)], pairs, strict=True)
    ]
