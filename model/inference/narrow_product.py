"""The product of a narrowed output layer, whose weights change with the sentences of a batch.

Its outputs are the pieces of all sentences of a batch, so their number (the width) and their order
depend on the batch; a piece's score must not. On a CPU the weights are padded to a rounded width
and packed for oneDNN. Each new width and row count is tested once: random pieces at different
positions are compared bit for bit with a product of one fixed width. If they differ, the product is
computed in parts of that fixed width.
"""

import functools

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from model.inference.products import FloatProduct

_WIDTH_STEP = 256  # outputs; a batch's width is rounded up to a multiple
_BLOCKS = (256, 64, 16)  # widths of a part; the first that is exact is used
_NUM_DIFFERENT = 16  # different random rows and pieces of a test; larger tests repeat them
_SHIFT = 5  # positions by which rows and pieces are moved in a test


class NarrowProduct:
    """A product with these weights, in their number format; packed on the first call."""

    def __init__(self, weight: Float[Tensor, "pieces size"]) -> None:
        self._weight = weight
        self._on_cpu = weight.device.type == "cpu"
        self._packed: FloatProduct | None = None
        self._parts: list[FloatProduct] = []

    def __call__(self, inputs: Float[Tensor, "rows size"]) -> Float[Tensor, "rows columns"]:
        """One column for each piece; on a CPU followed by columns of zeros."""
        weight = self._weight
        if not self._on_cpu:
            return functional.linear(inputs.to(weight.dtype), weight).float()
        widths = _widths(weight.dtype, weight.shape[1], torch.get_num_threads())
        width = -(-weight.shape[0] // _WIDTH_STEP) * _WIDTH_STEP
        if widths.agrees(width, inputs.shape[0]):
            if self._packed is None:
                self._packed = FloatProduct(_padded(weight, width), None, weight.dtype)
            return self._packed(inputs)
        if not self._parts:
            self._parts = [
                FloatProduct(part, None, weight.dtype)
                for part in _padded(weight, width).split(widths.block)
            ]
        return torch.cat([part(inputs) for part in self._parts], dim=1)


class _Widths:
    """Tests which widths give a piece the same score, for one number format and input size."""

    def __init__(self, dtype: torch.dtype, size: int) -> None:
        self._dtype = dtype
        generator = torch.Generator().manual_seed(0)
        self._pieces = torch.rand(_NUM_DIFFERENT, size, generator=generator) - 0.5
        self._rows = 2 * torch.rand(_NUM_DIFFERENT, size, generator=generator) - 1
        self._known: dict[tuple[int, int], bool] = {}
        self.exact = False
        for block in _BLOCKS:
            self.block = block  # width of a part
            product = self._product(block, 0)
            self._expected = product(self._rows)[:, :_NUM_DIFFERENT]
            self.exact = product.exact and self._same(block, _NUM_DIFFERENT)
            if self.exact:
                break

    def agrees(self, width: int, rows: int) -> bool:
        """Whether a product of this size scores a piece as a part does; tested once a size."""
        if not self.exact:
            return True  # parts would not be exact either
        known = self._known.get((width, rows))
        if known is None:
            known = self._known[width, rows] = self._same(width, rows)
        return known

    def _product(self, width: int, shift: int) -> FloatProduct:
        pieces = self._pieces[(torch.arange(width) + shift) % _NUM_DIFFERENT]
        return FloatProduct(pieces, None, self._dtype)

    def _same(self, width: int, rows: int) -> bool:
        with torch.inference_mode():
            row = (torch.arange(rows) + _SHIFT) % _NUM_DIFFERENT
            column = (torch.arange(width) + _SHIFT) % _NUM_DIFFERENT
            scores = self._product(width, _SHIFT)(self._rows[row])
            return torch.equal(scores, self._expected[row][:, column])


@functools.cache
def _widths(dtype: torch.dtype, size: int, threads: int) -> _Widths:
    """The tested widths; `threads` is a key because the number of threads may change the kernel."""
    assert threads == torch.get_num_threads()
    return _Widths(dtype, size)


def narrow_is_exact(dtype: torch.dtype, size: int) -> bool:
    """Whether a piece's score in a narrowed layer is independent of the other pieces."""
    return _widths(dtype, size, torch.get_num_threads()).exact


def _padded(weight: Tensor, width: int) -> Tensor:
    return functional.pad(weight, (0, 0, 0, width - weight.shape[0]))
