"""Shapes that make every sentence meet the same kernels, alone and in any company.

The same sentence gives the same result whatever else is translated, in fp32 and int8 to the last
bit. In int8 the products are sums of whole numbers, which no order of adding can change. For all
the rest, what it rests on was measured with torch 2.13 (MKL, oneDNN) on an AMD EPYC with AVX-512,
all cells and attentions, 1 to 16 threads:

- A row of a matrix product does not depend on the other rows or on where it stands, as long as the
  product has at least 4 rows (1, 2 and 3 take other kernels). With several threads the rows are
  shared out and a thread's part can become that small: 5, 6, 7, 9, 10 and 11 rows differ with 2
  and 8 threads, 17 and 25 too with 16; multiples of 4 never did. `padded_sentences` therefore
  gives at least 4 rows to one thread, and a multiple of 8 to several.
- A column of a product does not depend on which other columns are computed (shortlists).
- The sums of attention over source places change with the padded length unless it is a multiple of
  16. Padding has weight 0 exactly. (Batched products of fewer than 400 multiplications take
  another kernel: attention heads narrower than 32 numbers can differ in the last bit.)
- The beam size chooses kernels as well (one query per source or several), which is why a lane has
  one beam size.
- Of what is computed number by number, only sigmoid depends on the place (pointwise.py).
"""

from collections.abc import Sequence

import torch

from model.network.batch import SourceBatch
from model.text.tokenizer import EOS

SOURCE_BUCKET = 16  # source places


def padded_sentences(count: int, beam_size: int) -> int:
    """The fewest sentences, `count` or more, whose rows meet the kernels that all others meet."""
    smallest = 8 if torch.get_num_threads() > 1 else 4
    for num in (1, 2, 4):
        rows = num * beam_size
        if num >= count and rows >= smallest and (smallest == 4 or rows % 8 == 0):
            return num
    return -(-count // 8) * 8


def padded_batch(sources: Sequence[Sequence[int]], device: torch.device) -> SourceBatch:
    """Sources (EOS is appended) in padded company; the first rows are the sources' own."""
    missing = padded_sentences(len(sources), 1) - len(sources)
    return SourceBatch.from_ids(
        [[*source, EOS] for source in sources] + [[EOS]] * missing,
        device=device,
        pad_to_multiple=SOURCE_BUCKET,
    )
