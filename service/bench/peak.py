"""What this machine can do at best, and what it does at the shapes of the network's own products.

No engine runs here: these are bare matrix products and a bare copy.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from model.inference.products import FloatProduct
from service.bench.flops import Product

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.int8}
# Rows and columns of the large products; the fastest size counts. Many cores need large ones. None
# is tried beyond one that takes _LONG_S: on a busy machine only short runs get through undisturbed.
_MATRICES = {"cpu": (512, 1024, 2048, 4096), "cuda": (4096, 8192)}
_LONG_S = 0.01
_COPIED_BYTES = {"cpu": 1 << 27, "cuda": 1 << 30}  # far larger than a cache
_SECONDS = 0.5  # a measurement goes on for this long; its best run counts
_SHAPE_SECONDS = 0.05
_FEWEST_RUNS = 3
_FEWEST_INT8_ROWS = 32  # the integer product of a GPU refuses 16 and fewer


@contextlib.contextmanager
def torch_threads(num: int) -> Iterator[None]:
    """So many within, as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(num)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def matrix_ceiling(precision: str, device: torch.device) -> float | None:
    """Multiply-adds a second of large square products; None where torch has no such product."""
    speeds = []
    for size in _MATRICES[device.type]:
        product = Product(size, size, size)
        seconds = _seconds_per_run(product, precision, device, _SECONDS)
        if seconds is None:
            return None
        speeds.append(product.multiply_adds / seconds)
        if seconds > _LONG_S:
            break
    return max(speeds)


def copy_ceiling(device: torch.device) -> float:
    """Bytes a second of one large copy; what is read and what is written both count."""
    source = torch.ones(_COPIED_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return 2 * source.numel() / _best_run(lambda: target.copy_(source), device, _SECONDS)


def product_seconds(product: Product, precision: str, device: torch.device) -> float | None:
    """How long a bare product of this shape takes, all its `count` runs; None as above."""
    if product.weights:
        each = _seconds_per_run(product, precision, device, _SHAPE_SECONDS)
        return None if each is None else each * product.count
    # Products of states are batched and, under int8, stay fp32.
    dtype = _DTYPES["fp32" if precision == "int8" else precision]
    left = torch.ones(product.count, product.rows, product.inner, dtype=dtype, device=device)
    right = torch.ones(product.count, product.inner, product.columns, dtype=dtype, device=device)
    return _best_run(lambda: torch.bmm(left, right), device, _SHAPE_SECONDS)


def _seconds_per_run(
    product: Product, precision: str, device: torch.device, at_least_s: float
) -> float | None:
    """By the fastest road there is."""
    found = []
    for run in _roads(product, precision, device):
        # Some are not built for this device, or not for the shape.
        with contextlib.suppress(RuntimeError, NotImplementedError):
            found.append(_best_run(run, device, at_least_s))
    return min(found, default=None)


def _roads(
    product: Product, precision: str, device: torch.device
) -> Iterator[Callable[[], Tensor]]:
    rows = product.rows
    if precision == "int8" and device.type == "cuda":
        rows = max(rows, _FEWEST_INT8_ROWS)
    left = torch.ones(rows, product.inner, dtype=_DTYPES[precision], device=device)
    # As weights lie in memory: (out, in), used transposed.
    weight = torch.ones(product.columns, product.inner, dtype=_DTYPES[precision], device=device)
    if precision == "int8":
        yield lambda: torch._int_mm(left, weight.t())
    else:
        yield lambda: torch.mm(left, weight.t())
        packed = FloatProduct(weight, None, _DTYPES[precision])
        yield lambda: packed(left)


def _best_run(run: Callable[[], Tensor], device: torch.device, at_least_s: float) -> float:
    """Seconds of the fastest run: whatever slows one down is not the machine's ceiling."""
    run()
    best, num_runs, started = float("inf"), 0, time.perf_counter()
    while num_runs < _FEWEST_RUNS or time.perf_counter() - started < at_least_s:
        before = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - before)
        num_runs += 1
    return best
