"""What a training process keeps is bounded, and its forecast of memory holds."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model.inference.products import FloatProduct
from tests.training.zygote import Zygote
from training.loop.journal import read_log
from training.loop.memory import KEPT_KERNELS, peak_resident_mib

ROOT = Path(__file__).parents[3]

PRODUCTS = """
import os, sys, torch
from model.inference.products import FloatProduct
from training.loop.memory import bound_memory

before = dict(os.environ)
bound_memory()
assert dict(os.environ) == before  # processes that this one starts are not bounded
product = FloatProduct(torch.ones(8, 16), None, torch.float32)
for number in sys.argv[1:]:
    for _ in "ab":
        print("again", flush=True)
        for rows in range(1, int(number) + 1):
            product._multiply(torch.ones(rows, 16))
"""

BLOCKS = """
import torch
from model.system.process import return_large_blocks, tune_process
from training.loop.memory import peak_resident_mib

def resident_mib():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096 / 2**20

tune_process()
return_large_blocks(8 * 2**20)
before, peak = resident_mib(), peak_resident_mib()
small = [torch.ones(2**18) for _ in range(64)]  # 1 MiB each
large = torch.ones(2**24)  # 64 MiB
with_both = resident_mib()
print(with_both - before > 120, peak_resident_mib() - peak > 120)
del large
print(with_both - resident_mib() > 60)
del small
print(with_both - resident_mib() < 70)  # small blocks are kept for the next update
"""


def python(code: str, *arguments: object, **environment: str) -> str:
    """What a new process prints."""
    finished = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def compiled_again(*numbers: int, **environment: str) -> list[tuple[int, int]]:
    """For each number of shapes, multiplied twice: kernels compiled again, and found again."""
    output = python(PRODUCTS, *numbers, ONEDNN_VERBOSE="profile_create", **environment)
    seconds = output.split("again\n")[2::2]
    return [(text.count("create:cache_miss"), text.count("create:cache_hit")) for text in seconds]


@pytest.mark.skipif(
    not FloatProduct(torch.ones(8, 16), None, torch.float32)._packed,
    reason="this processor or build of torch has no packed products",
)
def test_few_compiled_kernels_are_kept() -> None:
    many, few = 2 * KEPT_KERNELS, KEPT_KERNELS // 4
    assert compiled_again(few, many) == [(0, few), (many, 0)]
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_PRIMITIVE_CACHE_CAPACITY"):
        assert compiled_again(many, **{name: "1000"}) == [(0, many)]  # the user's choice


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc and /proc are Linux's")
def test_large_blocks_are_returned_and_small_ones_kept() -> None:
    assert python(BLOCKS).split() == ["True"] * 4


def test_the_peak_is_read_or_else_asked_for(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmHWM:\t  524288 kB\nVmRSS:\t 1000 kB\n", encoding="utf-8")
    assert peak_resident_mib(status) == 512
    for missing in (tmp_path / "none", tmp_path / "empty"):
        (tmp_path / "empty").touch()
        assert 50 < peak_resident_mib(missing) < 100_000


def test_the_forecast_is_near_the_peak_that_a_run_records(
    dragoman: Zygote, recipe: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    sizes = ("embedding_size", "encoder_hidden", "decoder_hidden")
    settings = [f"model.{name}=256" for name in sizes]
    settings += ["optimization.max_steps=4", "validation.every_steps=2"]
    chosen = [word for setting in settings for word in ("--set", setting)]
    forecast = dragoman.run("train", recipe, "--run", run, *chosen, "--dry-run")
    trained = dragoman.run("train", recipe, "--run", run, *chosen)
    assert trained.status == 0, trained.said
    expected, reached = (
        float(re.findall(r"memory: ([\d,]+) MiB at the peak", command.said)[0].replace(",", ""))
        for command in (forecast, trained)
    )
    assert reached > 300  # weights, moments and gradients, not only the libraries
    assert expected == pytest.approx(reached, rel=0.2)
    recorded = [line["peak_memory_mib"] for line in read_log(run) if line["kind"] == "validation"]
    assert len(recorded) == 2
    assert recorded[0] <= recorded[1] <= reached + 1
