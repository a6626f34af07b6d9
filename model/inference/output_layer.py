"""Readouts -> scores of the next piece: of all pieces, or of a few chosen for each sentence.

A narrowed layer computes the product once for the pieces of all sentences together and then picks
each sentence's own. A piece's score does not depend on the others: in int8 it is a sum of whole
numbers, else NarrowProduct sees to it (narrow_product.py).
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

# Columns whose largest score the search looks for first (beam_search.py); divides the number of
# columns of an output layer.
COLUMN_GROUP = 64
_LARGEST = 127


@dataclass(frozen=True)
class Narrowing:
    """The pieces that each sentence may use."""

    piece_ids: Int[Tensor, "batch columns"]  # PAD fills up
    places: Int[Tensor, "batch 1 columns"]  # of the pieces among those of all sentences
    product: NarrowProduct | None  # of those; None in int8
    codes: Int[Tensor, "pieces size"] | None  # the same, int8
    scale: Float[Tensor, "batch 1 columns"] | None  # int8: what a unit of the sum is worth
    bias: Float[Tensor, "batch 1 columns"]  # -inf where PAD fills up


class OutputLayer:
    """The vocabulary-wide layer, packed."""

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
        # Columns of no piece score -inf.
        self._product: Product = pack(
            functional.pad(weight, (0, 0, 0, missing)),
            functional.pad(self._bias, (0, missing), value=-math.inf),
            precision,
        )

    @property
    def products(self) -> list[Product]:
        """All that a translation may need; a narrowed layer's are tried as they come."""
        return [self._product]

    @property
    def narrows_exactly(self) -> bool:
        """Whether a piece's score in a narrowed layer does not depend on the others here."""
        weight = self._narrow_weight
        return self._scales is not None or narrow_is_exact(weight.dtype, weight.shape[1])

    def __call__(self, readouts: Float[Tensor, "rows size"]) -> Float[Tensor, "rows columns"]:
        """Scores of all pieces; columns behind the last piece are -inf."""
        return self._product(readouts)

    def narrowing(self, piece_ids: Int[Tensor, "batch columns"]) -> Narrowing:
        """The layer's rows for these pieces."""
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
            found = narrowing.product(readouts)
        else:
            assert narrowing.codes is not None
            codes = torch.mul(readouts, _LARGEST).round_().to(torch.int8)
            found = torch._int_mm(codes, narrowing.codes.t())
        batch, _, columns = narrowing.places.shape
        by_sentence = found.unflatten(0, (batch, -1))
        own = by_sentence.gather(2, narrowing.places.expand(-1, by_sentence.shape[1], columns))
        scores = own.float() if narrowing.scale is None else own * narrowing.scale
        logits: Tensor = scores.add_(narrowing.bias).flatten(0, 1)
        return logits
