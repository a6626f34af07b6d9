"""Tests that the training commands pass their options on, and name wrong ones."""

from pathlib import Path
from typing import Any

import pytest

from service import cli
from training.config import TrainingConfig
from training.release import export, retrain
from training.run import pipeline


class Calls(list[tuple[tuple[Any, ...], dict[str, Any]]]):
    """Replaces a function and records the arguments of its calls."""

    def __call__(self, *arguments: Any, **named: Any) -> None:
        self.append((arguments, named))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls = Calls()
    monkeypatch.setattr(pipeline, "train", calls)
    return calls


def test_two_files_and_two_languages_are_a_config(trained: Calls, tmp_path: Path) -> None:
    source, target = tmp_path / "a.en", tmp_path / "a.de"
    files = ["--source", str(source), "--target", str(target)]
    languages = ["--source-language", "en", "--target-language", "de-AT"]
    changes = ["--set", "model.cell=lstm", "--set", "optimization.max_epochs=3"]
    assert cli.run(["train", *files, *languages, *changes, "--run", str(tmp_path / "run")]) == 0
    (((config, run), named),) = trained
    assert isinstance(config, TrainingConfig)
    assert config.data.train[0].source == source.resolve()
    assert config.data.train[0].target == target.resolve()
    assert (config.data.source_language, config.data.target_language) == ("en", "de-AT")
    assert config.model.cell == "lstm"
    assert config.optimization.max_epochs == 3
    assert run == tmp_path / "run"
    assert named["resume"] is False


def test_relative_paths_of_a_recipe_start_at_the_data_folder(
    trained: Calls, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        '[data]\nsource_language = "en"\ntarget_language = "de"\n'
        '[[data.train]]\nsource = "a.en"\ntarget = "a.de"\n',
        encoding="utf-8",
    )
    run = ["--run", str(tmp_path / "run")]
    assert cli.run(["train", str(recipe), *run, "--data", str(tmp_path / "there")]) == 0
    assert cli.run(["train", str(recipe), *run, "--resume"]) == 0
    ((there, _), _), ((here, _), resumed) = trained
    assert there.data.train[0].source == (tmp_path / "there" / "a.en").resolve()
    assert here.data.train[0].source == (tmp_path / "a.en").resolve()
    assert resumed["resume"] is True


def test_resuming_needs_only_the_run(trained: Calls, tmp_path: Path) -> None:
    assert cli.run(["train", "--run", str(tmp_path), "--resume"]) == 0
    (((config, run), named),) = trained
    assert config is None
    assert run == tmp_path
    assert named["resume"] is True


def test_a_stopped_run_prints_the_command_to_continue(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def stop(*arguments: Any, **named: Any) -> None:
        raise pipeline.RunInterrupted

    monkeypatch.setattr(pipeline, "train", stop)
    assert cli.run(["train", "--run", str(tmp_path), "--resume"]) == 130
    assert f"dragoman train --run {tmp_path} --resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("model.sell=lstm", "model.sell: unknown setting"),
        ("model.cell=lstn", "model.cell"),
        ("seed=many", "seed"),
        ("nonsense", "--set takes key=value"),
    ],
)
def test_bad_settings_give_a_one_line_error(
    change: str, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    files = ["--source", "a", "--target", "b", "--source-language", "en", "--target-language", "de"]
    assert cli.run(["train", *files, "--set", change, "--run", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error


def test_export_and_retrain_pass_all_options_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    exported, retrained = Calls(), Calls()
    monkeypatch.setattr(export, "export", exported)
    monkeypatch.setattr(retrain, "retrain", retrained)
    assert cli.run(["export", "run", "checkpoint", "--which", "average"]) == 0
    assert cli.run(["export", "run", "checkpoint", "--no-shortlist"]) == 0
    paths = (Path("run"), Path("checkpoint"))
    assert exported == [
        (paths, {"which": "average", "with_shortlist": True}),
        (paths, {"which": "best", "with_shortlist": False}),
    ]
    files = ["--source", "a", "--target", "b"]
    assert cli.run(["retrain", "old", *files, "--run", "r", "--set", "seed=2"]) == 0
    expected = (Path("old"), Path("a"), Path("b"), Path("r"))
    assert retrained == [(expected, {"overrides": ["seed=2"], "resume": False})]
    assert cli.run(["export", "run", "checkpoint", "--which", "worst"]) == 2
