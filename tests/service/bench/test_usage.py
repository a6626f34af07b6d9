"""CPU time and memory of this process and of other processes."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from service.bench.usage import cpu_seconds, memory_mb

BUSY = "numbers = bytearray(40_000_000)\nwhile True: pass"


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs /proc")
def test_other_processes_count() -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY]) as process:
        try:
            end = time.monotonic() + 20
            while cpu_seconds([process.pid]) - time.process_time() < 0.3:
                assert time.monotonic() < end
                time.sleep(0.01)
            assert memory_mb([process.pid]) - memory_mb([]) > 40
        finally:
            process.kill()


def test_a_process_that_is_gone_counts_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert cpu_seconds([process.pid]) == pytest.approx(time.process_time(), abs=1.0)
    assert memory_mb([process.pid]) == memory_mb([]) > 10
