"""Settings of the operating system for this process, and how to start child processes.

`tune_process` must be called before torch is imported.

The settings were measured on a virtual machine of two cores with a training step of the default
network (2,000 target tokens, 6,000 pieces, two threads).
"""

import ctypes
import gc
import math
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

_CODE_ROOT = Path(__file__).parents[2]
_NEW_OBJECTS = 20_000  # new objects before a collection; Python's default: 700
# <malloc.h>
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -3, -4, -8
_MMAP_MAX = 65_536  # glibc's default


def tune_process() -> None:
    """Keeps freed memory and lets idle threads sleep, unless the environment says otherwise."""
    _use_passive_openmp_wait()
    _keep_freed_memory()


def freeze_gc() -> None:
    """Excludes all present objects from garbage collection, and makes collections rarer.

    A network and its libraries are half a million objects. Visiting all of them took 11 % of an
    event loop's time, and a forked process that visits shared objects gets copies of their pages.

    Hundreds of requests in flight hold more new objects than Python's default threshold. Each
    collection then visited them and all cached results: a tenth of an event loop's time, in pauses
    of up to 150 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 10, 100)


def give_back_memory() -> None:
    """Returns freed memory to the system, after work that needed much more than what follows."""
    if sys.platform.startswith("linux"):
        malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc
        if malloc_trim is not None:
            malloc_trim(0)


def return_large_blocks(num_bytes: int) -> None:
    """Blocks of at least so many bytes (at most 32 MiB) go back to the system when they are freed.

    Smaller ones stay, as `tune_process` has it. Of large ones few are taken at a time, but each
    needs a gap of its size between smaller ones, and where none is left the process grows.
    """
    mallopt = _mallopt()
    if mallopt is not None and mallopt(_M_MMAP_THRESHOLD, num_bytes):
        mallopt(_M_MMAP_MAX, _MMAP_MAX)


def python_command(module: str) -> tuple[list[str], dict[str, str]]:
    """Returns the command line and the environment that run a module in a new process.

    The new process imports this code, whether or not another version is installed.
    """
    others = os.environ.get("PYTHONPATH")
    path = str(_CODE_ROOT) + (os.pathsep + others if others else "")
    # -P: do not search the working directory for modules.
    return [sys.executable, "-P", "-m", module], {**os.environ, "PYTHONPATH": path}


def exit_reason(status: int) -> str:
    """Says how a process ended, given subprocess' exit status, which is negative for a signal."""
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def num_cores() -> int:
    """Returns how many cores this process may use: its affinity, or a container's lower limit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = _quota(Path("/sys/fs/cgroup/cpu.max"))
    return cores or 1 if math.isinf(quota) else max(1, min(cores or 1, math.ceil(quota)))


def _quota(cpu_max: Path) -> float:
    """Returns a container's limit in cores (cgroup v2: `docker --cpus`, Kubernetes limits)."""
    try:
        quota, period = cpu_max.read_text(encoding="ascii").split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # no container, or "max": no quota
        return math.inf


def _use_passive_openmp_wait() -> None:
    """Makes waiting OpenMP threads sleep instead of spin; OpenMP reads this when it is loaded.

    A spinning thread keeps its core from other programs, so that every parallel loop waits for the
    scheduler: beside a busy program, training fell from 5,000 to 500 tokens/s. With sleeping
    threads it fell to 2,900.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _keep_freed_memory() -> None:
    """Makes glibc reuse the pages of freed memory; does nothing without glibc.

    Every training step allocates and frees the same large blocks. glibc returns blocks above
    128 KiB to the system at once and gets new, zeroed pages for the next ones. These page faults
    took two thirds of the time (3,500 tokens/s with them, 8,100 without). The process stays as
    large as its peak.
    """
    mallopt = _mallopt()
    if mallopt is None:
        return
    mallopt(_M_MMAP_MAX, 0)  # large blocks come from the heap too
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)  # and the heap is not given back
    mallopt(_M_TOP_PAD, 64 * 2**20)
    mallopt(_M_ARENA_MAX, 1)  # one heap for all threads, or each would keep a peak of its own


def _mallopt() -> Callable[[int, int], int] | None:
    """glibc's settings of malloc; None without glibc and where the user made settings."""
    if not sys.platform.startswith("linux") or any(k.startswith("MALLOC_") for k in os.environ):
        return None
    return getattr(ctypes.CDLL(None), "mallopt", None)
