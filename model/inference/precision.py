"""Choice of the device and the number format that a translator computes with.

`fp32` is the reference. `bf16` halves the weights' memory and is fast where the processor has
AVX512-BF16 or AMX, and on GPUs. `int8` quarters it and is fast where the processor has VNNI or AMX;
CPUs only. `auto` is bf16 on a GPU; on a CPU it measures a few products and takes int8 where that is
clearly faster, else fp32.
"""

from typing import Literal, get_args

import torch

from model.errors import ConfigError
from model.inference.products import ProductPrecision, fastest_precision, int8_failure

Precision = Literal["auto", "fp32", "bf16", "int8"]


def resolve_device(device: str) -> torch.device:
    """Returns the device for 'auto', 'cpu', 'cuda' or 'cuda:1'; ConfigError if there is none."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"device {device!r} is unknown; use auto, cpu, cuda or cuda:N") from None
    if resolved.type not in ("cpu", "cuda") or (resolved.type == "cpu" and resolved.index):
        raise ConfigError(f"device {device!r} is not supported; use auto, cpu, cuda or cuda:N")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {device!r} was asked for, but torch sees {torch.cuda.device_count()} GPUs; "
            f"use cpu, or install a CUDA build of torch"
        )
    return resolved


def resolve_precision(precision: str, device: torch.device) -> ProductPrecision:
    """Returns the format to use, never 'auto'; ConfigError if this machine lacks it."""
    if precision == "auto":
        return "bf16" if device.type == "cuda" else fastest_precision()
    if precision == "int8":
        failure = "a GPU has no int8 here" if device.type == "cuda" else int8_failure()
        if failure is not None:
            raise ConfigError(
                f"precision int8 is not available on this machine: {failure}; use bf16 or fp32"
            )
    for known in get_args(ProductPrecision):
        if precision == known:
            taken: ProductPrecision = known
            return taken
    raise ConfigError(f"precision {precision!r} is unknown; use {', '.join(get_args(Precision))}")
