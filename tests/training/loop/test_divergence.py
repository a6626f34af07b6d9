"""Tests what happens when losses become NaN or gradients are clipped often."""

import math
from pathlib import Path

import pytest
from torch import Tensor

from tests.training.loop.reversing import Run, config, equal, poisoned
from training.data.token_store import TokenStore
from training.errors import DivergenceError
from training.loop.journal import read_log
from training.loop.state import load_progress
from training.loop.validation import DevScores

pytestmark = pytest.mark.usefixtures("quick")  # test_trainer.py has the same updates checked


def test_frequent_clipping_prints_a_warning(reversals: TokenStore, tmp_path: Path) -> None:
    settings = config(
        optimization={"clip_norm": 1e-6, "max_steps": 20, "batch_tokens": 50, "max_epochs": 1000}
    )
    run = Run(tmp_path, settings)
    run.trainer.progress.step, run.trainer.progress.clipped = 980, 600
    run.trainer.config = settings.model_copy(
        update={"optimization": settings.optimization.model_copy(update={"max_steps": 1000})}
    )
    run.train(reversals)
    assert "the gradient was clipped in 620 of the last 1,000 updates" in run.said.getvalue()
    assert run.trainer.progress.clipped == 0


def test_rare_clipping_prints_no_warning(reversals: TokenStore, tmp_path: Path) -> None:
    run = Run(tmp_path, config(optimization={"clip_norm": 1e6, "max_steps": 1000}))
    run.trainer.progress.step, run.trainer.progress.clipped = 980, 400
    run.train(reversals)
    assert "clipped" not in run.said.getvalue()


def test_a_loss_that_stays_nan_stops_the_run(reversals: TokenStore, tmp_path: Path) -> None:
    settings = config(optimization={"max_epochs": 50}, save_every_minutes=1e-9)
    run = Run(tmp_path, settings)
    kept: dict[int, list[Tensor]] = {}
    original = run.trainer.save

    def save() -> None:
        original()
        kept[run.trainer.progress.step] = run.weights()

    run.trainer.save = save  # type: ignore[method-assign]
    with (
        poisoned(run.trainer, lambda step: step >= 9),
        pytest.raises(DivergenceError, match="not a number at step 11") as caught,
    ):
        run.train(reversals)
    assert "optimization.learning_rate (now 0.02)" in str(caught.value)
    progress = load_progress(tmp_path / "states" / "last.safetensors")
    assert progress.step == 8
    weights = run.saved("last.safetensors")
    assert equal(weights, kept[8])
    assert all(weight.isfinite().all() for weight in weights)


def test_a_dev_loss_of_nan_stops_the_run(reversals: TokenStore, tmp_path: Path) -> None:
    run = Run(tmp_path, config(validation={"every_steps": 3}, save_every_minutes=1e-9))
    run.validate = lambda: DevScores(math.inf, 0.0, 0.0, 0.0, "")  # type: ignore[method-assign]
    with pytest.raises(DivergenceError, match="not a number at step 3"):
        run.train(reversals)
    assert load_progress(tmp_path / "states" / "last.safetensors").step == 2
    assert not run.kept()


def test_a_single_bad_update_does_not_stop_the_run(reversals: TokenStore, tmp_path: Path) -> None:
    run = Run(tmp_path, config(optimization={"max_steps": 12}))
    with poisoned(run.trainer, lambda step: step in (3, 4, 6, 7, 9)):
        run.train(reversals)
    assert run.trainer.progress.finished == "all 12 steps are done"
    assert all(weight.isfinite().all() for weight in run.weights())


def test_the_log_contains_no_nan(reversals: TokenStore, tmp_path: Path) -> None:
    run = Run(tmp_path, config(optimization={"max_steps": 40, "max_epochs": 9}))
    with poisoned(run.trainer, lambda step: step in (20, 33)):
        run.train(reversals)
    lines = read_log(tmp_path)
    numbers = [value for line in lines for value in line.values() if isinstance(value, float)]
    assert all(map(math.isfinite, numbers))
    assert [line["step"] for line in lines if line["kind"] == "training"] == [20, 40]
