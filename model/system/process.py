"""Settings of the whole process, made once before torch is imported; starting and ending others.

The settings were measured on a virtual machine of two cores with a training step of the default
network (2,000 target tokens, 6,000 pieces, two threads).
"""

import ctypes
import gc
import math
import os
import signal
import sys
from pathlib import Path

_CODE_ROOT = Path(__file__).parents[2]
_NEW_OBJECTS = 20_000  # that are left before the collector looks at them; Python's own: 700
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8  # <malloc.h>


def tune_process() -> None:
    """Keeps freed memory and waits politely; what the user set in the environment wins."""
    _wait_politely()
    _keep_freed_memory()


def settle() -> None:
    """What is loaded by now stays: the garbage collector need not walk through it again.

    A network and its libraries are half a million objects. Looking at all of them took an event
    loop 11 % of its time, and a fork that looks at what it shares gets a copy of it.

    What is under way lives for seconds and needs no collector, either, but hundreds of requests
    hold more objects than it lets pass by itself. It looked at them over and over, and with them
    at all that is remembered: a tenth of an event loop's time, in pauses of up to 150 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 10, 100)


def give_back_memory() -> None:
    """Returns freed memory to the system, after something that took far more than the rest will."""
    if sys.platform.startswith("linux"):
        malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc
        if malloc_trim is not None:
            malloc_trim(0)


def python_command(module: str) -> tuple[list[str], dict[str, str]]:
    """Command line and environment that run a module of this code in a new process.

    It finds this code and no other, installed or not.
    """
    others = os.environ.get("PYTHONPATH")
    path = str(_CODE_ROOT) + (os.pathsep + others if others else "")
    # -P: the caller's working directory is no place to find modules.
    return [sys.executable, "-P", "-m", module], {**os.environ, "PYTHONPATH": path}


def ending(status: int) -> str:
    """How a process ended, by its exit status as subprocess tells it: negative for a signal."""
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def num_cores() -> int:
    """Cores this process may use: what the scheduler allows, or a container's quota if smaller."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = _quota(Path("/sys/fs/cgroup/cpu.max"))
    return cores or 1 if math.isinf(quota) else max(1, min(cores or 1, math.ceil(quota)))


def _quota(cpu_max: Path) -> float:
    """CPU time per time of a container (cgroup v2: `docker --cpus`, Kubernetes limits)."""
    try:
        quota, period = cpu_max.read_text(encoding="ascii").split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # no container, or "max": no quota
        return math.inf


def _wait_politely() -> None:
    """Threads that wait for others sleep instead of spinning.

    With a spinning thread on the core that another program needs, every parallel loop waits for
    the system's next turn: beside a busy program the step fell from 5,000 to 500 tokens/s, and to
    no less than 2,900 when waiting threads sleep. OpenMP reads this when it is loaded.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _keep_freed_memory() -> None:
    """The same pages serve the next step.

    Every step takes and gives back the same large blocks. glibc returns blocks above 128 KiB to
    the system at once and takes fresh, zeroed pages for the next: those page faults took two
    thirds of the time (3,500 tokens/s with them, 8,100 without). The process stays as large as
    its peak. Without glibc nothing changes.
    """
    if not sys.platform.startswith("linux") or any(k.startswith("MALLOC_") for k in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_M_MMAP_MAX, 0)  # large blocks come from the heap too
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)  # and the heap is not given back
    mallopt(_M_TOP_PAD, 64 * 2**20)
    mallopt(_M_ARENA_MAX, 1)  # one heap for all threads, or each would keep a peak of its own
