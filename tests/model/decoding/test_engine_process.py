"""Engines in real processes: the same translations, and no process left behind."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path

import pytest

from model.decoding.engine_process import (
    EngineProcesses,
    EngineSetup,
    FailureReport,
)
from model.decoding.search_config import SearchConfig
from model.errors import CheckpointError
from model.system.process import python_command
from model.translation import Translation
from model.translator import Translator

pytestmark = pytest.mark.usefixtures("quick")  # test_engine.py tests the engine itself

TEXTS = [f"We have {a} apples and {b} pears." for a in ("one", "two") for b in ("six", "nine")] * 8
# An untrained network never ends a sentence, so its limits decide how long a test takes.
SHORT = SearchConfig(2, max_length_ratio=0.5, max_length_extra=2)
NUM_ENGINES = 3
WAIT_S = 60.0


@contextmanager
def translator_of(checkpoint: Path, num_processes: int = 0) -> Iterator[Translator]:
    processes = EngineProcesses(num_processes) if num_processes else None
    translator = Translator.load(checkpoint, precision="fp32", max_slots=4, processes=processes)
    try:
        yield translator
    finally:
        translator.close()


def group_of(translator: Translator) -> int:
    """Returns the process group of the translator's engines."""
    assert translator._pool is not None
    return translator._pool._processes._process.pid


