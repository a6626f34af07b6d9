"""Tests map_in_order: order of results, the first error, and that all processes end."""

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from training.data.parallel import map_in_order
from training.errors import CorpusError


@pytest.fixture(autouse=True)
def no_process_stays() -> Iterator[None]:
    yield
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("num_workers", [1, 2])
def test_results_keep_the_order_of_the_items(num_workers: int) -> None:
    # The first take longest.
    items = [*range(3000, 0, -100), *range(50)]
    results = map_in_order(math.factorial, items, num_workers=num_workers)
    assert list(results) == [math.factorial(item) for item in items]


def damaged_after(*items: float) -> Iterator[float]:
    yield from items
    raise CorpusError("the file is damaged")


@pytest.mark.parametrize("num_workers", [1, 2])
def test_the_first_error_in_item_order_is_raised(num_workers: int) -> None:
    results = map_in_order(math.sqrt, damaged_after(4, 9), num_workers=num_workers)
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(CorpusError, match="the file is damaged"):
        next(results)
    # Here reading ends first, but the item before it fails.
    results = map_in_order(math.sqrt, damaged_after(4, -1), num_workers=num_workers)
    assert next(results) == 2
    with pytest.raises(ValueError, match="math domain error"):
        next(results)


def test_only_a_few_items_are_read_ahead() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    with closing(map_in_order(abs, items(), num_workers=2)) as results:
        next(results)
        assert len(taken) < 10


def test_a_killed_worker_raises_a_corpus_error() -> None:
    with pytest.raises(CorpusError, match="killed a process"):
        list(map_in_order(os._exit, [1, 1, 1], num_workers=2))


PROGRAM = """
import time
from training.data.parallel import map_in_order
def items():
    for number in range(1000):
        yield 0.02
        if number == 20:
            print("working", flush=True)
if __name__ == "__main__":
    list(map_in_order(time.sleep, items(), num_workers=2))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_exit_when_their_parent_dies(tmp_path: Path, number: signal.Signals) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    with subprocess.Popen(
        [sys.executable, str(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"working\n"
        # Ctrl-C in a terminal reaches the whole group, the others only the one process.
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        _, said = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert said.count(b"Traceback") == said.count(b"KeyboardInterrupt") == 1  # no worker's
    for _ in range(600):
        if not group_exists(process.pid):
            break
        time.sleep(0.1)
    assert not group_exists(process.pid)


def group_exists(group: int) -> bool:
    """Whether a process of the group still runs; one that has ended but was not waited for yet may
    stay in the list for long when its parent is gone."""
    listed = subprocess.run(
        ["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True
    ).stdout.split()
    return any(
        int(found) == group and not state.startswith("Z")
        for found, state in zip(listed[::2], listed[1::2], strict=True)
    )
