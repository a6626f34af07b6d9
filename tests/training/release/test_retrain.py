"""Tests `dragoman retrain` as a command: comparison, resuming and errors."""

import json
import math
import random
import signal
import time
from pathlib import Path

import pytest

from model.checkpoint import load_checkpoint
from tests.training.commands import complaint, options, wait_for_state
from tests.training.zygote import Zygote
from training.loop.journal import read_log

RETRAINING = ["optimization.max_epochs=2", "optimization.precision=fp32", "threads=1"]


def test_retraining_trains_further_and_compares(
    dragoman: Zygote, recipe: Path, checkpoint: Path, tmp_path: Path
) -> None:
    texts = ("--source", recipe.parent / "train.en", "--target", recipe.parent / "train.de")
    run = tmp_path / "run"
    command = dragoman.run("retrain", checkpoint, *texts, "--run", run, *options(RETRAINING))
    assert command.status == 0, command.said
    comparison = json.loads((run / "comparison.json").read_bytes())
    parent = load_checkpoint(checkpoint)
    assert comparison["old"] == {"name": "tiny", "version": parent.version}
    candidate = load_checkpoint(run / "checkpoint")
    assert candidate.metrics["parent"] == f"tiny {parent.version}"
    assert candidate.config.model == parent.config.model
    assert candidate.metrics["config"]["validation"]["every_steps"] is None
    assert candidate.metrics["config"]["optimization"]["learning_rate"] == pytest.approx(1.5e-3)
    for name in ("joint.model",):
        assert (run / "checkpoint" / name).read_bytes() == (checkpoint / name).read_bytes()
    # It began where the parent ended: a first dev loss near the parent's, not that of chance.
    nll = [line["nll"] for line in read_log(run) if line["kind"] == "validation"]
    assert nll[0] < math.log(400) - 0.5

    text = complaint(dragoman.run("train", "--run", run, "--resume"))
    assert f"started from checkpoint tiny {parent.version}" in text


def test_a_killed_retraining_can_be_resumed(
    dragoman: Zygote, recipe: Path, checkpoint: Path, tmp_path: Path
) -> None:
    texts = ("--source", recipe.parent / "train.en", "--target", recipe.parent / "train.de")
    rest = (*texts, *options(RETRAINING))
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert dragoman.run("retrain", checkpoint, *rest, "--run", whole).status == 0
    command = dragoman.start("retrain", checkpoint, *rest, "--run", run)
    wait_for_state(run, command)
    time.sleep(random.uniform(0, 0.2))
    command.send(signal.SIGKILL)
    command.wait()
    command = dragoman.run("retrain", checkpoint, *rest, "--run", run, "--resume")
    assert command.status == 0, command.said
    assert (run / "checkpoint/weights.safetensors").read_bytes() == (
        whole / "checkpoint/weights.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.decoder_hidden=8", "tiny has another architecture"),
        ("tokenizer.kind=bpe", "retraining keeps the tokenizer"),
    ],
)
def test_retraining_with_another_network_or_tokenizer_is_refused(
    dragoman: Zygote, recipe: Path, checkpoint: Path, tmp_path: Path, setting: str, message: str
) -> None:
    texts = ("--source", recipe.parent / "train.en", "--target", recipe.parent / "train.de")
    run = tmp_path / "run"
    command = dragoman.run("retrain", checkpoint, *texts, "--run", run, "--set", setting)
    assert message in complaint(command, lines=None)


def test_retraining_a_checkpoint_without_its_training_config_is_refused(
    dragoman: Zygote, recipe: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    texts = ("--source", recipe.parent / "train.en", "--target", recipe.parent / "train.de")
    command = dragoman.run("retrain", tiny_checkpoint, *texts, "--run", tmp_path / "run")
    assert "holds no training config" in complaint(command)
