"""What a translator takes of the machine: its process, and those of its engines."""

import contextlib
import os
import resource
import sys
import time
from collections.abc import Iterable
from pathlib import Path

_PROC = Path("/proc")


def family(process_id: int) -> list[int]:
    """A process and all that it and its threads have started, as far as they live; on Linux."""
    found = [process_id]
    for parent in found:  # grows while it is walked through
        for task in _PROC.glob(f"{parent}/task/*/children"):
            with contextlib.suppress(OSError):
                found += map(int, task.read_text(encoding="ascii").split())
    return found


def cpu_seconds(process_ids: Iterable[int]) -> float:
    """Spent so far by this process and, on Linux, by these."""
    return time.process_time() + sum(map(_cpu_seconds, process_ids))


def memory_mb(process_ids: Iterable[int]) -> float:
    """The peak of this process and, on Linux, what these have now; what they share counts once."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    own = peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6  # Linux counts KiB
    return own + sum(map(proportional_mb, process_ids))


def _cpu_seconds(process_id: int) -> float:
    try:
        stat = (_PROC / str(process_id) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0.0
    # Behind the name, which may hold anything: user and system time are fields 14 and 15 (proc(5)).
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def proportional_mb(process_id: int) -> float:
    """What a process has now, its part of what it shares (Linux's PSS); 0 when it is gone."""
    return _proportional_mb(process_id, "Pss:")


def anonymous_mb(process_id: int) -> float:
    """The same without files, whose parts change with what other programs have open."""
    return _proportional_mb(process_id, "Pss_Anon:")


def _proportional_mb(process_id: int, field: str) -> float:
    try:
        lines = (_PROC / str(process_id) / "smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    sizes = [int(line.split()[1]) for line in lines if line.startswith(field)]  # in KiB
    return sum(sizes) * 1024 / 1e6
