"""A task that a tiny network learns in seconds (reversing digits), and a run that trains it."""

import io
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from model.config import ModelConfig
from model.network.batch import SourceBatch
from model.network.seq2seq import Seq2Seq
from training.config import ResolvedConfig
from training.data.token_store import TokenStore, write_token_store
from training.loop.journal import Journal
from training.loop.loop import train_loop
from training.loop.state import load_weights_file
from training.loop.trainer import Trainer
from training.loop.validation import DevScores

FIRST_DIGIT, VOCAB = 4, 14
DATA = {
    "source_language": "en",
    "target_language": "de",
    "train": [{"source": "a", "target": "b"}],
}


def config(**sections: Any) -> ResolvedConfig:
    optimization = {
        "learning_rate": 0.02,
        "warmup_steps": 5,
        "schedule": "constant",
        "batch_tokens": 200,
        "max_epochs": 2,
        "label_smoothing": 0.0,
        "precision": "fp32",
        **sections.pop("optimization", {}),
    }
    return ResolvedConfig.model_validate(
        {
            "data": DATA,
            "dropout": {"embedding": 0, "hidden": 0, "readout": 0},
            "optimization": optimization,
            "threads": 1,
            **sections,
        }
    )


def network(seed: int = 0, **choices: Any) -> Seq2Seq:
    torch.manual_seed(seed)
    small: dict[str, Any] = {
        "source_vocab_size": VOCAB,
        "target_vocab_size": VOCAB,
        "embedding_size": 16,
        "encoder_hidden": 16,
        "decoder_hidden": 32,
        "attention_size": 16,
    }
    rates = choices.pop("rates", None)
    return Seq2Seq(ModelConfig(**{**small, **choices}), rates)


def digits(count: int, seed: int) -> list[list[int]]:
    random = np.random.default_rng(seed)
    lengths = random.integers(2, 6, count)
    return [random.integers(FIRST_DIGIT, VOCAB, length).tolist() for length in lengths]


def write_reversals(folder: Path) -> TokenStore:
    """Writes a store with strings of two to five digits and the reversed strings."""
    with write_token_store(
        folder, source_vocab_size=VOCAB, target_vocab_size=VOCAB, weights=[1.0]
    ) as writer:
        for string in digits(600, seed=0):
            writer.append(string, string[::-1], 0)
    return TokenStore.open(folder)


class Run:
    """A trainer with a run folder, captured output, and dev scores chosen by the test."""

    def __init__(
        self, folder: Path, settings: ResolvedConfig, seed: int = 0, **choices: Any
    ) -> None:
        self.folder = folder
        (folder / "states").mkdir(exist_ok=True)
        self.trainer = Trainer(network(seed, **choices), settings, folder / "states")
        self.said = io.StringIO()
        self.stop = threading.Event()
        self.steps_validated: list[int] = []
        self.scores: Callable[[int], float] = float  # dev BLEU after how many updates

    def validate(self) -> DevScores:
        step = self.trainer.progress.step
        self.steps_validated.append(step)
        return DevScores(nll=1.0, bleu=self.scores(step), chrf=0.0, seconds=0.0, example="")

    def train(self, store: TokenStore) -> None:
        console = Console(file=self.said, width=1000)
        with Journal(
            self.folder,
            total_steps=100,
            resumed_step=self.trainer.progress.step,
            console=console,
        ) as journal:
            train_loop(
                self.trainer,
                store,
                journal=journal,
                validate=self.validate,
                stop=self.stop,
                total_steps=100,
            )

    def saved(self, file: str) -> list[Tensor]:
        found = load_weights_file(self.folder / "states" / file)
        return [found[name] for name, _ in self.trainer.network.named_parameters()]

    def kept(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "states").glob("best-*"))

    def weights(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.trainer.network.parameters()]

    def weights_and_moments(self) -> list[Tensor]:
        state = self.trainer.optimizer.state
        moments = [value for p in self.trainer.network.parameters() for value in state[p].values()]
        return self.weights() + [moment.clone() for moment in moments]


@contextmanager
def poisoned(trainer: Trainer, steps: Callable[[int], bool]) -> Iterator[None]:
    """Makes the gradient of some updates NaN, like an exploding gradient."""
    original = trainer.network.readouts

    def readouts(source: SourceBatch, target_input: Tensor) -> Tensor:
        found = original(source, target_input)
        return found * math.nan if steps(trainer.progress.step + 1) else found

    trainer.network.readouts = readouts  # type: ignore[method-assign]
    yield
    trainer.network.readouts = original  # type: ignore[method-assign]


def equal(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))
