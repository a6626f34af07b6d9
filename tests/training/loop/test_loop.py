"""Tests when the loop validates, which states it keeps, what it logs, and when it ends."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch import Tensor

from tests.training.loop.reversing import Run, config, equal
from training.data.token_store import TokenStore
from training.loop.batching import PairBatch
from training.loop.journal import read_log
from training.loop.state import load_progress
from training.loop.trainer import Update
from training.loop.validation import DevScores
from training.run.curves import draw_curves

pytestmark = pytest.mark.usefixtures("quick")  # test_trainer.py has the same updates checked


def test_training_stops_when_dev_does_not_rise(reversals: TokenStore, tmp_path: Path) -> None:
    settings = config(optimization={"max_epochs": 50}, validation={"every_steps": 2, "patience": 3})
    run = Run(tmp_path, settings)
    run.scores = lambda step: {2: 1.0, 4: 3.0, 6: 2.0, 8: 3.0, 10: 2.5}[step]  # equal is no gain
    run.train(reversals)
    assert run.steps_validated == [2, 4, 6, 8, 10]
    assert run.trainer.progress.finished == (
        "dev bleu has not risen for 3 validations (best 3.00 at step 4)"
    )


def test_patience_starts_with_the_first_correct_word(reversals: TokenStore, tmp_path: Path) -> None:
    settings = config(optimization={"max_epochs": 50}, validation={"every_steps": 2, "patience": 2})
    run = Run(tmp_path, settings)
    run.scores = lambda step: 1.0 if step == 12 else 0.0
    run.train(reversals)
    assert run.steps_validated == [2, 4, 6, 8, 10, 12, 14, 16]


@pytest.mark.parametrize("metric", ["bleu", "chrf", "loss"])
def test_the_metric_decides_what_is_better(
    metric: str, reversals: TokenStore, tmp_path: Path
) -> None:
    settings = config(
        optimization={"max_steps": 4},
        validation={"every_steps": 2, "metric": metric, "keep_best": 1},
    )
    run = Run(tmp_path, settings)
    found = {
        2: DevScores(nll=1.0, bleu=9.0, chrf=1.0, seconds=0.0, example=""),
        4: DevScores(nll=2.0, bleu=3.0, chrf=4.0, seconds=0.0, example=""),
    }
    run.validate = lambda: found[run.trainer.progress.step]  # type: ignore[method-assign]
    run.train(reversals)
    (best,) = run.trainer.progress.best
    right = {"bleu": (2, 9.0), "chrf": (4, 4.0), "loss": (2, -1.0)}  # less loss is better
    assert (best.step, best.score) == right[metric]


def test_only_the_best_states_are_kept(reversals: TokenStore, tmp_path: Path) -> None:
    settings = config(
        optimization={"max_steps": 6, "max_epochs": 9},
        validation={"every_steps": 1, "keep_best": 3},
    )
    run = Run(tmp_path, settings)
    run.scores = lambda step: {1: 5.0, 2: 1.0, 3: 4.0, 4: 0.5, 5: 6.0, 6: 4.0}[step]
    run.train(reversals)
    assert [(best.step, best.score) for best in run.trainer.progress.best] == [
        (5, 6.0),
        (1, 5.0),
        (3, 4.0),  # of equals the earlier one stays
    ]
    assert run.kept() == [f"best-0000000{step}.safetensors" for step in (1, 3, 5)]
    assert load_progress(tmp_path / "states" / "last.safetensors") == run.trainer.progress


def test_a_plateau_cuts_the_learning_rate(reversals: TokenStore, tmp_path: Path) -> None:
    optimization = {
        "schedule": "plateau",
        "warmup_steps": 0,
        "plateau_factor": 0.1,
        "plateau_patience": 1,
        "max_steps": 60,
        "max_epochs": 50,
    }
    run = Run(tmp_path, config(optimization=optimization, validation={"every_steps": 10}))
    rises = {10: 1.0, 20: 0.0, 30: 0.0, 40: 2.0, 50: 0.0, 60: 0.0}  # cut after 30 and after 60
    run.scores = lambda step: rises[step]
    run.train(reversals)
    assert run.trainer.progress.plateau_cuts == 2
    lines = [line for line in read_log(tmp_path) if line["kind"] == "training"]
    found = {line["step"]: line["learning_rate"] for line in lines}
    assert found == {20: pytest.approx(0.02), 40: pytest.approx(0.002), 60: pytest.approx(0.002)}


def test_averaged_weights_are_validated_and_kept(reversals: TokenStore, tmp_path: Path) -> None:
    settings = config(optimization={"max_steps": 5, "ema_decay": 0.9})
    run = Run(tmp_path, settings)
    assert run.trainer.averages is not None
    seen: list[list[Tensor]] = []
    original = run.validate

    def validate() -> DevScores:
        seen.append(run.weights())
        return original()

    run.validate = validate  # type: ignore[method-assign]
    run.train(reversals)
    (best,) = run.trainer.progress.best
    kept, last = run.saved(best.file), run.saved("last.safetensors")
    assert equal(seen[0], run.trainer.averages.averages)
    assert equal(kept, run.trainer.averages.averages)
    assert equal(last, run.weights())
    assert not equal(kept, last)


def test_a_failed_validation_restores_the_weights(reversals: TokenStore, tmp_path: Path) -> None:
    run = Run(tmp_path, config(optimization={"max_steps": 5, "ema_decay": 0.9}))
    weights: list[list[Tensor]] = []

    def interrupt() -> DevScores:
        run.trainer.averages.swap()  # type: ignore[union-attr]
        weights.append(run.weights())
        run.trainer.averages.swap()  # type: ignore[union-attr]
        raise KeyboardInterrupt

    run.validate = interrupt  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        run.train(reversals)
    assert equal(run.weights(), weights[0])


def test_by_default_dev_is_scored_once_per_epoch(reversals: TokenStore, tmp_path: Path) -> None:
    run = Run(tmp_path, config(optimization={"max_epochs": 3}))
    run.train(reversals)
    per_epoch = run.trainer.progress.step // 3
    assert run.steps_validated == [per_epoch, 2 * per_epoch, 3 * per_epoch]
    assert run.trainer.progress.finished == "all 3 epochs are done"
    assert run.trainer.progress.epoch == 3


def test_the_last_weights_are_always_validated(reversals: TokenStore, tmp_path: Path) -> None:
    run = Run(tmp_path, config(validation={"every_steps": 1000}))
    run.train(reversals)
    assert run.steps_validated == [run.trainer.progress.step]
    assert len(run.trainer.progress.best) == 1


def test_a_limit_that_was_already_reached_ends_the_run(
    reversals: TokenStore, tmp_path: Path
) -> None:
    for name, progress in (("steps", {"step": 50}), ("epochs", {"epoch": 7})):
        (tmp_path / name).mkdir()
        run = Run(tmp_path / name, config(optimization={"max_steps": 30, "max_epochs": 3}))
        for key, value in progress.items():
            setattr(run.trainer.progress, key, value)
        run.train(reversals)
        assert run.trainer.progress.finished
        assert len(run.steps_validated) == 1


def test_a_stop_takes_effect_after_the_update(reversals: TokenStore, tmp_path: Path) -> None:
    run = Run(tmp_path, config(optimization={"max_epochs": 50}))
    original = run.trainer.update

    def update(batches: Sequence[PairBatch], target_tokens: int | None = None) -> Update:
        if run.trainer.progress.step == 6:
            run.stop.set()
        return original(batches, target_tokens)

    run.trainer.update = update  # type: ignore[method-assign]
    run.train(reversals)
    progress = load_progress(tmp_path / "states" / "last.safetensors")
    assert progress.step == run.trainer.progress.step == 7
    assert not progress.finished


def test_a_stop_during_validation_keeps_its_result(reversals: TokenStore, tmp_path: Path) -> None:
    run = Run(tmp_path, config(optimization={"max_epochs": 50}, validation={"every_steps": 5}))
    original = run.validate

    def validate() -> DevScores:
        run.stop.set()
        return original()

    run.validate = validate  # type: ignore[method-assign]
    run.train(reversals)
    progress = load_progress(tmp_path / "states" / "last.safetensors")
    assert (progress.step, len(progress.best), progress.finished) == (5, 1, "")


def test_a_stop_before_the_first_update_leaves_a_state(
    reversals: TokenStore, tmp_path: Path
) -> None:
    run = Run(tmp_path, config())
    run.stop.set()
    run.train(reversals)
    again = Run(tmp_path, config(), seed=7)
    again.trainer.resume()
    assert again.trainer.progress.step == 0
    assert equal(again.weights(), run.weights())


def test_the_reported_speed_excludes_validation(
    reversals: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(
        tmp_path,
        config(optimization={"max_steps": 40, "max_epochs": 9}, validation={"every_steps": 30}),
    )
    clock = [0.0]
    # The loop's own clock: event loops of other tests' servers go by the machine's.
    monkeypatch.setattr("training.loop.loop.time", SimpleNamespace(monotonic=lambda: clock[0]))
    original, tokens = run.trainer.update, []

    def update(batches: Sequence[PairBatch], target_tokens: int | None = None) -> Update:
        clock[0] += 1  # a second an update
        found = original(batches, target_tokens)
        tokens.append(found.target_tokens)
        return found

    def validate() -> DevScores:
        clock[0] += 100
        return DevScores(nll=1.0, bleu=1.0, chrf=0.0, seconds=100.0, example="")

    run.trainer.update = update  # type: ignore[method-assign]
    run.validate = validate  # type: ignore[method-assign]
    run.train(reversals)
    lines = [line for line in read_log(tmp_path) if line["kind"] == "training"]
    found = [line["tokens_per_s"] for line in lines]
    assert found == pytest.approx([sum(tokens[:20]) / 20, sum(tokens[20:]) / 20])
    assert run.trainer.progress.seconds == pytest.approx(40 + 2 * 100)


def test_the_log_is_json_lines_and_the_curves_are_a_picture(
    reversals: TokenStore, tmp_path: Path
) -> None:
    folder = tmp_path / r"run $\broken{"  # no formula
    folder.mkdir()
    run = Run(folder, config(optimization={"max_steps": 40, "max_epochs": 9}))
    run.train(reversals)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().split("\n")[:-1]]
    assert [(line["kind"], line["step"]) for line in lines] == [
        ("validation", 15),  # the end of an epoch
        ("training", 20),
        ("validation", 30),
        ("training", 40),
        ("validation", 40),
    ]
    picture = draw_curves(folder)
    assert picture is not None
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in folder.glob(".*")) == []


def test_output_to_a_pipe_is_plain_lines(reversals: TokenStore, tmp_path: Path) -> None:
    run = Run(tmp_path, config(optimization={"max_steps": 40, "max_epochs": 9}))
    run.train(reversals)
    said = run.said.getvalue()
    assert said.endswith("\n")
    assert all(character.isprintable() or character == "\n" for character in said)
    assert "step 30  epoch 2  dev: nll 1.000  bleu 30.000" in said
