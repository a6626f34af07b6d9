"""Tests that several workers give the losses of one, and that all of them end."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from model.errors import ConfigError
from tests.training.zygote import TIMEOUT_S, Command, Zygote
from training.loop import distributed
from training.loop.distributed import World, this_worker
from training.loop.journal import read_log
from training.loop.state import load_progress, load_weights_file

NO_DROPOUT = [f"dropout.{progress}=0" for progress in ("embedding", "hidden", "readout")]
# A dev loss after every update; of many of these batches a second worker gets no row.
CURVE = [
    *NO_DROPOUT,
    "optimization.batch_tokens=80",
    "validation.every_steps=1",
    "validation.metric=loss",
    "validation.max_sentences=1",
]
UPDATES = 20  # so that there is a report of training as well
DROPOUT = [
    "dropout.hidden=0.3",
    "optimization.accumulate=2",
    "optimization.max_steps=4",
    "validation.max_sentences=1",
]
ENDLESS = ["optimization.max_epochs=1000", "validation.max_sentences=1"]

Start = Callable[..., list[Command]]


@pytest.fixture
def start(dragoman: Zygote, recipe: Path) -> Start:
    """Starts `dragoman train` with several workers on one run folder."""

    def started(workers: int, run: Path, settings: list[str], *more: str) -> list[Command]:
        chosen = [word for setting in settings for word in ("--set", setting)]
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"}
        sizes = {"WORLD_SIZE": f"{workers}", "LOCAL_WORLD_SIZE": f"{workers}"}
        return [
            dragoman.start(
                *("train", recipe, "--run", run, *chosen, *more),
                environment={**shared, **sizes, "RANK": f"{rank}", "LOCAL_RANK": f"{rank}"},
            )
            for rank in range(workers)
        ]

    return started


def succeed(commands: list[Command]) -> None:
    for command in commands:
        assert command.wait() == 0, command.said


def curve(run: Path, kind: str, number: str) -> list[float]:
    return [line[number] for line in read_log(run) if line["kind"] == kind]


def step(run: Path) -> int:
    return load_progress(run / "states" / "last.safetensors").step


def wait_for_state(run: Path, command: Command) -> None:
    command.wait_for((run / "states" / "last.safetensors").is_file)


@pytest.fixture(scope="module")
def alone(dragoman: Zygote, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a single worker."""
    run = tmp_path_factory.mktemp("alone") / "run"
    settings = [*CURVE, f"optimization.max_steps={UPDATES}"]
    chosen = [word for setting in settings for word in ("--set", setting)]
    succeed([dragoman.start("train", recipe, "--run", run, *chosen)])
    return run


def assert_same_curve(run: Path, alone: Path) -> None:
    losses = curve(alone, "validation", "nll")
    assert len(losses) == UPDATES
    assert losses[-1] < losses[0] - 0.1
    assert curve(run, "validation", "nll") == pytest.approx(losses, abs=1e-4)
    for number in ("loss", "nll", "gradient_norm", "clipped_share"):
        expected = curve(alone, "training", number)
        assert curve(run, "training", number) == pytest.approx(expected, abs=1e-4)
    assert [line["step"] for line in read_log(run)] == [line["step"] for line in read_log(alone)]


@pytest.mark.parametrize("workers", [2, 3])
def test_several_workers_reach_the_weights_of_one(
    workers: int, start: Start, alone: Path, tmp_path: Path
) -> None:
    commands = start(workers, tmp_path / "run", [*CURVE, f"optimization.max_steps={UPDATES}"])
    succeed(commands)
    assert_same_curve(tmp_path / "run", alone)
    assert f"finished after {UPDATES} updates" in commands[0].said
    assert f"fp32, {workers} workers, 1 threads" in commands[0].said
    assert [command.said for command in commands[1:]] == [""] * (workers - 1)


