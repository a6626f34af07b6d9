"""Pads batches so that a sentence gets bit-identical results whatever else is in the batch.

packed_network.py lists what makes that true. Two parts depend on the shape of the batch:

- The softmax of attention adds several source places at once, so the padded length is a multiple
  of 16. Padding has weight 0 exactly.
- Batches have few sizes, so that kernels are prepared for few shapes, and so that a number of rows
  that was checked once is used again. All sentences of a batch have one beam size.
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
    """The sources with EOS appended, then sentences of padding."""
    missing = padded_sentences(len(sources), 1) - len(sources)
    return SourceBatch.from_ids(
        [[*source, EOS] for source in sources] + [[EOS]] * missing,
        device=device,
        pad_to_multiple=SOURCE_BUCKET,
    )
