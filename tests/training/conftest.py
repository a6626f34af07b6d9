"""Fixtures for tests of training: small corpora and a recipe."""

from pathlib import Path

import pytest

from model.text.tokenizer import TokenizerPair
from tests.training.corpora import Maker, fit_letters
from tests.training.loop.reversing import write_reversals
from tests.training.zygote import Zygote
from training.data.token_store import TokenStore
from training.demo.corpus import read_corpus

RECIPE = """
save_every_minutes = 1e-9 # after every update
threads = 1

[data]
source_language = "en"
target_language = "de"
[[data.train]]
source = "train.en"
target = "train.de"
[data.dev]
source = "dev.en"
target = "dev.de"
[data.test]
source = "test.en"
target = "test.de"

[tokenizer]
vocab_size = 400

[model]
cell = "gru"
embedding_size = 16
encoder_hidden = 16
decoder_hidden = 32
attention_size = 16

[optimization]
batch_tokens = 400
learning_rate = 5e-3
warmup_steps = 10
max_epochs = 3
ema_decay = 0.9
precision = "fp32"

[validation]
every_steps = 10
keep_best = 2
"""


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe next to its corpus: 80 pairs, about ten updates per epoch. Do not change it."""
    folder = tmp_path_factory.mktemp("corpus")
    corpus = read_corpus()
    splits = {"train": corpus.train[:80], "dev": corpus.dev[:4], "test": corpus.test[:4]}
    for split, pairs in splits.items():
        for side, language in enumerate(("en", "de")):
            text = "".join(f"{pair[side]}\n" for pair in pairs)
            (folder / f"{split}.{language}").write_text(text, encoding="utf-8", newline="\n")
    path = folder / "recipe.toml"
    path.write_text(RECIPE, encoding="utf-8", newline="\n")
    return path


@pytest.fixture(scope="session")
def trained(dragoman: Zygote, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run. Do not change it; copy it."""
    run = tmp_path_factory.mktemp("trained") / "run"
    command = dragoman.run("train", recipe, "--run", run, "--set", "validation.metric=loss")
    assert command.status == 0, command.said
    (run / "said.txt").write_text(command.said, encoding="utf-8")
    return run


@pytest.fixture(scope="session")
def checkpoint(dragoman: Zygote, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of the finished run. Do not change it; copy it."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    command = dragoman.run("export", trained, folder)
    assert command.status == 0, command.said
    return folder


@pytest.fixture(scope="module")  # another test counts open stores
def reversals(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    """A store with strings of digits and the reversed strings."""
    return write_reversals(tmp_path_factory.mktemp("stores") / "reversed")


@pytest.fixture(scope="session")
def letters(tmp_path_factory: pytest.TempPathFactory) -> TokenizerPair:
    return fit_letters(tmp_path_factory.mktemp("letters"))


@pytest.fixture
def maker(tmp_path: Path, letters: TokenizerPair) -> Maker:
    """Makes corpora in the folder of a test."""
    return Maker(tmp_path, letters)
