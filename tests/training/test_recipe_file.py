"""Tests that recipes are read and checked, and that errors name the wrong key in one line."""

from pathlib import Path
from typing import Any

import pytest

from model.errors import ConfigError
from training.config import TrainingConfig
from training.recipe_file import load_config

RECIPES = sorted((Path(__file__).parents[2] / "training" / "recipes").glob("*.toml"))
DATA = """
[data]
source_language = "en"
target_language = "de"
[[data.train]]
source = "a.en"
target = "a.de"
"""
INLINE: dict[str, Any] = {
    "data": {
        "source_language": "en",
        "target_language": "de",
        "train": [{"source": "a.en", "target": "a.de"}],
    }
}


def recipe(folder: Path, text: str = "") -> Path:
    path = folder / "recipe.toml"
    path.write_text(DATA + text, encoding="utf-8")
    return path


def refusal(path: Path | None, *overrides: str, **more: Any) -> str:
    """Returns the one-line error of load_config."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides=list(overrides), **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_valid(path: Path, tmp_path: Path) -> None:
    config = load_config(path, data=tmp_path)
    assert all(file.is_relative_to(tmp_path) for file in config.data.train[0].files())
    assert config.data.description
    assert config.data.licence


def test_there_are_recipes() -> None:
    assert "demo" in [path.stem for path in RECIPES]


def test_missing_settings_have_defaults(tmp_path: Path) -> None:
    config = load_config(recipe(tmp_path))
    assert config.model.cell == "gru"
    assert config.optimization.batch_tokens is None
    assert config.seed == 1


def test_overrides_replace_and_add_settings(tmp_path: Path) -> None:
    config = load_config(
        recipe(tmp_path, '[model]\ncell = "rnn"\n'),
        overrides=[
            "model.cell=lstm",  # a bare word
            'model.attention="dot"',  # a TOML string
            "model.decoder_hidden=512",
            "optimization.learning_rate=5e-4",
            "data.cleaning.drop_identical=false",
            "device=cuda:1",
            " seed = 7 ",
        ],
    )
    assert (config.model.cell, config.model.attention) == ("lstm", "dot")
    assert config.model.decoder_hidden == 512
    assert config.optimization.learning_rate == 5e-4
    assert config.data.cleaning.drop_identical is False
    assert config.device == "cuda:1"
    assert config.seed == 7


@pytest.mark.parametrize("override", ["seed", "=3", "model.=3", ".cell=lstm", ""])
def test_a_malformed_override_is_refused(override: str, tmp_path: Path) -> None:
    assert "--set takes key=value" in refusal(recipe(tmp_path), override)


@pytest.mark.parametrize("override", ["seed.x=1", "data.train.0.weight=2"])
def test_an_override_inside_a_single_setting_is_refused(override: str, tmp_path: Path) -> None:
    text = refusal(recipe(tmp_path, ""), "seed=1", override)
    assert "is one setting, not a table of settings" in text
    assert override.partition("=")[0] in text


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optimization.learnin_rate=1", "optimization.learnin_rate: unknown setting"),
        ("modle.cell=gru", "modle: unknown setting"),
        ("model.cell=elman", "model.cell"),
        ("model.encoder_hidden=many", "(got 'many')"),
        ("model.encoder_hidden=0", "(got 0)"),
        ("optimization.learning_rate=nan", "optimization.learning_rate"),
        ("optimization.learning_rate=inf", "optimization.learning_rate"),
        ("optimization.ema_decay=1.0", "optimization.ema_decay"),
        ("dropout.hidden=1", "dropout.hidden"),
        ("data.source_language=English!", "data.source_language"),
        ("data.train=[]", "data.train"),
        ("data.train=corpus.txt", "data.train"),
        ("save_every_minutes=0", "save_every_minutes"),
        ("seed=-1", "seed"),
        ("seed=1000000000000000000000", "seed"),
        ("validation.metric=ter", "validation.metric"),
        ("tokenizer.vocab_size=10", "tokenizer.vocab_size"),
    ],
)
def test_a_wrong_setting_is_named_in_the_error(override: str, said: str, tmp_path: Path) -> None:
    path = recipe(tmp_path)
    text = refusal(path, override)
    assert said in text
    assert str(path) in text


def test_all_invalid_settings_are_in_one_error(tmp_path: Path) -> None:
    text = refusal(recipe(tmp_path), "seed=x", "model.cell=y", "colour=z")
    assert all(key in text for key in ("seed:", "model.cell:", "colour:"))


@pytest.mark.parametrize(
    "corpus",
    [
        'source = "a.en"',
        'target = "a.de"',
        'path = "a.tsv"\nsource = "a.en"',
        'path = "a.tsv"\nsource = "a.en"\ntarget = "a.de"',
        "weight = 2.0",
    ],
)
def test_a_corpus_has_two_files_or_one_path(corpus: str, tmp_path: Path) -> None:
    text = refusal(recipe(tmp_path, f"[[data.train]]\n{corpus}\n"))
    assert "data.train.1: a corpus needs either source and target, or path" in text


def test_incompatible_settings_are_refused(tmp_path: Path) -> None:
    text = refusal(recipe(tmp_path), "model.tied_embeddings=all", "tokenizer.joint=false")
    assert "tokenizer.joint" in text
    assert "reverse_source" in refusal(recipe(tmp_path), "model.reverse_source=true")


def test_a_missing_recipe_is_named_in_the_error(tmp_path: Path) -> None:
    assert f"recipe {tmp_path / 'r.toml'} does not exist" in refusal(tmp_path / "r.toml")


def test_a_folder_as_recipe_is_refused(tmp_path: Path) -> None:
    assert f"{tmp_path} is a folder" in refusal(tmp_path)


def test_a_recipe_in_latin_1_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes((DATA + 'description = "für"').encode("latin-1"))
    assert f"{path} is not UTF-8" in refusal(path)


def test_a_byte_order_mark_in_a_recipe_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(b"\xef\xbb\xbf" + DATA.encode())
    assert load_config(path).data.source_language == "en"


def test_broken_toml_is_refused_with_its_line(tmp_path: Path) -> None:
    path = recipe(tmp_path, "[model\n")
    text = refusal(path)
    assert f"{path} is not valid TOML" in text
    assert "line 8" in text


def test_an_empty_recipe_is_refused_for_missing_data(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").touch()
    assert "data: required, but missing" in refusal(tmp_path / "recipe.toml")


def test_relative_paths_start_at_the_recipe(tmp_path: Path) -> None:
    config = load_config(recipe(tmp_path, '[data.dev]\npath = "../dev.tsv"\n'))
    assert config.data.train[0].source == tmp_path / "a.en"
    assert config.data.dev is not None
    assert config.data.dev.path == tmp_path.parent / "dev.tsv"


def test_relative_paths_start_at_the_data_folder_if_one_is_given(tmp_path: Path) -> None:
    config = load_config(recipe(tmp_path), data=tmp_path / "corpora")
    assert config.data.train[0].files() == (
        tmp_path / "corpora" / "a.en",
        tmp_path / "corpora" / "a.de",
    )


def test_absolute_paths_are_kept(tmp_path: Path) -> None:
    config = load_config(
        recipe(tmp_path, f'[data.test]\npath = "{tmp_path}/t.tsv"\n'), data=Path("x")
    )
    assert config.data.test is not None
    assert config.data.test.path == tmp_path / "t.tsv"


def test_without_a_recipe_paths_start_at_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(None, inline=INLINE)
    assert config.data.train[0].source == tmp_path / "a.en"


def test_inline_tables_complete_a_recipe(tmp_path: Path) -> None:
    config = load_config(
        recipe(tmp_path),
        inline={"data": {"target_language": "nl"}, "seed": 3},
        overrides=["seed=4"],
    )
    assert (config.data.source_language, config.data.target_language) == ("en", "nl")
    assert config.seed == 4


def test_a_config_survives_a_round_trip_through_json(tmp_path: Path) -> None:
    config = load_config(recipe(tmp_path))
    assert TrainingConfig.model_validate(config.model_dump(mode="json")) == config
