"""How much memory a training process takes: bounds on what libraries keep, and the peak so far.

A training process meets hundreds of batch shapes. Without bounds it grows with each of them.
"""

import os
import resource
from pathlib import Path

import torch

from model.system.process import return_large_blocks

# oneDNN compiles a kernel for each shape of a product and keeps the last 1,024 of them, some 0.5 MB
# each in bf16. More than a few are of no use in training: few batches have the same shape.
KEPT_KERNELS = 64
_CAPACITY_VARIABLES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_PRIMITIVE_CACHE_CAPACITY")

# Multi30k recipe, fp32, one core of an AMD EPYC 3rd generation, 180 updates: peak and target tokens
# per second of processor time with bounds of 32, 8 and 2 MiB:
# 808, 755 and 753 MiB; 1,710, 1,790 and 1,580 tokens. Smaller blocks cost page faults.
_LARGE_BLOCK = 8 * 2**20


def bound_memory() -> None:
    """Limits what oneDNN and the C library keep; what the user set in the environment wins.

    To be called before the process' first product: oneDNN reads its limit only once.
    """
    return_large_blocks(_LARGE_BLOCK)
    _limit_kept_kernels()


def _limit_kept_kernels() -> None:
    """Limits oneDNN's cache of compiled kernels in this process, not in those it starts.

    Processes that serve meet the same shapes again and need all kernels that they compiled.
    """
    if any(name in os.environ for name in _CAPACITY_VARIABLES):
        return
    if not torch.backends.mkldnn.is_available():
        return
    name = _CAPACITY_VARIABLES[0]
    os.environ[name] = str(KEPT_KERNELS)
    try:
        torch.ones(2, 2).to_mkldnn()  # oneDNN's first work in this process: it reads the variable
    finally:
        del os.environ[name]


def peak_memory_mib(device: torch.device) -> float:
    """The most memory taken so far, in MiB: of a GPU by torch, of main memory by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return peak_resident_mib()


def peak_resident_mib(status: Path = Path("/proc/self/status")) -> float:
    """The most main memory this process had at once, in MiB.

    Without /proc it may be that of the process that started this one, if that had more.
    """
    try:
        for line in status.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
