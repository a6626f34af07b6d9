"""SourceBatch: token ids of several sources, padded at their end."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from model.text.tokenizer import PAD


@dataclass(frozen=True)
class SourceBatch:
    """A batch of sources; lengths include EOS, mask is True on real tokens."""

    token_ids: Int[Tensor, "batch src_len"]
    lengths: Int[Tensor, " batch"]
    mask: Bool[Tensor, "batch src_len"]

    @classmethod
    def from_ids(
        cls,
        sequences: Sequence[Sequence[int]],
        *,
        device: torch.device | str = "cpu",
        pad_to_multiple: int = 1,
    ) -> "SourceBatch":
        """Pads to the longest length, rounded up to `pad_to_multiple`; does not append EOS."""
        return cls.from_padded(pad(sequences, pad_to_multiple).to(device))

    @classmethod
    def from_padded(cls, token_ids: Int[Tensor, "batch src_len"]) -> "SourceBatch":
        """Makes a batch of ids that are already padded with PAD at their end."""
        mask = token_ids != PAD
        return cls(token_ids=token_ids, lengths=mask.sum(dim=1), mask=mask)


def pad(sequences: Sequence[Sequence[int]], multiple: int = 1) -> Int[Tensor, "batch length"]:
    """Returns rows of ids, padded with PAD to one length that `multiple` divides."""
    longest = max(len(sequence) for sequence in sequences)
    length = -(-longest // multiple) * multiple
    padded = torch.full((len(sequences), length), PAD, dtype=torch.long)
    for row, sequence in enumerate(sequences):
        padded[row, : len(sequence)] = torch.as_tensor(sequence, dtype=torch.long)
    return padded
