"""Lexical shortlist: the target pieces that a source sentence may need, learnt at export.

Scoring a few hundred pieces instead of thousands makes a search faster by half (Jean et al., 2015;
the lexicon as in Devlin, 2017). A sentence's list depends on that sentence alone, so it is the same
in any batch.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from model.text.tokenizer import EOS, PAD


class Shortlist:
    """The likeliest target pieces of every source piece, and pieces that any sentence may need."""

    def __init__(
        self,
        by_source: Int[Tensor, "source_pieces candidates"],
        always: Int[Tensor, " frequent"],
    ) -> None:
        """Rows of source pieces with fewer candidates end with PAD."""
        self._by_source: NDArray[np.int32] = by_source.numpy()
        self._always: NDArray[np.int32] = always.numpy()

    @classmethod
    def from_tensors(
        cls, tensors: dict[str, Tensor], *, source_vocab_size: int, target_vocab_size: int
    ) -> "Shortlist":
        """Inverse of `tensors`; ValueError when the tensors do not fit the vocabularies."""
        if tensors.keys() != {"by_source", "always"}:
            raise ValueError(f"it holds {', '.join(sorted(tensors)) or 'nothing'}")
        by_source, always = tensors["by_source"], tensors["always"]
        if by_source.ndim != 2 or by_source.shape[0] != source_vocab_size or always.ndim != 1:
            raise ValueError("its shape is not that of the source vocabulary")
        for tensor in (by_source, always):
            if tensor.dtype != torch.int32:
                raise ValueError(f"its numbers are {tensor.dtype}, not torch.int32")
            if tensor.numel() and not 0 <= tensor.min() <= tensor.max() < target_vocab_size:
                raise ValueError("it names pieces outside the target vocabulary")
        return cls(by_source, always)

    def tensors(self) -> dict[str, Tensor]:
        """Returns the tensors that a checkpoint stores."""
        return {
            "by_source": torch.from_numpy(self._by_source),
            "always": torch.from_numpy(self._always),
        }

    def merged(self, other: "Shortlist") -> "Shortlist":
        """Returns a list that allows the pieces of both; both for the same vocabularies."""
        return Shortlist(
            torch.from_numpy(np.concatenate([self._by_source, other._by_source], axis=1)),
            torch.from_numpy(np.union1d(self._always, other._always)),
        )

    def choose(self, source_ids: Sequence[int], wanted: Sequence[int] = ()) -> NDArray[np.int64]:
        """Returns EOS, then the pieces that a translation of this source may use, and `wanted`."""
        candidates = self._by_source[np.asarray(source_ids, dtype=np.int64)].ravel()
        extra = np.asarray(wanted, dtype=np.int32)
        pieces = np.unique(np.concatenate([candidates, self._always, extra])).astype(np.int64)
        return np.concatenate([[EOS], pieces[(pieces != PAD) & (pieces != EOS)]])
