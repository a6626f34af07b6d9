"""The output layer: scores of all pieces, or of a shortlist of pieces for each sentence.

A layer that is narrowed to shortlists computes one product for the pieces of all sentences, then
gathers each sentence's own scores. A piece's score does not depend on the other pieces: in int8 it
is a sum of integers; in the other formats NarrowProduct ensures it (narrow_product.py).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from model.inference.narrow_product import NarrowProduct, narrow_is_exact
from model.inference.products import Product, ProductPrecision, pack, quantise
from model.text.tokenizer import PAD

# Number of columns in a group, of which the search first takes the largest score (beam_search.py).
# The number of columns of a full output layer is a multiple of it.
COLUMN_GROUP = 64
_LARGEST = 127


@dataclass(frozen=True)
class Narrowing:
    """An output layer that is narrowed to the shortlist of pieces of each sentence."""

    piece_ids: Int[Tensor, "batch columns"]  # padded with PAD
    places: Int[Tensor, "batch 1 columns"]  # index of each piece among the pieces of all sentences
    product: NarrowProduct | None  # with the weights of all these pieces; None in int8
    codes: Int[Tensor, "pieces size"] | None  # these weights in int8, else None
    scale: Float[Tensor, "batch 1 columns"] | None  # int8: score = sum x scale + bias
    bias: Float[Tensor, "batch 1 columns"]  # -inf at padding


class OutputLayer:
    """The linear layer from readouts to scores of the vocabulary, packed for one precision."""

    def __init__(self, layer: nn.Linear, precision: ProductPrecision) -> None:
        weight, self._bias = layer.weight.detach().float(), layer.bias.detach().float().clone()
        self._precision = precision
        self._narrow_weight: Tensor
        self._scales: Tensor | None = None
        if precision == "int8":
            self._narrow_weight, self._scales = quantise(weight)
        else:
            dtype = torch.bfloat16 if precision == "bf16" else torch.float32
            self._narrow_weight = weight.to(dtype, copy=True)
        missing = -weight.shape[0] % COLUMN_GROUP
        # The columns added as padding score -inf.
        self._product: Product = pack(
            functional.pad(weight, (0, 0, 0, missing)),
            functional.pad(self._bias, (0, missing), value=-math.inf),
            precision,
        )

    @property
    def products(self) -> list[Product]:
        """The full layer's product; `narrows_exactly` covers those of narrowed layers."""
        return [self._product]

    @property
    def narrows_exactly(self) -> bool:
        """Whether a piece's score in a narrowed layer is independent of the other pieces."""
        weight = self._narrow_weight
        return self._scales is not None or narrow_is_exact(weight.dtype, weight.shape[1])

    def __call__(self, readouts: Float[Tensor, "rows size"]) -> Float[Tensor, "rows columns"]:
        """Scores of all pieces; columns after the last piece are -inf."""
        return self._product(readouts)

    def narrowing(self, piece_ids: Int[Tensor, "batch columns"]) -> Narrowing:
        """The layer narrowed to these pieces."""
        flat = piece_ids.flatten()
        wanted = torch.zeros(self._bias.shape[0], dtype=torch.bool, device=flat.device)
        wanted[flat] = True
        places = wanted.cumsum(0).sub_(1)
        bias = self._bias.index_select(0, flat).view_as(piece_ids)
        scale = self._scales
        if scale is not None:
            scale = scale.index_select(0, flat).view_as(piece_ids).div_(_LARGEST).unsqueeze(1)
        weight = self._narrow_weight.index_select(0, wanted.nonzero()[:, 0])
        return Narrowing(
            piece_ids=piece_ids,
            places=places.index_select(0, flat).view_as(piece_ids).unsqueeze(1),
            product=NarrowProduct(weight) if scale is None else None,
            codes=None if scale is None else weight,
            scale=scale,
            bias=bias.masked_fill_(piece_ids == PAD, -math.inf).unsqueeze(1),
        )

    def narrow(
        self, readouts: Float[Tensor, "rows size"], narrowing: Narrowing
    ) -> Float[Tensor, "rows columns"]:
        """Scores of each sentence's own pieces."""
        if narrowing.product is not None:
            sums = narrowing.product(readouts)
        else:
            assert narrowing.codes is not None
            codes = torch.mul(readouts, _LARGEST).round_().to(torch.int8)
            sums = torch._int_mm(codes, narrowing.codes.t())
        batch, _, columns = narrowing.places.shape
        by_sentence = sums.unflatten(0, (batch, -1))
        own = by_sentence.gather(2, narrowing.places.expand(-1, by_sentence.shape[1], columns))
        scores = own.float() if narrowing.scale is None else own * narrowing.scale
        logits: Tensor = scores.add_(narrowing.bias).flatten(0, 1)
        return logits
