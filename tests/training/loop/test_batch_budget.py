"""Tests batch_tokens = "auto": the largest batch that fits, without filling the memory."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.errors import ConfigError
from tests.networks import build
from tests.training.loop import reversing
from tests.training.zygote import Zygote
from training.data.token_store import TokenStore, write_token_store
from training.loop import batch_budget
from training.loop.batch_budget import available_memory, fit_batch_tokens
from training.loop.trainer import Trainer
from training.run.folder import RunFolder


def fill(folder: Path, lengths: list[tuple[int, int]]) -> TokenStore:
    with write_token_store(
        folder, source_vocab_size=13, target_vocab_size=13, weights=[1.0]
    ) as writer:
        for source, target in lengths:
            writer.append([5] * source, [6] * target, 0)
    return TokenStore.open(folder)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    """A million target tokens, EOS counted; the longest side has 40 with its EOS."""
    lengths = [(39, 19)] + [(4, 19)] * 49_999
    return fill(tmp_path_factory.mktemp("stores") / "store", lengths)


class Machine:
    """A device whose memory per update follows a formula; records the trials."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, room: float, device: str) -> None:
        self.tried: list[int] = []
        self.trainer: Any = SimpleNamespace(device=torch.device(device))

        def attempt(
            trainer: Trainer, store: TokenStore, pairs: NDArray[np.int64], width: int, tokens: int
        ) -> Any:
            rows = tokens // width
            self.tried.append(rows * width)
            return batch_budget._Trial(rows * width, 5_000_000 + 1_000 * rows * width)

        monkeypatch.setattr(batch_budget, "_try", attempt)
        monkeypatch.setattr(batch_budget, "_room", lambda device: room)

    def fit(self, store: TokenStore) -> int:
        return fit_batch_tokens(self.trainer, store)


def test_the_batch_size_is_extrapolated_from_two_trials(
    monkeypatch: pytest.MonkeyPatch, store: TokenStore
) -> None:
    machine = Machine(monkeypatch, room=8_555_000, device="cpu")
    assert machine.fit(store) == 3_500  # 3,555 fit; to the hundred below
    assert machine.tried == [1_000, 2_000]


def test_batches_on_a_cpu_are_limited(monkeypatch: pytest.MonkeyPatch, store: TokenStore) -> None:
    assert Machine(monkeypatch, room=1e12, device="cpu").fit(store) == 4_000


def test_trials_on_a_gpu_double_and_stay_within_it(
    monkeypatch: pytest.MonkeyPatch, store: TokenStore
) -> None:
    machine = Machine(monkeypatch, room=12_700_000, device="cuda")
    assert machine.fit(store) == 7_700
    assert machine.tried == [1_000, 2_000, 4_000]  # 8,000 would not have fitted


def test_an_epoch_has_at_least_a_hundred_updates(
    monkeypatch: pytest.MonkeyPatch, store: TokenStore
) -> None:
    machine = Machine(monkeypatch, room=1e12, device="cuda")
    assert machine.fit(store) == 10_000
    assert max(machine.tried) <= 10_000


def test_a_longest_pair_that_does_not_fit_is_refused(
    monkeypatch: pytest.MonkeyPatch, store: TokenStore
) -> None:
    machine = Machine(monkeypatch, room=5_030_000, device="cpu")
    with pytest.raises(ConfigError, match=r"has 40 tokens, but only 30 fit .*; lower"):
        machine.fit(store)


def test_a_small_corpus_keeps_small_batches(tmp_path: Path) -> None:
    """Measures real updates, on pairs that are repeated to fill a trial."""
    small = fill(tmp_path / "store", [(3, 5)] * 200 + [(30, 2)])
    assert fit_batch_tokens(trainer(tmp_path), small) == 31  # 1,200 tokens: the longest pair


def trainer(folder: Path) -> Trainer:
    config = reversing.config()
    return Trainer(build(), config, folder)


def test_memory_of_an_update_grows_linearly_with_tokens(store: TokenStore, tmp_path: Path) -> None:
    training = trainer(tmp_path)
    pairs = batch_budget._longest_pairs(store)
    taken = [
        batch_budget._try(training, store, pairs, 40, tokens).num_bytes
        for tokens in (1_000, 2_000, 4_000)
    ]
    assert taken[2] - taken[1] == pytest.approx(2 * (taken[1] - taken[0]), rel=0.1)
    # At the very least the widest thing of every place: three times its bytes a token.
    assert (taken[1] - taken[0]) / 1_000 > 3 * 4 * 8


def test_trials_are_made_of_the_longest_pairs(tmp_path: Path) -> None:
    mixed = fill(tmp_path / "store", [(1, 2), (9, 1), (2, 30), (7, 7), (1, 8)])
    assert batch_budget._longest_pairs(mixed).tolist() == [2, 1, 4, 3, 0]


def test_free_memory_is_limited_by_the_container(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:   9000 kB\nMemAvailable:    8000 kB\n", encoding="ascii")
    none = tmp_path / "none"
    assert available_memory(meminfo, none) == 8000 * 1024
    assert available_memory(none, none) == 4 * 2**30

    (tmp_path / "v2").mkdir()
    (tmp_path / "v2" / "memory.current").write_text("1000000\n")
    for limit, left in (("3000000", 2_000_000), ("max", 8_192_000), ("900000000", 8_192_000)):
        (tmp_path / "v2" / "memory.max").write_text(f"{limit}\n")
        assert available_memory(meminfo, tmp_path / "v2") == left

    (tmp_path / "v1" / "memory").mkdir(parents=True)
    (tmp_path / "v1" / "memory" / "memory.limit_in_bytes").write_text("500\n")
    (tmp_path / "v1" / "memory" / "memory.usage_in_bytes").write_text("600\n")
    assert available_memory(meminfo, tmp_path / "v1") == 0


def test_a_run_records_the_measured_batch_size_and_keeps_it(
    dragoman: Zygote, recipe: Path, tmp_path: Path
) -> None:
    settings = ["--set", "optimization.batch_tokens=auto", "--set", "validation.max_sentences=1"]
    start = ["train", recipe, "--run", tmp_path / "run", *settings]
    command = dragoman.run(*start, "--set", "optimization.max_steps=2")
    assert command.status == 0, command.said
    folder = RunFolder(tmp_path / "run")
    assert folder.asked_config().optimization.batch_tokens == "auto"
    batch_tokens = folder.resolved_config().optimization.batch_tokens
    assert f"batches of {batch_tokens:,} tokens" in command.said

    # As if it had been found on another machine.
    path = folder.path / "config.json"
    content = json.loads(path.read_bytes())
    content["resolved"]["optimization"]["batch_tokens"] = batch_tokens + 7
    path.write_text(json.dumps(content), encoding="utf-8")
    command = dragoman.run(*start, "--resume", "--set", "optimization.max_steps=4")
    assert command.status == 0, command.said
    assert f"batches of {batch_tokens + 7:,} tokens" in command.said
