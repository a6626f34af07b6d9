"""The engine's promise under every instruction set of this machine: see exactness.py.

A processor with AVX-512 also runs what one without it runs, and the other way round each machine
tries most of what the others do.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[3]
_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "ATEN_CPU_CAPABILITY")
# Instruction sets that oneDNN, MKL and torch are limited to, and a flag of processors that have
# more: without it the level is what the machine runs anyway.
_LEVELS = {
    "sse": (("SSE41", "SSE4_2", "default"), "avx2"),
    "avx2": (("AVX2", "AVX2", "avx2"), "avx512f"),
    "avx2_vnni": (("AVX2_VNNI", "AVX2", "avx2"), "avx_vnni"),
    "avx512": (("AVX512_CORE", "AVX512", "avx512"), "avx512_vnni"),
    "avx512_vnni": (("AVX512_CORE_VNNI", "AVX512", "avx512"), "avx512_bf16"),
    "avx512_bf16": (("AVX512_CORE_BF16", "AVX512", "avx512"), "amx_tile"),
}


def _flags() -> set[str]:
    """What the processor has; empty where the system does not say so."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())


def levels() -> dict[str, dict[str, str]]:
    """Environments in which different kernels run here, by name."""
    flags = _flags()
    found = {
        name: dict(zip(_VARIABLES, values, strict=True))
        for name, (values, more) in _LEVELS.items()
        if more in flags
    }
    return {**found, "all": {}}


@pytest.mark.parametrize("level", levels())
def test_bit_equal_alone_and_in_any_batch(level: str) -> None:
    unlimited = {name: value for name, value in os.environ.items() if name not in _VARIABLES}
    done = subprocess.run(
        [sys.executable, "-m", "tests.model.decoding.exactness"],
        cwd=_ROOT,
        env={**unlimited, **levels()[level], "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("all equal\n")
