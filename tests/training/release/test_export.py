"""Tests `dragoman export` as a command: states, scores, model card and errors."""

import shutil
import signal
from pathlib import Path

import torch

from model.checkpoint import load_checkpoint
from model.translator import Translator
from tests.training.commands import complaint, options, wait_for_state
from tests.training.zygote import Zygote
from training.loop.state import load_progress, load_weights_file


def test_only_the_last_state_can_be_exported_before_a_validation(
    dragoman: Zygote, recipe: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = dragoman.start("train", recipe, "--run", run, "--set", "validation.every_steps=1000")
    wait_for_state(run, command)
    command.send(signal.SIGTERM)
    assert command.wait() == 130
    text = complaint(dragoman.run("export", run, tmp_path / "tiny"))
    assert "has no validated state yet" in text
    assert not (tmp_path / "tiny").exists()
    command = dragoman.run("export", run, tmp_path / "tiny", "--which", "last")
    assert command.status == 0, command.said
    assert load_checkpoint(tmp_path / "tiny").metrics["training"]["finished"] == "not finished"


def test_exporting_a_folder_that_is_no_run_is_refused(
    dragoman: Zygote, trained: Path, tmp_path: Path
) -> None:
    assert "is no run folder" in complaint(dragoman.run("export", tmp_path, tmp_path / "tiny"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").touch()
    text = complaint(dragoman.run("export", trained, tmp_path / "mine"), lines=None)
    assert "exists and is no checkpoint" in text


def test_every_exported_state_has_the_right_weights(
    dragoman: Zygote, trained: Path, checkpoint: Path, tmp_path: Path
) -> None:
    states = trained / "states"
    progress = load_progress(states / "last.safetensors")
    assert len(progress.best) == 2
    best = [load_weights_file(states / kept.file) for kept in progress.best]
    expected = {
        "best": best[0],
        "average": {name: (best[0][name] + best[1][name]) / 2 for name in best[0]},
        "last": load_weights_file(states / "last.safetensors"),
    }
    for which, weights in expected.items():
        folder = tmp_path / which
        assert dragoman.run("export", trained, folder, "--which", which).status == 0
        loaded = load_checkpoint(folder)
        for name, parameter in loaded.network.named_parameters():
            torch.testing.assert_close(parameter, weights[name], rtol=0, atol=1e-7)
        assert loaded.metrics["training"]["state"] == which
        for split in ("dev", "test"):
            assert loaded.metrics[split]["bleu"]["signature"].startswith("nrefs:1|")
    assert Translator.load(tmp_path / "best").translate(["Where is the station?"])
    # Without --which, the best one; and again, in the place of the old one.
    again = dragoman.run("export", trained, tmp_path / "last")
    assert again.status == 0
    for folder in (tmp_path / "last", checkpoint):
        assert (folder / "weights.safetensors").read_bytes() == (
            tmp_path / "best" / "weights.safetensors"
        ).read_bytes()
    assert "scoring" not in again.said  # its scores are known


def test_the_model_card_describes_the_run(checkpoint: Path) -> None:
    card = (checkpoint / "README.md").read_text(encoding="utf-8")
    assert "en → de" in card
    assert "27 updates" in card
    assert "all 3 epochs are done" in card
    assert "80 pairs read, 80 trained on" in card
    assert str(checkpoint.parent) not in card


def test_the_last_state_is_scored_again_after_more_training(
    dragoman: Zygote, recipe: Path, trained: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run, ignore=shutil.ignore_patterns("scores.json"))
    command = dragoman.run("export", run, tmp_path / "tiny", "--which", "last")
    assert "scoring" in command.said
    settings = ["validation.metric=loss", "optimization.max_epochs=4"]
    assert dragoman.run("train", recipe, "--run", run, "--resume", *options(settings)).status == 0
    command = dragoman.run("export", run, tmp_path / "tiny", "--which", "last")
    assert "scoring" in command.said
