"""Fixtures: a checkpoint to change, and separate tokenizers for source and target."""

import shutil
from pathlib import Path

import pytest

from model.text.tokenizer import TokenizerPair
from tests.tiny_checkpoint import fit_tiny_tokenizers


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint to damage or replace."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "models" / "tiny"))


@pytest.fixture(scope="session")
def separate_tokenizers(tmp_path_factory: pytest.TempPathFactory) -> TokenizerPair:
    return fit_tiny_tokenizers(tmp_path_factory.mktemp("separate"), joint=False)
