"""Fixtures for all tests: one torch thread, a small checkpoint, a command, a limit at the end."""

import faulthandler
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from model.system.process import freeze_gc
from model.text.tokenizer import TokenizerPair
from tests.shapes import unchecked_shapes
from tests.tiny_checkpoint import fit_tiny_tokenizers, write_tiny_checkpoint
from tests.training.zygote import Zygote

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would every command
# that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)  # far faster on small tensors, and on machines that share their cores

_EXIT_S = 60.0  # from the last test to the end of the process


# Those that take longest. They begin first, so that no process works on one after all others end.
_SLOW_FILES = (
    "tests/training/loop/test_distributed.py",
    "tests/training/run/test_resume.py",
    "tests/training/run/test_pipeline.py",
    "tests/test_end_to_end.py",
    "tests/model/decoding/test_engine_process.py",
    "tests/service/api/test_hostile.py",
    "tests/model/decoding/test_exactness.py",
    "tests/service/http/test_model_swaps.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the tests of slow files first; `make test` keeps this order of files."""
    places = {file: place for place, file in enumerate(_SLOW_FILES)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(places)))


def pytest_unconfigure() -> None:
    """Reports threads that a test left running as a failure, instead of waiting without end."""
    faulthandler.dump_traceback_later(_EXIT_S, exit=True, file=2)  # standard error


def pytest_collection_finish() -> None:
    """Excludes all imported objects from garbage collection, which would never free them."""
    freeze_gc()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sets the number of threads back, which a command that ran in this process may change."""
    yield
    torch.set_num_threads(1)


@pytest.fixture
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio, as the service does."""
    return "asyncio"


@pytest.fixture
def quick() -> Iterator[None]:
    """Turns off shape checks, for tests around the network whose shapes other tests check."""
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


@pytest.fixture(scope="session")
def dragoman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """The command, ready to be started many times."""
    zygote = Zygote(tmp_path_factory.mktemp("said"))
    yield zygote
    zygote.close()
