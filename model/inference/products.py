"""Linear layers y = W x + b with weights packed for fp32, bf16 or int8.

These products are nearly all of the arithmetic of translating. Results are fp32 in every format,
and everything between two products is computed in fp32.

int8: weights are rounded to 8 bits with one scale for each row. Inputs are rounded with a fixed
scale, which is faster than measuring every input and needs no calibration: a recurrent state stays
within [-1, 1], so its range is known in advance. Sums of 8-bit products are integers, so the order
of addition does not change them; but kernels differ in how they round a scaled sum.

On a CPU a row's result does not depend on the other rows of a batch, in any format: row_counts.py
chooses how many rows each call gets.

Microseconds for 1,024 inputs and outputs on one core of an AMD EPYC with AVX-512 VNNI and BF16, by
number of rows (torch 2.13; measured by `python -m model.inference.products`):

rows   fp32   bf16   int8
   1     61     51     44
   5     74     54     49
  40    405    222    150
 320  3,118  1,592    914

Alternatives in torch, with microseconds at 5 and at 320 rows:

- the plain linear layer: fp32 266 and 7,222 (MKL, which is slow on this processor), bf16 91 and
  1,620
- `_int_mm`: 50 and 728, without scales and bias. The narrowed output layer uses it, because its
  weights change too often to be packed
- `_weight_int8pack_mm`, 8-bit weights with bf16 inputs: 79 and 4,204
- `torch.ao.quantization`: deprecated; its inputs share one scale, so other rows change a result
- torch.compile and AOTInductor: need a compiler on the user's machine

Alternatives in other libraries, for this product alone:

- ONNX Runtime 1.31: fp32 69 and 3,244, int8 with a fixed scale 21 and 894; 68 MB to install
- OpenVINO 2026.4: fp32 72 and 3,096, bf16 48 and 1,516, int8 39 and 1,002; 180 MB to install

Their kernels are the same or no better. With few rows a call is some 25 microseconds faster there,
but a decoding step of nine products would gain only if the whole step moved to that library.
"""

import functools
import math
import threading
import time
from abc import ABC, abstractmethod
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from model.inference.row_counts import RowCounts, multiply_in

ProductPrecision = Literal["fp32", "bf16", "int8"]

_ZERO_POINT = 128  # the byte that represents 0
_LARGEST = 127
_measuring = threading.Lock()
# Calls of fewer rows would make bf16 slower than fp32.
_SMALLEST_BF16_BLOCK = 8
_CLEARLY_FASTER = 0.6  # of fp32's time; with VNNI or AMX int8 takes a sixth to a half


# Row counts of all products of this process, by kind, shape and number of threads.
_row_counts: dict[tuple[object, ...], RowCounts] = {}


class Product(ABC):
    """A linear layer with weights packed for one precision.

    On a CPU a row's result does not depend on the other rows: see row_counts.py.
    """

    _key: tuple[object, ...]  # products with equal keys run the same kernels
    _num_inputs: int
    _on_cpu: bool
    _smallest_block: int

    def __call__(self, inputs: Float[Tensor, "rows inputs"]) -> Float[Tensor, "rows outputs"]:
        if not self._on_cpu:
            return self._multiply(inputs)
        calls = self._counts().calls(inputs.shape[0], self._multiply)
        return multiply_in(calls, inputs, self._multiply)

    @property
    def exact(self) -> bool:
        """Whether a row's result is bit-identical in any batch."""
        return self._on_cpu and self._counts().exact

    def _counts(self) -> RowCounts:
        key = (*self._key, torch.get_num_threads())
        counts = _row_counts.get(key)
        if counts is None:
            counts = _row_counts[key] = RowCounts(
                self._multiply, self._num_inputs, smallest_block=self._smallest_block
            )
        return counts

    @abstractmethod
    def _multiply(self, inputs: Tensor) -> Tensor: ...


class FloatProduct(Product):
    """Weights and inputs in fp32 or bf16; on a CPU the weights are packed for oneDNN."""

    def __init__(
        self,
        weight: Float[Tensor, "outputs inputs"],
        bias: Float[Tensor, " outputs"] | None,
        dtype: torch.dtype,
    ) -> None:
        self._dtype = dtype
        self._weight = weight.to(dtype, copy=True).contiguous()
        self._bias = None if bias is None else bias.to(dtype, copy=True)
        self._on_cpu = weight.device.type == "cpu"
        self._packed = self._on_cpu and _can_pack(dtype)
        if self._packed:
            self._weight = _reorder(self._weight)
        self._key = (dtype, tuple(weight.shape), bias is None)
        self._num_inputs = weight.shape[1]
        self._smallest_block = 1 if dtype == torch.float32 else _SMALLEST_BF16_BLOCK

    def _multiply(self, inputs: Tensor) -> Tensor:
        inputs = inputs.to(self._dtype)
        if self._packed:
            return _multiply_packed(inputs, self._weight, self._bias).float()
        return functional.linear(inputs, self._weight, self._bias).float()


@functools.cache
def _can_pack(dtype: torch.dtype) -> bool:
    """Whether this build of torch and this processor have packed products of this type."""
    has_products = hasattr(torch.ops.mkldnn, "_linear_pointwise")
    if not (has_products and torch.backends.mkldnn.is_available()):
        return False
    try:
        weight = _reorder(torch.ones(4, 8, dtype=dtype))
        outputs = _multiply_packed(torch.ones(2, 8, dtype=dtype), weight)
    except RuntimeError:
        return False
    return bool((outputs == 8).all())


