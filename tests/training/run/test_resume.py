"""Tests that a run interrupted anywhere and resumed equals an unbroken one bit by bit."""

import hashlib
import json
import random
import shutil
import signal
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.training.zygote import Command, Zygote
from training.errors import RunError
from training.loop.journal import read_log
from training.loop.state import load_progress

VARIANTS: dict[str, list[str]] = {
    "gru-dropout-ema": [
        "dropout.embedding=0.2",
        "dropout.hidden=0.2",
        "dropout.source_word=0.1",
        "validation.metric=loss",
    ],
    "accumulate-plateau-separate": [
        "optimization.accumulate=2",
        "optimization.schedule=plateau",
        "optimization.warmup_steps=0",
        "optimization.plateau_patience=0",
        "optimization.max_epochs=5",
        "validation.every_steps=5",
        "tokenizer.joint=false",
    ],
    "lstm-feed-adam-weighted": [
        "model.cell=lstm",
        "model.decoder=feed",
        "model.decoder_layers=2",
        "optimization.optimizer=adam",
        "optimization.ema_decay=0",
        "optimization.max_epochs=2",
        "dropout.readout=0.3",
        "dropout.target_word=0.1",
        "validation.metric=chrf",
    ],
    "bf16-epochs": [
        "optimization.precision=bf16",
        "model.tied_embeddings=all",
        "validation.metric=loss",
    ],
}


@dataclass
class Unbroken:
    """Settings of a variant and its unbroken run."""

    recipe: Path
    settings: list[str]
    run: Path

    @property
    def num_steps(self) -> int:
        return load_progress(self.run / "states" / "last.safetensors").step

    def start(self, dragoman: Zygote, run: Path, *more: str) -> Command:
        chosen = [word for setting in self.settings for word in ("--set", setting)]
        return dragoman.start("train", self.recipe, "--run", run, *chosen, *more)


