"""CPU time and memory of a translator: of its process, and of its engine processes."""

import os
import resource
import sys
import time
from collections.abc import Iterable
from pathlib import Path

_PROC = Path("/proc")


def cpu_seconds(process_ids: Iterable[int]) -> float:
    """Returns the CPU time used so far by this process and, on Linux, by the given ones."""
    return time.process_time() + sum(map(_cpu_seconds, process_ids))


def memory_mb(process_ids: Iterable[int]) -> float:
    """Returns the peak memory of this process plus, on Linux, what the given ones use now.

    Memory that processes share is divided among them (Linux's PSS).
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    own = peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6  # Linux counts KiB
    return own + sum(map(_proportional_mb, process_ids))


def _cpu_seconds(process_id: int) -> float:
    try:
        stat = (_PROC / str(process_id) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0.0
    # After the name, which may hold any character: user and system time are fields 14 and 15
    # (proc(5)).
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _proportional_mb(process_id: int) -> float:
    try:
        lines = (_PROC / str(process_id) / "smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0  # the process has ended
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6