@pytest.mark.parametrize(("first", "then"), [(1, 2), (2, 1)])
def test_a_run_can_be_resumed_with_another_number_of_workers(
    first: int, then: int, start: Start, alone: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    succeed(start(first, run, [*CURVE, "optimization.max_steps=5"]))
    assert step(run) == 5
    succeed(start(then, run, [*CURVE, "optimization.max_steps=10"], "--resume"))
    losses = curve(alone, "validation", "nll")[:10]
    assert curve(run, "validation", "nll") == pytest.approx(losses, abs=1e-4)


def test_two_killed_and_resumed_workers_equal_two_unbroken_ones(
    start: Start, tmp_path: Path
) -> None:
    """Two workers repeat their dropout masks after a resume; the masks differ from one worker's."""
    runs = {}
    for name, workers in (("whole", 2), ("broken", 2), ("alone", 1)):
        runs[name] = tmp_path / name
        commands = start(workers, runs[name], DROPOUT)
        if name == "broken":
            wait_for_state(runs[name], commands[0])
            for command in commands:
                command.send(signal.SIGKILL)
                command.wait()
            commands = start(workers, runs[name], DROPOUT, "--resume")
        succeed(commands)
    found = {name: load_weights_file(run / "states/last.safetensors") for name, run in runs.items()}
    whole, broken, single = found["whole"], found["broken"], found["alone"]
    assert all(torch.equal(whole[name], broken[name]) for name in whole)
    assert not all(torch.equal(whole[name], single[name]) for name in whole)


@pytest.mark.parametrize("victim", [0, 1])
def test_when_a_worker_is_killed_the_other_ends(victim: int, start: Start, tmp_path: Path) -> None:
    run = tmp_path / "run"
    commands = start(2, run, ENDLESS)
    wait_for_state(run, commands[0])
    commands[victim].send(signal.SIGKILL)
    survivor = commands[1 - victim]
    assert survivor.wait() == 1
    assert "Traceback" not in survivor.said
    last = survivor.said.split("\n")[-2]
    assert last.startswith(
        f"error: worker {2 - victim} of 2 stops because another worker has ended"
    )
    succeed(start(2, run, [*ENDLESS, f"optimization.max_steps={step(run) + 1}"], "--resume"))


@pytest.mark.parametrize("asked", [0, 1])
def test_a_signal_to_one_worker_saves_and_stops_both(
    asked: int, start: Start, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    commands = start(2, run, ENDLESS)
    wait_for_state(run, commands[0])
    commands[asked].send(signal.SIGTERM)
    assert [command.wait() for command in commands] == [130, 130], [c.said for c in commands]
    assert commands[0].said.endswith(
        f"stopped and saved; continue with: dragoman train --run {run} --resume\n"
    )
    assert commands[1].said == ""
    succeed(start(1, run, [*ENDLESS, f"optimization.max_steps={step(run) + 1}"], "--resume"))


def test_an_error_in_the_writer_ends_all_workers(start: Start, tmp_path: Path) -> None:
    commands = start(2, tmp_path / "run", ["data.cleaning.max_tokens=1"])
    assert [command.wait() for command in commands] == [1, 1]
    assert commands[0].said.split("\n")[-2].startswith("error: no pair of ")
    assert commands[1].said.startswith(
        "error: worker 2 of 2 stops because another worker has ended"
    )
    assert commands[1].said.count("\n") == 1


def test_a_dry_run_with_several_workers_is_refused(start: Start, tmp_path: Path) -> None:
    commands = start(2, tmp_path / "run", [], "--dry-run")
    assert [command.wait() for command in commands] == [1, 1]
    assert "start it without torchrun" in commands[1].said


def test_torchrun_starts_the_workers(recipe: Path, tmp_path: Path) -> None:
    """Runs torchrun as the help says, apart from the path of the command."""
    command = tmp_path / "dragoman.py"
    command.write_text("from service.cli import main\nmain()\n", encoding="utf-8")
    root = Path(__file__).parents[3]
    settings = ["--set", "optimization.max_steps=2", "--set", "validation.metric=loss"]
    answer = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", "--", str(command)),
            *("train", str(recipe), "--run", str(tmp_path / "run"), *settings),
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)},
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr.count("all 2 steps are done") == 1
    assert "2 workers" in answer.stderr


def test_every_pair_of_a_batch_belongs_to_one_worker() -> None:
    pairs = np.arange(100, 111)
    shares = [World(rank, 4).share_of(pairs).tolist() for rank in range(4)]
    assert sorted(pair for share in shares for pair in share) == pairs.tolist()
    assert sorted(map(len, shares)) == [2, 3, 3, 3]
    assert World().share_of(pairs).tolist() == pairs.tolist()


def test_every_worker_and_update_has_its_own_seed() -> None:
    seeds = {World(rank, 3).seed(1, step) for rank in range(3) for step in range(50)}
    assert len(seeds) == 150
    assert World(2, 3).seed(1, 7) == World(2, 3).seed(1, 7)


def test_the_rank_is_read_from_torchruns_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert this_worker() == World(0, 1, 0, 1)
    given = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert this_worker() == World(5, 8, 1, 4)
    assert not this_worker().is_writer
    for name, value, said in (
        ("RANK", "8", "RANK 8 is not below"),
        ("WORLD_SIZE", "two", "torchrun"),
    ):
        monkeypatch.setenv(name, value)
        with pytest.raises(ConfigError, match=said):
            this_worker()


def test_every_worker_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def as_if_there(device: str) -> torch.device:
        return torch.device("cuda" if device == "auto" else device)

    monkeypatch.setattr(distributed, "resolve_device", as_if_there)
    assert World(5, 8, 1, 4).device("auto") == torch.device("cuda:1")
    assert World(5, 8, 1, 4).device("cpu") == torch.device("cpu")
    assert World().device("cuda:3") == torch.device("cuda:3")
    with pytest.raises(ConfigError, match="'cuda:3' is one GPU, but there are 8 workers"):
        World(5, 8, 1, 4).device("cuda:3")