@pytest.fixture(scope="module", params=VARIANTS)
def unbroken(
    request: pytest.FixtureRequest,
    dragoman: Zygote,
    recipe: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Unbroken:
    found = Unbroken(recipe, VARIANTS[request.param], tmp_path_factory.mktemp("unbroken") / "run")
    command = found.start(dragoman, found.run)
    assert command.wait() == 0, command.said
    return found


@pytest.fixture(scope="module")
def simple(dragoman: Zygote, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    """An unbroken run with dropout, so that the random state matters."""
    settings = ["dropout.hidden=0.2", "validation.metric=loss"]
    found = Unbroken(recipe, settings, tmp_path_factory.mktemp("simple") / "run")
    command = found.start(dragoman, found.run)
    assert command.wait() == 0, command.said
    return found


def progress(run: Path) -> dict[str, Any]:
    return asdict(load_progress(run / "states" / "last.safetensors"))


def bits(run: Path) -> dict[str, str]:
    """Returns a hash of every tensor of every state: weights, moments, averages, random state."""
    return {
        f"{path.name} {name}": hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
        for path in sorted((run / "states").iterdir())
        for name, tensor in sorted(load_file(path).items())
    }


def assert_equal(run: Path, unbroken: Path) -> None:
    assert bits(run) == bits(unbroken)
    places = [progress(folder) for folder in (run, unbroken)]
    for found in places:
        del found["seconds"]
        del found["clipped"]  # counted at reports; the one across the break covers fewer updates
    assert places[0] == places[1]


def wait_for_step(run: Path, step: int, command: Command) -> None:
    """Waits until a state of at least this step is saved."""

    def reached() -> bool:
        try:
            return load_progress(run / "states" / "last.safetensors").step >= step
        except RunError:  # not there yet, or replaced while it was read
            return False

    command.wait_for(reached)


def stopped_at(
    unbroken: Unbroken, dragoman: Zygote, run: Path, step: int, number: signal.Signals, *more: str
) -> Command:
    """Starts a command and sends it a signal at this step."""
    command = unbroken.start(dragoman, run, *more)
    wait_for_step(run, step, command)
    command.send(number)
    command.wait()
    return command


def test_a_run_killed_twice_and_resumed_equals_an_unbroken_one(
    unbroken: Unbroken, dragoman: Zygote, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    first, second = sorted(random.sample(range(1, unbroken.num_steps - 1), 2))
    command = stopped_at(unbroken, dragoman, run, first, signal.SIGKILL)
    assert command.status == -signal.SIGKILL
    command = stopped_at(unbroken, dragoman, run, second, signal.SIGKILL, "--resume")
    assert command.status == -signal.SIGKILL
    command = unbroken.start(dragoman, run, "--resume")
    assert command.wait() == 0, command.said
    assert_equal(run, unbroken.run)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_run_stopped_by_signal_and_resumed_equals_an_unbroken_one(
    number: signal.Signals, simple: Unbroken, dragoman: Zygote, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    step = random.randrange(1, simple.num_steps - 2)
    command = stopped_at(simple, dragoman, run, step, number)
    assert command.status == 130
    assert command.said.endswith(
        f"stopped and saved; continue with: dragoman train --run {run} --resume\n"
    )
    assert "Traceback" not in command.said
    assert step <= progress(run)["step"] < simple.num_steps
    assert (run / "curves.png").is_file() == bool(read_log(run))

    command = dragoman.run("train", "--run", run, "--resume")  # the recipe is not needed
    assert command.status == 0, command.said
    assert_equal(run, simple.run)
    record, whole = read_log(run), read_log(simple.run)
    assert [(line["kind"], line["step"], line["epoch"]) for line in record] == [
        (line["kind"], line["step"], line["epoch"]) for line in whole
    ]
    for line, right in zip(record, whole, strict=True):
        if line["kind"] == "validation":
            own = {"seconds": 0, "peak_memory_mib": 0}  # of each process
            assert {**line, **own} == {**right, **own}


def test_a_run_killed_before_its_first_state_can_be_resumed(
    simple: Unbroken, dragoman: Zygote, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = simple.start(dragoman, run)
    command.wait_for((run / "config.json").is_file)
    command.send(signal.SIGKILL)
    command.wait()
    command = simple.start(dragoman, run, "--resume")
    assert command.wait() == 0, command.said
    assert_equal(run, simple.run)


def test_a_run_killed_while_reading_the_corpus_can_be_repeated(
    simple: Unbroken, dragoman: Zygote, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = simple.start(dragoman, run)
    command.wait_for(lambda: bool(list(run.glob(".data.*.tmp"))))
    command.send(signal.SIGKILL)
    command.wait()
    command = simple.start(dragoman, run, "--resume")
    assert command.wait() == 1
    assert command.said == f"error: there is no run to resume in {run}; leave out --resume\n"
    command = simple.start(dragoman, run)
    assert command.wait() == 0, command.said
    assert_equal(run, simple.run)
    assert not list(run.rglob(".*.tmp"))


def test_a_run_interrupted_while_reading_the_corpus_leaves_no_files(
    simple: Unbroken, dragoman: Zygote, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = simple.start(dragoman, run)
    command.wait_for(lambda: bool(list(run.glob(".data.*.tmp"))))
    command.send(signal.SIGINT)
    assert command.wait() == 130
    assert "Traceback" not in command.said
    assert not run.exists()


def test_a_finished_run_continues_with_more_epochs(
    simple: Unbroken, dragoman: Zygote, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(simple.run, run)
    command = simple.start(dragoman, run, "--resume")
    assert command.wait() == 0
    assert "all 3 epochs are done" in command.said
    assert_equal(run, simple.run)
    command = simple.start(dragoman, run, "--resume", "--set", "optimization.max_epochs=4")
    assert command.wait() == 0
    assert "all 4 epochs are done" in command.said
    assert progress(run)["epoch"] == 4
    steps = [line["step"] for line in read_log(run) if line["kind"] == "validation"]
    assert steps == sorted(set(steps))


def test_leftovers_of_a_kill_are_removed(
    simple: Unbroken, dragoman: Zygote, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(simple.run, run)
    (run / "states" / ".last.safetensors.123.tmp").write_bytes(b"half")
    (run / "states" / "best-99999999.safetensors").write_bytes(b"written, but never named")
    with (run / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"kind": "training", "ste')
    command = simple.start(dragoman, run, "--resume", "--set", "optimization.max_epochs=4")
    assert command.wait() == 0, command.said
    assert not list((run / "states").glob(".*"))
    assert not (run / "states" / "best-99999999.safetensors").exists()
    for line in (run / "log.jsonl").read_text(encoding="utf-8").split("\n")[:-1]:
        json.loads(line)


def _other_random(tensors: dict[str, torch.Tensor], found: dict[str, Any]) -> None:
    tensors["random/cpu"] = torch.Generator().manual_seed(1).get_state()


def _no_optimizer(tensors: dict[str, torch.Tensor], found: dict[str, Any]) -> None:
    for name in [name for name in tensors if name.startswith("optimizer/")]:
        del tensors[name]


def _no_averages(tensors: dict[str, torch.Tensor], found: dict[str, Any]) -> None:
    for name in tensors:
        if name.startswith("average/"):
            tensors[name] = torch.zeros_like(tensors[name])


def _start_of_epoch(tensors: dict[str, torch.Tensor], found: dict[str, Any]) -> None:
    assert found["place"]["batch"] > 0
    found["place"]["batch"] = 0


@pytest.fixture(scope="module")
def half_way(simple: Unbroken, dragoman: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run stopped inside its second epoch."""
    run = tmp_path_factory.mktemp("half") / "run"
    step = simple.num_steps // 2
    assert stopped_at(simple, dragoman, run, step, signal.SIGTERM).status == 130
    return run


@pytest.mark.parametrize(
    "spoil",
    [_other_random, _no_optimizer, _no_averages, _start_of_epoch],
    ids=lambda spoil: spoil.__name__.strip("_"),
)
def test_every_part_of_the_run_state_is_needed(
    spoil: Callable[[dict[str, torch.Tensor], dict[str, Any]], None],
    half_way: Path,
    simple: Unbroken,
    dragoman: Zygote,
    tmp_path: Path,
) -> None:
    """Shows that the comparison above notices any part that is not saved."""
    run = tmp_path / "run"
    shutil.copytree(half_way, run)
    state = run / "states" / "last.safetensors"
    with safe_open(state, framework="pt") as file:
        metadata = file.metadata()
    tensors, content = load_file(state), json.loads(metadata["content"])
    spoil(tensors, content)
    save_file(tensors, state, metadata={**metadata, "content": json.dumps(content)})
    command = simple.start(dragoman, run, "--resume")
    assert command.wait() == 0, command.said
    spoilt, right = bits(run), bits(simple.run)
    weights = [key for key in right if "network/" in key]
    assert {key: spoilt.get(key) for key in weights} != {key: right[key] for key in weights}


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("seed=2", "seed was 1 and is now 2"),
        ("model.cell=lstm", "model.cell was 'gru' and is now 'lstm'"),
        ("dropout.hidden=0.3", "dropout.hidden was 0.2 and is now 0.3"),
        ("optimization.batch_tokens=77", "optimization.batch_tokens was"),
        ("tokenizer.vocab_size=399", "tokenizer.vocab_size was 400 and is now 399"),
        ("data.source_language=nl", "data.source_language was 'en' and is now 'nl'"),
        ("validation.metric=bleu", "validation.metric was 'loss' and is now 'bleu'"),
    ],
)
def test_resuming_with_other_settings_is_refused(
    setting: str, said: str, simple: Unbroken, dragoman: Zygote
) -> None:
    before = bits(simple.run)
    command = simple.start(dragoman, simple.run, "--resume", "--set", setting)
    assert command.wait() == 1
    assert command.said.startswith("error: a resumed run keeps its settings, but ")
    assert said in command.said
    assert command.said.count("\n") == 1
    assert bits(simple.run) == before


def test_a_damaged_state_gives_a_one_line_error(
    simple: Unbroken, dragoman: Zygote, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(simple.run, run)
    state = run / "states" / "last.safetensors"
    state.write_bytes(state.read_bytes()[:5000])
    command = dragoman.run("train", "--run", run, "--resume")
    assert command.status == 1
    assert command.said.split("\n")[-2].startswith(f"error: run state {state} is damaged")
    assert "Traceback" not in command.said
