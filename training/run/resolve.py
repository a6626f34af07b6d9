"""Completes a config: fills in defaults for the corpus size and what is measured on this machine.

Small corpora need strong dropout and many epochs, large ones the opposite. The default size of the
vocabulary is chosen where the tokenizer is fitted (`training/data/fit_tokenizer.py`).
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from model.system.process import num_cores
from training.config import OptimizationConfig, ResolvedConfig, TrainingConfig
from training.data.prepared_corpus import PreparedCorpus
from training.loop.batch_budget import fit_batch_tokens
from training.loop.build_network import build_network
from training.loop.distributed import ALONE, World
from training.loop.trainer import Trainer, training_dtype


@dataclass(frozen=True)
class SizeDefaults:
    """Defaults for corpora of up to `pairs` sentence pairs."""

    pairs: float
    dropout: float
    batch_tokens: int
    max_epochs: int


BY_SIZE = (
    SizeDefaults(pairs=10_000, dropout=0.3, batch_tokens=600, max_epochs=60),
    SizeDefaults(pairs=60_000, dropout=0.25, batch_tokens=1_200, max_epochs=30),
    SizeDefaults(pairs=500_000, dropout=0.2, batch_tokens=3_000, max_epochs=25),
    SizeDefaults(pairs=5_000_000, dropout=0.1, batch_tokens=8_000, max_epochs=15),
    SizeDefaults(pairs=float("inf"), dropout=0.1, batch_tokens=8_000, max_epochs=5),
)


def resolve(
    asked: TrainingConfig,
    recorded: ResolvedConfig | None,
    corpus: PreparedCorpus,
    world: World = ALONE,
) -> ResolvedConfig:
    """Returns the config with a value for every setting.

    On resume, `recorded` is the config of the first start: what was measured then is kept.
    """
    threads = _threads(asked, recorded, world)
    torch.set_num_threads(threads)
    if recorded is not None:
        precision = recorded.optimization.precision
    else:
        precision = _precision(asked.optimization, world.device(asked.device))
    config = complete(asked, len(corpus.train), threads=threads, precision=precision)
    if asked.optimization.batch_tokens != "auto":
        return config
    if recorded is not None:
        batch_tokens = recorded.optimization.batch_tokens
    else:
        batch_tokens = _fit_batch_tokens(config, corpus, world)
    optimization = config.optimization.model_copy(update={"batch_tokens": batch_tokens})
    return config.model_copy(update={"optimization": optimization})


def complete(
    asked: TrainingConfig, num_pairs: int, *, threads: int, precision: Literal["fp32", "bf16"]
) -> ResolvedConfig:
    """Fills in the defaults for a corpus of this many training pairs.

    batch_tokens = "auto" gets the default as well, until it is measured.
    """
    defaults = next(row for row in BY_SIZE if num_pairs <= row.pairs)
    settings = asked.model_dump()
    if asked.optimization.batch_tokens == "auto":
        settings["optimization"]["batch_tokens"] = defaults.batch_tokens
    _set_unset(settings["optimization"], "batch_tokens", defaults.batch_tokens)
    _set_unset(settings["optimization"], "max_epochs", defaults.max_epochs)
    for name in ("embedding", "hidden", "readout"):
        _set_unset(settings["dropout"], name, defaults.dropout)
    settings["optimization"]["precision"] = precision
    settings["threads"] = threads
    return ResolvedConfig.model_validate(settings)


def _set_unset(section: dict[str, Any], name: str, value: float) -> None:
    if section[name] is None:
        section[name] = value


def _precision(config: OptimizationConfig, device: torch.device) -> Literal["fp32", "bf16"]:
    return "bf16" if training_dtype(config, device) == torch.bfloat16 else "fp32"


def _fit_batch_tokens(config: ResolvedConfig, corpus: PreparedCorpus, world: World) -> int:
    network = build_network(config, corpus.tokenizers, world.device(config.device))
    with tempfile.TemporaryDirectory(prefix="dragoman-trial-") as scratch:
        return fit_batch_tokens(Trainer(network, config, Path(scratch)), corpus.train)


def _threads(asked: TrainingConfig, recorded: ResolvedConfig | None, world: World) -> int:
    """Returns the CPU threads of each worker: the workers of one machine share its cores."""
    if asked.threads is not None:
        return asked.threads
    share = max(num_cores() // world.local_size, 1)
    if recorded is None:
        return share
    return recorded.threads if world.local_size == 1 else min(recorded.threads, share)
