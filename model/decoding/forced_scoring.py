"""Log-probabilities of targets that somebody else wrote, by teacher forcing; no search.

Bit-equal alone and in any company in fp32, as padding.py explains.
"""

from collections.abc import Iterator, Sequence

import torch

from model.decoding.padding import padded_batch, padded_sentences
from model.network.batch import pad
from model.network.seq2seq import Seq2Seq
from model.text.tokenizer import BOS, EOS

_TARGET_BUCKET = 16  # fewer target places than 4 would meet other kernels
_MAX_PLACES = 4096  # target places scored together, padding included
_ROWS_TOGETHER = 256  # of vocabulary-wide log_probs held at once

IdPair = tuple[Sequence[int], Sequence[int]]  # source and target, neither with BOS nor EOS


@torch.inference_mode()
def score_targets(network: Seq2Seq, pairs: Sequence[IdPair]) -> list[tuple[float, ...]]:
    """Per pair, the log_prob of every target piece and, last, of EOS."""
    scores: list[tuple[float, ...]] = [()] * len(pairs)
    for batch in _batches(pairs):
        for index, found in zip(batch, _score([pairs[i] for i in batch], network), strict=True):
            scores[index] = found
    return scores


def _batches(pairs: Sequence[IdPair]) -> Iterator[list[int]]:
    """Indices of pairs of similar length, the longest first, within `_MAX_PLACES`."""
    order = sorted(
        range(len(pairs)), key=lambda index: tuple(-len(side) for side in pairs[index][::-1])
    )
    while order:
        longest = len(pairs[order[0]][1]) + 1
        places = -(-longest // _TARGET_BUCKET) * _TARGET_BUCKET
        num = max(1, _MAX_PLACES // places)
        yield order[:num]
        order = order[num:]


def _score(pairs: Sequence[IdPair], network: Seq2Seq) -> list[tuple[float, ...]]:
    device = next(network.parameters()).device
    filler: list[IdPair] = [((), ())] * (padded_sentences(len(pairs), 1) - len(pairs))
    padded = [*pairs, *filler]
    source = padded_batch([source for source, _ in padded], device)
    target_input = pad([[BOS, *target] for _, target in padded], _TARGET_BUCKET).to(device)
    wanted = pad([[*target, EOS] for _, target in padded], _TARGET_BUCKET).to(device)
    readouts = network.readouts(source, target_input)
    found = []
    for rows, ids in zip(
        torch.split(readouts.flatten(0, 1), _ROWS_TOGETHER),
        torch.split(wanted.flatten(), _ROWS_TOGETHER),
        strict=True,
    ):
        log_probs = network.output(rows).log_softmax(-1, dtype=torch.float32)
        found.append(log_probs.gather(1, ids[:, None])[:, 0])
    table = torch.cat(found).view(wanted.shape).tolist()
    return [
        tuple(row[: len(target) + 1])
        for row, (_, target) in zip(table[: len(pairs)], pairs, strict=True)
    ]
