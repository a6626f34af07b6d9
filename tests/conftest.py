"""What every test shares: one torch thread, and a small checkpoint made once."""

import gc
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from model.tokenizer import TokenizerPair
from tests.shapes import unchecked_shapes
from tests.tiny_checkpoint import fit_tiny_tokenizers, write_tiny_checkpoint

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would every command
# that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)  # far faster on small tensors, and on machines that share their cores


def pytest_collection_finish() -> None:
    """Takes all that was imported out of the garbage collector's sight: it stays anyway."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def quick() -> Iterator[None]:
    """For tests of what happens around the network, by steps whose shapes others check."""
    with unchecked_shapes():
        yield


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder (en to de) with an untrained network. Do not change it; copy it."""
    return write_tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_tokenizers(tmp_path_factory: pytest.TempPathFactory) -> TokenizerPair:
    """A joint tokenizer of 320 pieces."""
    return fit_tiny_tokenizers(tmp_path_factory.mktemp("tokenizers"))
