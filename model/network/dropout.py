"""Dropout for recurrent networks: one mask along time (Gal and Ghahramani, 2016).

For training only: the rates are not part of a checkpoint, and evaluation mode never drops.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class DropoutRates:
    """Probabilities of dropping; all zero for a network that only translates."""

    embedding: float = 0.0
    hidden: float = 0.0  # outputs of recurrent layers
    readout: float = 0.0  # before the output layer
    source_word: float = 0.0  # a whole source word's embedding
    target_word: float = 0.0


class TimewiseDropout(nn.Module):
    """Drops features of a sequence, the same ones at every time step."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def mask(self, like: Float[Tensor, "batch *time size"]) -> Float[Tensor, "batch 1 size"] | None:
        """Returns factors 0 or 1/(1-rate), or None when nothing is dropped."""
        if not self.training or self.rate == 0.0:
            return None
        kept = torch.empty(like.shape[0], 1, like.shape[-1], device=like.device, dtype=like.dtype)
        return kept.bernoulli_(1.0 - self.rate).div_(1.0 - self.rate)

    def forward(
        self, sequence: Float[Tensor, "batch time size"]
    ) -> Float[Tensor, "batch time size"]:
        mask = self.mask(sequence)
        return sequence if mask is None else sequence * mask


class WordDropout(nn.Module):
    """Zeroes the whole embedding of some words, chosen word by word."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(
        self, sequence: Float[Tensor, "batch time size"]
    ) -> Float[Tensor, "batch time size"]:
        if not self.training or self.rate == 0.0:
            return sequence
        kept = torch.empty(sequence.shape[:2], device=sequence.device, dtype=sequence.dtype)
        return sequence * kept.bernoulli_(1.0 - self.rate).unsqueeze(-1)