def is_gone(group: int) -> bool:
    """Returns whether all processes of the group exit within some time."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


@pytest.fixture(scope="module")
def alone(tiny_checkpoint: Path) -> Iterator[Translator]:
    """One engine in this process."""
    with translator_of(tiny_checkpoint) as translator:
        yield translator


@pytest.fixture(scope="module")
def shared(tiny_checkpoint: Path) -> Iterator[Translator]:
    with translator_of(tiny_checkpoint, NUM_ENGINES) as translator:
        yield translator


@pytest.fixture
def pool(shared: Translator) -> Translator:
    """Three engine processes, ready; every test leaves them idle."""
    assert shared.idle
    shared.start()
    return shared


def test_processes_end_with_their_translator(tiny_checkpoint: Path, alone: Translator) -> None:
    with translator_of(tiny_checkpoint, 2) as apart:
        assert apart.translate(TEXTS[:4], SHORT) == alone.translate(TEXTS[:4], SHORT)
        group = group_of(apart)
    assert is_gone(group)


def test_a_translation_is_the_same_in_any_process_and_batch(
    pool: Translator, alone: Translator
) -> None:
    searches = [
        SearchConfig(beam_size=1, max_length_ratio=0.5),
        SearchConfig(beam_size=4, max_length_ratio=0.5),
        SearchConfig(
            beam_size=4, n_best=3, length_penalty=0.6, max_length_ratio=0.0, max_length_extra=5
        ),
        SearchConfig(beam_size=7, max_length_ratio=1.0, max_length_extra=0),
    ]
    randomly = random.Random(0)
    asked = [
        (" ".join(randomly.sample(TEXTS[0].split() * 3, randomly.randint(1, 9))), search)
        for _ in range(8)
        for search in searches
    ]
    expected = [alone.translate([text], search)[0] for text, search in asked]
    found: dict[int, Translation] = {}
    tickets: list[int] = []
    while len(tickets) < len(asked) or not pool.idle:
        for text, search in asked[len(tickets) : len(tickets) + randomly.randint(0, 9)]:
            tickets.append(pool.add(text, search))
        found.update(pool.step(0.001))
    assert [found[ticket] for ticket in tickets] == expected


def test_alignments_come_from_processes_too(pool: Translator, alone: Translator) -> None:
    expected = alone.translate(TEXTS[:4], SHORT, alignments=True)
    assert pool.translate(TEXTS[:4], SHORT, alignments=True) == expected


def test_start_waits_until_all_engines_are_ready(pool: Translator, alone: Translator) -> None:
    assert len(set(pool.process_ids)) == NUM_ENGINES
    assert all(map(os.getpgid, pool.process_ids))
    assert pool.exact  # as the processes say
    alone.start()
    assert alone.process_ids == ()
    assert alone.exact


def test_unused_processes_end_with_their_translator(tiny_checkpoint: Path) -> None:
    with translator_of(tiny_checkpoint, 3) as translator:
        group = group_of(translator)
    assert is_gone(group)


def test_processes_end_when_the_checkpoint_cannot_be_loaded(tmp_path: Path) -> None:
    processes = EngineProcesses(2)
    with pytest.raises(CheckpointError):
        Translator.load(tmp_path / "none", processes=processes)
    assert is_gone(processes._process.pid)


def test_a_killed_engine_is_replaced_and_every_text_is_translated(
    pool: Translator, alone: Translator
) -> None:
    expected = alone.translate(TEXTS, SHORT)
    killed = {pool.process_ids[0]}
    os.kill(pool.process_ids[0], signal.SIGKILL)  # idle
    assert pool.translate(TEXTS, SHORT) == expected
    tickets = [pool.add(text, SHORT) for text in TEXTS]
    killed.add(pool.process_ids[-1])
    os.kill(pool.process_ids[-1], signal.SIGKILL)  # at work
    found: dict[int, Translation] = {}
    while not pool.idle:
        found.update(pool.step(WAIT_S))
    assert [found[ticket] for ticket in tickets] == expected
    pool.start()
    assert len(killed) == 2
    assert len(pool.process_ids) == NUM_ENGINES
    assert killed.isdisjoint(pool.process_ids)


def test_processes_are_started_again_when_all_are_killed(
    pool: Translator, alone: Translator
) -> None:
    assert pool._pool is not None
    killed, connections = group_of(pool), list(pool._pool._engines)
    os.killpg(killed, signal.SIGKILL)
    # A text that went from one engine to the next, both lost, would be taken for the cause.
    while len(wait(connections)) < NUM_ENGINES:
        time.sleep(0.001)
    assert pool.translate(TEXTS, SHORT) == alone.translate(TEXTS, SHORT)
    assert group_of(pool) != killed


def test_engines_outlive_the_signals_that_end_a_service(pool: Translator) -> None:
    before = pool.process_ids
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.killpg(group_of(pool), number)
        assert len(pool.translate(TEXTS, SHORT)) == len(TEXTS)
    assert pool.process_ids == before


def test_a_replaced_checkpoint_is_refused(tiny_checkpoint: Path) -> None:
    processes = EngineProcesses(3)
    processes.load(EngineSetup(tiny_checkpoint, "other", "fp32", shortlist=True, max_slots=4))
    said = processes.loader.recv()
    assert isinstance(said, FailureReport)
    assert "was replaced" in said.reason
    processes.close()


def test_an_unreadable_checkpoint_is_reported(tmp_path: Path) -> None:
    processes = EngineProcesses(3)
    processes.load(EngineSetup(tmp_path / "none", "v", "fp32", shortlist=True, max_slots=4))
    said = processes.loader.recv()
    assert isinstance(said, FailureReport)
    assert str(tmp_path / "none") in said.reason
    processes.close()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_engines_are_forked_from_one_loader(pool: Translator) -> None:
    # Forked, not loaded three times: all have the one that was started as parent.
    first = group_of(pool)
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended since it was listed
            _, parent, group = stat.read_text(encoding="utf-8").rpartition(")")[2].split()[:3]
            if int(group) == first:
                parents[int(stat.parent.name)] = int(parent)
    assert set(parents) == {first, *pool.process_ids}
    assert len(parents) == NUM_ENGINES + 1
    assert {parent for pid, parent in parents.items() if pid != first} == {first}


HOLDER = """
import sys
from pathlib import Path
from model.decoding.engine_process import EngineProcesses
from model.decoding.search_config import SearchConfig
from model.translator import Translator
processes = EngineProcesses(2)
translator = Translator.load(Path(sys.argv[1]), precision="fp32", processes=processes)
translator.translate(["pears"])
translator.add("pears", SearchConfig(1, min_length_ratio=1e5, max_length_ratio=1e5))
print(processes._process.pid, flush=True)
while True:
    translator.step()
"""


def test_engines_end_when_their_caller_is_killed(tiny_checkpoint: Path) -> None:
    _, environment = python_command("model")
    with subprocess.Popen(
        [sys.executable, "-P", "-c", HOLDER, str(tiny_checkpoint)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        group = int(holder.stdout.readline())
        os.killpg(group, 0)
        holder.kill()
    assert is_gone(group)
