"""The number formats one network can compute in.

`fp32` is the reference: results are bit-equal whatever else is translated at the same time.
`bf16` halves the memory; a machine with fast bf16 arithmetic gains speed too. `auto` takes fp32 on
a CPU and bf16 on a GPU.
"""

from typing import Literal, get_args

import torch

from model.errors import ConfigError
from model.seq2seq import Seq2Seq

Precision = Literal["auto", "fp32", "bf16"]


def resolve_device(device: str) -> torch.device:
    """'auto', 'cpu', 'cuda' or 'cuda:1' as a device that is really there; ConfigError otherwise."""
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


def apply_precision(network: Seq2Seq, precision: str, device: torch.device) -> str:
    """Moves and converts the network in place; the precision that was taken, never 'auto'."""
    if precision not in get_args(Precision):
        raise ConfigError(
            f"precision {precision!r} is unknown; use {', '.join(get_args(Precision))}"
        )
    taken = precision
    if precision == "auto":
        taken = "bf16" if device.type == "cuda" else "fp32"
    network.to(device=device, dtype=torch.bfloat16 if taken == "bf16" else torch.float32)
    return taken
