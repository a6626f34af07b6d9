"""docs/training.md and docs/tutorial.md: their tables, recipes and settings are right.

tests/test_documents.py checks the links and commands of all pages.
"""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from pydantic import BaseModel

from tests.training.recipe_reference import COMMAND, recipe_reference, with_reference
from tests.training.zygote import Zygote
from training.config import TrainingConfig
from training.data.fit_tokenizer import default_vocab_size
from training.recipe_file import load_config
from training.run.resolve import BY_SIZE

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {name: (DOCS / name).read_text(encoding="utf-8") for name in ("training.md", "tutorial.md")}


def blocks(page: str, language: str) -> list[str]:
    """Returns the code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[list[str]]:
    """Returns the arguments of every `dragoman` command in the shell blocks of a page."""
    lines = "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines if "dragoman " in line]
    return [line[line.index("dragoman") + 1 :] for line in words]


def test_the_reference_is_generated_from_the_fields() -> None:
    page = PAGES["training.md"]
    assert with_reference(page) == page, f"run: {COMMAND}"
    rows = [line for line in recipe_reference().splitlines() if line.startswith("|")]
    assert all(row.count("|") == 5 for row in rows)  # no bar inside a description


def test_the_table_of_sizes_shows_the_defaults() -> None:
    rows = re.findall(
        r"^\| (?:up to )?([\d,]+|more) \| .*?([\d,]+) \| ([\d.]+) \| ([\d,]+) \| (\d+) \|$",
        PAGES["training.md"],
        re.MULTILINE,
    )
    numbers = [[float(cell.replace(",", "")) for cell in row[1:]] for row in rows]
    expected = []
    for row in BY_SIZE:
        pieces = default_vocab_size(int(min(row.pairs, 1e9)) - 1)
        expected.append([pieces, row.dropout, row.batch_tokens, row.max_epochs])
    assert numbers == expected


@pytest.mark.parametrize("page", PAGES)
def test_every_recipe_in_the_docs_is_valid(page: str, tmp_path: Path) -> None:
    recipes = blocks(page, "toml")
    assert recipes
    for text in recipes:
        (tmp_path / "recipe.toml").write_text(text, encoding="utf-8")
        load_config(tmp_path / "recipe.toml")


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_the_docs_name_exists(page: str) -> None:
    named = re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)(?: = [^`]+)?`", PAGES[page])
    named += re.findall(r"--set ([a-z_]+(?:\.[a-z_]+)+)=", PAGES[page])
    sections = {name for name in TrainingConfig.model_fields if name != "seed"}
    settings = [key for key in named if key.partition(".")[0] in sections]
    assert settings
    for key in settings:
        section: object = TrainingConfig
        for step in key.split("."):
            assert isinstance(section, type), key
            assert issubclass(section, BaseModel), key
            assert step in section.model_fields, key
            section = section.model_fields[step].annotation


def test_the_tutorial_can_be_followed(dragoman: Zygote, recipe: Path, tmp_path: Path) -> None:
    """Runs the commands of the tutorial up to evaluation, on a corpus of 80 pairs."""
    for name, copy in (("train", "my"), ("test", "demo/corpus/test")):
        for side in ("en", "de"):
            (tmp_path / copy).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(recipe.parent / f"{name}.{side}", tmp_path / f"{copy}.{side}")
    (tmp_path / "mine.toml").write_text(blocks("tutorial.md", "toml")[0], encoding="utf-8")
    quick = [
        *("tokenizer.vocab_size=400", "model.encoder_hidden=16", "model.decoder_hidden=32"),
        *("optimization.max_steps=2", "optimization.precision=fp32", "threads=1"),
    ]
    ran = []
    for name, *arguments in commands("tutorial.md"):
        if name == "serve":
            break
        if name not in ("train", "export", "evaluate") or "--dry-run" in arguments:
            continue
        words = [
            str(tmp_path / word)
            if word.startswith(("mine.toml", "runs/", "models/", "demo/"))
            else word
            for word in arguments
        ]
        overrides = [word for setting in quick for word in ("--set", setting)]
        command = dragoman.run(name, *words, *(overrides if name == "train" else []))
        assert command.status == 0, command.said
        ran.append(name)
    assert ran == ["train", "export", "evaluate"]
    assert (tmp_path / "models" / "mine" / "README.md").is_file()
