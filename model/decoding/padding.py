"""Pads batches so that what surrounds a sentence does not change what is computed for it.

The same sentence gives the same result whatever else is translated, on a CPU to the last bit; what
that rests on is listed in packed.py. Two things are the batch's shape's affair:

- Attention's softmax sums over source places, several at once, so the padded length is a multiple
  of 16. Padding has weight 0 exactly.
- A batch keeps a few sizes, so that kernels are made for few shapes, and a row count that was tried
  once is met again. All sentences of a batch have one beam size.
"""

from collections.abc import Sequence

import torch

from model.network.batch import SourceBatch
from model.text.tokenizer import EOS

SOURCE_BUCKET = 16  # source places


def padded_sentences(count: int, beam_size: int) -> int:
    """The size of a batch of `count` sentences: 1, 2, 4 or a multiple of 8, with enough rows."""
    smallest = 8 if torch.get_num_threads() > 1 else 4
    for num in (1, 2, 4):
        rows = num * beam_size
        if num >= count and rows >= smallest and (smallest == 4 or rows % 8 == 0):
            return num
    return -(-count // 8) * 8


def padded_batch(sources: Sequence[Sequence[int]], device: torch.device) -> SourceBatch:
    """Sources (EOS is appended), then padding; the first rows are the sources' own."""
    missing = padded_sentences(len(sources), 1) - len(sources)
    return SourceBatch.from_ids(
        [[*source, EOS] for source in sources] + [[EOS]] * missing,
        device=device,
        pad_to_multiple=SOURCE_BUCKET,
    )