def _reorder(weight: Tensor) -> Tensor:
    reordered: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    return reordered


def _multiply_packed(inputs: Tensor, reordered: Tensor, bias: Tensor | None = None) -> Tensor:
    outputs: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, reordered, bias, "none", [], "")
    return outputs


class Int8Product(Product):
    """8-bit weights and inputs; oneDNN uses AMX or VNNI if the processor has them."""

    def __init__(
        self,
        weight: Float[Tensor, "outputs inputs"],
        bias: Float[Tensor, " outputs"] | None,
        *,
        bound: float = 1.0,
        clip: bool = False,
    ) -> None:
        """`bound`: largest magnitude of inputs; `clip`: clip inputs that exceed it."""
        codes, self._scales = quantise(weight)
        self._bias = None if bias is None else bias.clone()
        self._clip = clip
        self._zero_points = torch.zeros_like(self._scales, dtype=torch.int32)
        self._step = bound / _LARGEST
        # Added before the fraction is cut off; the half makes that round to nearest.
        self._middle = torch.tensor(_ZERO_POINT + 0.5)
        self._packed = torch.ops.onednn.qlinear_prepack(codes, None)
        self._key = (torch.int8, tuple(weight.shape), bias is None)
        self._num_inputs = weight.shape[1]
        self._on_cpu = True
        self._smallest_block = 1

    def _multiply(self, inputs: Tensor) -> Tensor:
        codes = torch.add(self._middle, inputs, alpha=1 / self._step)
        if self._clip:
            codes.clamp_(0.5, 255.5)
        outputs: Tensor = torch.ops.onednn.qlinear_pointwise(
            codes.to(torch.uint8),
            self._step,
            _ZERO_POINT,
            self._packed,
            self._scales,
            self._zero_points,
            self._bias,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )
        return outputs


def pack(
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"] | None,
    precision: ProductPrecision,
    *,
    bound: float = 1.0,
    clip: bool = False,
) -> Product:
    """A linear layer with weights packed for one precision; `bound` and `clip` matter for int8."""
    if precision == "int8":
        return Int8Product(weight, bias, bound=bound, clip=clip)
    return FloatProduct(weight, bias, torch.bfloat16 if precision == "bf16" else torch.float32)


def quantise(
    weight: Float[Tensor, "rows inputs"],
) -> tuple[Int[Tensor, "rows inputs"], Float[Tensor, " rows"]]:
    """8-bit codes of the weights, and the scale of each row: weight = code x scale."""
    scales = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / _LARGEST
    return (weight / scales[:, None]).round().to(torch.int8), scales


@functools.cache
def int8_failure() -> str | None:
    """The reason why this machine cannot multiply 8-bit numbers; None if it can."""
    has_products = hasattr(torch.ops.onednn, "qlinear_pointwise")
    if not (has_products and torch.backends.mkldnn.is_available()):
        return "this build of torch has no 8-bit products (oneDNN)"
    # The largest numbers: processors without VNNI add pairs in 16 bits, which can overflow.
    try:
        weight = torch.ones(32, 64)
        outputs = Int8Product(weight, None)._multiply(torch.ones(8, 64))
    except RuntimeError as error:
        return f"8-bit products do not work on this machine: {str(error).splitlines()[0]}"
    if not torch.allclose(outputs, torch.full((8, 32), 64.0), rtol=1e-3):
        return "this processor's 8-bit products overflow"
    return None


def fastest_precision() -> ProductPrecision:
    """int8 if this machine multiplies 8-bit numbers clearly faster than fp32, else fp32.

    The measurement takes some milliseconds, once a process. bf16 is never chosen: it gains little
    over int8, and on some machines its sums depend on the other rows. The speeds of fp32 and int8
    are far apart, so every process of a machine chooses the same one, and the command line
    translates as the service does.
    """
    with _measuring:  # models that load at the same time would disturb each other's measurement
        return _fastest_precision()


@functools.cache
def _fastest_precision() -> ProductPrecision:
    if int8_failure() is not None:
        return "fp32"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in engines; on a busy machine threads would wait for each other
    try:
        return "int8" if _seconds("int8") < _CLEARLY_FASTER * _seconds("fp32") else "fp32"
    finally:
        torch.set_num_threads(threads)


def _seconds(precision: ProductPrecision, rows: int = 40, *, size: int = 1024) -> float:
    """The time of one product with `size` inputs and outputs: the best of 15 calls."""
    product = pack(torch.rand(size, size) - 0.5, None, precision)
    inputs = torch.rand(rows, size)
    product(inputs)  # warm-up: the first call chooses kernels
    best = math.inf
    for _ in range(15):  # other processes may slow down some of the calls
        start = time.perf_counter()
        product(inputs)
        best = min(best, time.perf_counter() - start)
    return best


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("rows   fp32   bf16   int8")
    for rows in (1, 5, 40, 320):
        micros = [1e6 * _seconds(each, rows) for each in get_args(ProductPrecision)]
        print(f"{rows:>4}", *(f"{each:>6,.0f}" for each in micros))
