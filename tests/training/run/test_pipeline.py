"""Tests `dragoman train` as a command: files, output and errors.

Interrupted and resumed runs are tested in test_resume.py.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.training.commands import complaint, options, wait_for_state
from tests.training.zygote import TIMEOUT_S, Zygote
from training.loop.journal import read_log
from training.loop.state import load_progress, load_weights_file


def test_a_run_leaves_config_log_states_and_curves(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()} - {"said.txt"}
    assert names == {
        ".lock",
        "config.json",
        "curves.png",
        "data",
        "log.jsonl",
        "states",
        "tensorboard",
    }
    assert (trained / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert sum(path.stat().st_size for path in (trained / "tensorboard").iterdir()) > 500
    assert not list(trained.rglob("*.tmp"))
    steps = [line["step"] for line in read_log(trained)]
    assert steps == sorted(steps)
    config = json.loads((trained / "config.json").read_bytes())
    assert config["asked"]["dropout"]["hidden"] is None
    assert config["resolved"]["dropout"]["hidden"] == 0.3
    assert config["resolved"]["optimization"]["precision"] == "fp32"


def test_output_of_a_run_to_a_pipe_is_plain_lines(trained: Path) -> None:
    said = (trained / "said.txt").read_text(encoding="utf-8")
    assert all(character.isprintable() or character == "\n" for character in said)
    lines = said.split("\n")
    assert lines[-2].startswith("next, export a checkpoint: dragoman export ")
    assert any(line.startswith("finished after 27 updates") for line in lines)
    assert (
        sum(" parameters: 1-layer bidirectional gru encoder of 16" in line for line in lines) == 1
    )


def test_the_installed_command_trains(recipe: Path, tmp_path: Path) -> None:
    """Runs the installed console command in a new interpreter."""
    script = Path(sys.executable).with_name("dragoman")
    start = (
        [str(script)]
        if script.is_file()
        else [sys.executable, "-c", "from service.cli import main; main()"]
    )
    answer = subprocess.run(
        [
            *start,
            "train",
            str(recipe),
            "--run",
            str(tmp_path / "run"),
            "--set",
            "optimization.max_steps=2",
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == ""
    assert "all 2 steps are done" in answer.stderr


def test_two_files_and_no_recipe_are_enough(dragoman: Zygote, recipe: Path, tmp_path: Path) -> None:
    """Trains without a recipe; dev and test are held out."""
    small = ["model.embedding_size=8", "model.encoder_hidden=8", "model.decoder_hidden=8"]
    settings = [*small, "model.attention_size=8", "optimization.max_steps=2", "threads=1"]
    command = dragoman.run(
        *("train", "--run", tmp_path / "run"),
        *("--source", recipe.parent / "train.en", "--target", recipe.parent / "train.de"),
        *("--source-language", "en", "--target-language", "de"),
        *options(settings),
    )
    assert command.status == 0, command.said
    assert "8 pairs held out" in command.said or "dev: 8 pairs" in command.said
    assert len(load_progress(tmp_path / "run/states/last.safetensors").best) == 1


def test_a_used_folder_is_refused(dragoman: Zygote, recipe: Path, trained: Path) -> None:
    before = (trained / "states" / "last.safetensors").read_bytes()
    text = complaint(dragoman.run("train", recipe, "--run", trained))
    assert f"{trained} already holds a run; add --resume" in text
    assert (trained / "states" / "last.safetensors").read_bytes() == before


def test_a_checkpoint_folder_is_refused_as_run(
    dragoman: Zygote, recipe: Path, checkpoint: Path
) -> None:
    for arguments in (["train", "--run", checkpoint, "--resume"], ["export", checkpoint, "x"]):
        assert f"{checkpoint} is no run folder" in complaint(dragoman.run(*arguments))


def test_two_runs_cannot_use_one_folder(dragoman: Zygote, recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = dragoman.start("train", recipe, "--run", run, "--set", "optimization.max_epochs=1000")
    wait_for_state(run, first)
    text = complaint(
        dragoman.run(
            "train", recipe, "--run", run, "--resume", *options(["optimization.max_epochs=1000"])
        )
    )
    assert text.startswith(f"run folder {run} is locked by another training process; ")
    assert first.running
    first.send(signal.SIGINT)
    assert first.wait() == 130


def test_a_dry_run_leaves_no_files(dragoman: Zygote, recipe: Path, tmp_path: Path) -> None:
    scratch = Path(tempfile.gettempdir())
    before = set(scratch.glob("dragoman-*")), sorted(recipe.parent.iterdir())
    command = dragoman.run("train", recipe, "--run", tmp_path / "run", "--dry-run")
    assert command.status == 0, command.said
    assert not list(tmp_path.iterdir())
    assert (set(scratch.glob("dragoman-*")), sorted(recipe.parent.iterdir())) == before
    lines = command.said.split("\n")
    for words in ("80    80", "35,136 parameters", "tokens/s on this machine", "memory: "):
        assert sum(words in line for line in lines) == 1, command.said


@pytest.mark.parametrize("limit", [500, 5_000, 50_000, 230_000])
def test_a_full_disk_gives_a_one_line_error(
    limit: int, dragoman: Zygote, recipe: Path, tmp_path: Path
) -> None:
    """Tries limits at which the corpus, the tokenizer, the log or a run state does not fit."""
    command = dragoman.run("train", recipe, "--run", tmp_path / "run", max_file_bytes=limit)
    text = complaint(command, lines=None)
    assert "File too large" in text
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("limit", [1_000, 200_000])
def test_a_full_disk_keeps_the_previous_state(
    limit: int, dragoman: Zygote, trained: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    before = {path: path.read_bytes() for path in (run / "states").iterdir()}
    command = dragoman.run("train", "--run", run, "--resume", max_file_bytes=limit)
    assert "File too large" in complaint(command, lines=None)
    assert {path: path.read_bytes() for path in (run / "states").iterdir()} == before
    assert dragoman.run("train", "--run", run, "--resume").status == 0


def test_a_full_disk_leaves_no_incomplete_checkpoint(
    dragoman: Zygote, trained: Path, tmp_path: Path
) -> None:
    command = dragoman.run("export", trained, tmp_path / "tiny", max_file_bytes=50_000)
    assert "File too large" in complaint(command, lines=None)
    assert not list(tmp_path.iterdir())


def test_a_run_that_cannot_be_written_gives_a_one_line_error(
    dragoman: Zygote, recipe: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    text = complaint(dragoman.run("train", recipe, "--run", tmp_path / "file" / "run"))
    assert "Not a directory" in text
    assert str(tmp_path / "file") in text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_with_other_files_gives_a_one_line_error(
    dragoman: Zygote, recipe: Path, tmp_path: Path
) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    text = complaint(dragoman.run("train", recipe, "--run", tmp_path / "closed" / "run"))
    assert "Permission denied" in text


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        (b"", b"", "the training corpus is empty"),
        (b"one\ntwo\n", b"eins\n", "2 lines"),
        ("für\n".encode("latin-1") * 50, b"eins\n" * 50, "line 1"),
        (b"\n" * 50, b"eins\n" * 50, "rule empty removed 50, the most"),
        (b"same %d\n" * 50, b"same %d\n" * 50, "drop_identical = false"),
        (b"one\n", b"eins\n", "too few to hold out a dev split"),
    ],
)
def test_an_unusable_corpus_gives_a_one_line_error(
    source: bytes, target: bytes, said: str, dragoman: Zygote, tmp_path: Path
) -> None:
    (tmp_path / "a.en").write_bytes(source)
    (tmp_path / "a.de").write_bytes(target)
    command = dragoman.run(
        *("train", "--run", tmp_path / "run", "--source", tmp_path / "a.en"),
        *("--target", tmp_path / "a.de", "--source-language", "en", "--target-language", "de"),
    )
    text = complaint(command)
    assert said in text
    assert "a.en" in text or "a.de" in text or "pairs" in text
    assert not (tmp_path / "run").exists()  # so it can be started again as it was


def test_a_missing_corpus_is_named_in_the_error(
    dragoman: Zygote, recipe: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "recipe.toml"
    shutil.copy(recipe, copy)  # a recipe for another corpus: no train.en beside it
    text = complaint(dragoman.run("train", copy, "--run", tmp_path / "run"))
    assert str(tmp_path / "train.en") in text


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("optimization.learnin_rate=1", "unknown setting"),
        ("seed=many", "seed: "),
        ("device=gpu", "device 'gpu' is"),
        ("device=cuda:99", "torch sees"),
    ],
)
def test_a_wrong_setting_is_reported_before_the_corpus_is_read(
    setting: str, said: str, dragoman: Zygote, recipe: Path, tmp_path: Path
) -> None:
    for extra in (["--run", tmp_path / "run"], ["--dry-run"]):
        command = dragoman.run("train", recipe, *extra, "--set", setting)
        assert said in complaint(command)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("every_steps", [1, 1000])
def test_divergence_gives_a_one_line_error_and_keeps_the_last_good_state(
    every_steps: int, dragoman: Zygote, recipe: Path, tmp_path: Path
) -> None:
    settings = [
        "optimization.learning_rate=1e30",
        "optimization.warmup_steps=0",
        f"validation.every_steps={every_steps}",
    ]
    command = dragoman.run("train", recipe, "--run", tmp_path / "run", *options(settings))
    text = complaint(command, lines=None)
    assert "the loss is not a number" in text
    assert "optimization.learning_rate (now 1e+30)" in text
    weights = load_weights_file(tmp_path / "run" / "states" / "last.safetensors")
    assert all(weight.isfinite().all() for weight in weights.values())


def test_the_learning_rate_may_be_lowered_after_divergence(
    dragoman: Zygote, recipe: Path, trained: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    settings = ["validation.metric=loss", "optimization.max_epochs=5"]
    changed = ["optimization.learning_rate=1e-4", "optimization.clip_norm=0.1"]
    command = dragoman.run("train", recipe, "--run", run, "--resume", *options(settings + changed))
    assert command.status == 0, command.said
    rates = [line["learning_rate"] for line in read_log(run) if line["kind"] == "training"]
    assert rates[-1] < 1e-4 < rates[0]
