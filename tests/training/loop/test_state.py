"""Tests that run states are complete and atomic, and that wrong files are refused."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.networks import VOCAB, build
from training.config import OptimizationConfig
from training.errors import RunError
from training.loop.batching import collate
from training.loop.optimization import AveragedWeights, build_optimizer
from training.loop.state import (
    BestState,
    RunProgress,
    load_progress,
    load_run_state,
    load_weights_file,
    save_run_state,
    save_weights,
)

PLACE = RunProgress(
    step=7,
    epoch=2,
    batch=3,
    target_tokens=12345,
    seconds=1.5,
    clipped=4,
    since_best=1,
    plateau_cuts=2,
    plateau_wait=1,
    best=[BestState("best-00000005.safetensors", 5, -1.25)],
    finished="all 7 steps are done",
)


class Training:
    """A network, its optimizer and its averages after three updates."""

    def __init__(self, seed: int, **choices: Any) -> None:
        self.network = build(seed=seed, tied_embeddings="all", **choices)
        self.optimizer = build_optimizer(self.network, OptimizationConfig())
        self.averages = AveragedWeights(self.network, decay=0.9)
        for step in range(1, 4):
            self.update(step)

    def update(self, step: int) -> None:
        ids = torch.randint(4, VOCAB, (2, 5)).tolist()
        batch = collate(ids, ids)
        self.network(batch.source, batch.target_input).logsumexp(dim=-1).sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.averages.update(step)

    def save(self, path: Path, progress: RunProgress = PLACE) -> None:
        save_run_state(
            path,
            network=self.network,
            optimizer=self.optimizer,
            averages=self.averages,
            progress=progress,
        )

    def load(self, path: Path) -> RunProgress:
        return load_run_state(
            path, network=self.network, optimizer=self.optimizer, averages=self.averages
        )

    def tensors(self) -> list[Tensor]:
        moments = [
            value
            for parameter in self.network.parameters()
            for _, value in sorted(self.optimizer.state[parameter].items())
        ]
        return [*self.network.parameters(), *self.averages.averages, *moments]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    Training(1).save(tmp_path / "last.safetensors")
    return tmp_path / "last.safetensors"


@contextmanager
def little_room() -> Iterator[None]:
    """Limits files to a kilobyte, which simulates a full disk.

    Only inside the block, or the limit would meet the log that pytest itself is written to.
    """
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def equal(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


def refusal(path: Path, training: Training | None = None) -> str:
    with pytest.raises(RunError) as caught:
        (training or Training(2)).load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_run_state_restores_everything(tmp_path: Path, cell: str) -> None:
    first, second = Training(1, cell=cell), Training(2, cell=cell)
    first.save(tmp_path / "state")
    drawn = torch.randn(8)
    first.update(4)

    assert second.load(tmp_path / "state") == PLACE
    assert torch.equal(torch.randn(8), drawn)  # the random state too
    second.update(4)
    # Equal now, and equal after one more update: moments and their count of steps are back.
    assert equal(first.tensors(), second.tensors())


def test_the_progress_can_be_read_without_tensors(state: Path) -> None:
    assert load_progress(state) == PLACE


def test_loaded_tensors_do_not_depend_on_the_file(state: Path) -> None:
    training = Training(2)
    training.load(state)
    before = [tensor.clone() for tensor in training.tensors()]
    state.write_bytes(b"\0" * state.stat().st_size)
    assert equal(training.tensors(), before)


def test_weights_are_read_by_name(tmp_path: Path, state: Path) -> None:
    network = Training(1).network
    save_weights(tmp_path / "best", network, PLACE, 12.5)
    names = dict(network.named_parameters())
    for path in (state, tmp_path / "best"):
        weights = load_weights_file(path)
        assert weights.keys() == names.keys()  # tied matrices once
        assert all(torch.equal(weights[name], names[name]) for name in names)


def test_a_run_state_is_replaced_atomically(state: Path) -> None:
    Training(1).save(state, RunProgress(step=8))
    assert load_progress(state).step == 8
    assert [path.name for path in state.parent.iterdir()] == [state.name]


def test_a_full_disk_keeps_the_previous_state(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    path.write_bytes(b"the state before")
    training = Training(1)
    with little_room(), pytest.raises(RunError, match="cannot be written") as caught:
        training.save(path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"the state before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_state_is_named_in_the_error(tmp_path: Path) -> None:
    assert "there is no run state" in refusal(tmp_path / "last.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.999])
def test_a_truncated_state_is_reported_as_damaged(state: Path, share: float) -> None:
    content = state.read_bytes()
    state.write_bytes(content[: int(len(content) * share)])
    assert "is damaged" in refusal(state)


def test_random_bytes_are_reported_as_damaged(state: Path) -> None:
    state.write_bytes(b"\xff" * 1000)
    assert "is damaged" in refusal(state)


def test_a_broken_header_is_reported_as_damaged(state: Path) -> None:
    content = bytearray(state.read_bytes())
    content[8:20] = b"\xff" * 12
    state.write_bytes(content)
    assert "is damaged" in refusal(state)


def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.zeros(3)}, path)
    assert "was not written by this version" in refusal(path)


def test_another_format_version_is_refused(state: Path) -> None:
    save_file(load_file(state), state, metadata={"format_version": "2", "content": "{}"})
    assert "was not written by this version" in refusal(state)


def test_a_file_of_weights_is_refused_as_run_state(tmp_path: Path) -> None:
    save_weights(tmp_path / "best", Training(1).network, PLACE, 12.5)
    assert "holds no valid progress" in refusal(tmp_path / "best")
    with pytest.raises(RunError, match="holds no valid progress"):
        load_progress(tmp_path / "best")


def test_progress_with_unknown_fields_is_refused(state: Path) -> None:
    content = '{"place": {"best": [], "colour": "red"}}'
    save_file(load_file(state), state, metadata={"format_version": "1", "content": content})
    assert "holds no valid progress" in refusal(state)


@pytest.mark.parametrize(
    "choices", [{"decoder_hidden": 6}, {"cell": "lstm"}, {"decoder_layers": 3}]
)
def test_a_state_of_another_network_is_refused(state: Path, choices: dict[str, Any]) -> None:
    assert "does not fit the config of this run" in refusal(state, Training(2, **choices))


@pytest.mark.parametrize("prefix", ["network/", "average/", "random/"])
def test_an_incomplete_state_is_refused(state: Path, prefix: str) -> None:
    with safe_open(state, framework="pt") as file:
        metadata = file.metadata()
    kept = {name: t for name, t in load_file(state).items() if not name.startswith(prefix)}
    save_file(kept, state, metadata=metadata)
    assert "does not fit the config of this run" in refusal(state)


def test_every_field_of_the_progress_is_saved() -> None:
    # A field that PLACE leaves at its default would go untested above.
    fresh = asdict(RunProgress())
    assert all(value != fresh[name] for name, value in asdict(PLACE).items())
