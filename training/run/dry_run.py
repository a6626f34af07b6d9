"""`dragoman train --dry-run`: forecasts time and memory of a run without starting it."""

import io
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from model.errors import ConfigError
from model.inference.precision import resolve_device
from training.config import TrainingConfig
from training.data.prepared_corpus import PreparedCorpus
from training.data.token_store import TokenStore
from training.loop.batching import read_batch
from training.loop.build_network import build_network, describe
from training.loop.distributed import this_worker
from training.loop.journal import Journal
from training.loop.memory import bound_memory
from training.loop.read_ahead import batches_of
from training.loop.trainer import Trainer
from training.run.curves import draw_curves
from training.run.pipeline import build_validator, peak_line, prepare_for_run
from training.run.resolve import resolve

TRIAL_UPDATES = 8  # measured for speed and memory
_LARGEST_BATCHES = 3  # of an epoch; memory is measured with these as well
_DEV_SENTENCES = 200  # the longest; an untrained network translates until it is stopped


def dry_run(asked: TrainingConfig, console: Console | None = None) -> None:
    """Prepares the corpus, makes a few updates, prints time and memory; leaves no files behind."""
    if this_worker().size > 1:
        raise ConfigError("--dry-run measures a single worker; start it without torchrun")
    bound_memory()
    console = console or Console(stderr=True)
    resolve_device(asked.device)
    with tempfile.TemporaryDirectory(prefix="dragoman-dry-run-") as scratch:
        corpus = prepare_for_run(asked, Path(scratch) / "data", console, None)
        config = resolve(asked, None, corpus)
        network = build_network(config, corpus.tokenizers)
        trainer = Trainer(network, config, Path(scratch))
        console.print(describe(network), markup=False, highlight=False, soft_wrap=True)
        batches = batches_of(config, corpus.train, epoch=0)
        trial = batches[: TRIAL_UPDATES + 2]
        tokens, seconds = 0, 0.0
        for number, pairs in enumerate(trial):
            batch = read_batch(corpus.train, pairs)
            start = time.monotonic()
            trainer.update([batch])
            if number >= min(2, len(trial) - 1):  # the first updates warm up
                seconds += time.monotonic() - start
                tokens += batch.num_target_tokens
        _reach_peak(trainer, corpus, batches)
        speed = tokens / max(seconds, 1e-3)
        epoch_tokens = int((corpus.train.target_lengths + 1).sum(dtype=int))
        minutes = epoch_tokens / speed / 60
        console.print(
            f"{len(batches):,} batches of {config.optimization.batch_tokens:,} tokens with padding "
            f"and {epoch_tokens:,} target tokens an epoch; about "
            f"{speed:,.0f} tokens/s on this machine: {minutes:.1f} min an epoch, at most "
            f"{minutes * config.optimization.max_epochs:.0f} min for "
            f"{config.optimization.max_epochs} epochs (validation aside; it often stops earlier)\n"
            f"{peak_line(trainer.device)} of {len(trial)} trial updates, the largest batches and "
            f"a validation",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def _reach_peak(trainer: Trainer, corpus: PreparedCorpus, batches: list[NDArray[np.int64]]) -> None:
    """Does once what takes most memory in a run; `trainer` is spoilt by it."""
    for pairs in sorted(batches, key=partial(_num_compared, corpus.train))[-_LARGEST_BATCHES:]:
        trainer.update([read_batch(corpus.train, pairs)])
    longest = sorted(corpus.dev_pairs, key=lambda pair: -len(pair.source))[:_DEV_SENTENCES]
    judged = replace(corpus, dev_pairs=longest)
    run = trainer.states
    silent = Console(file=io.StringIO())
    with Journal(run, total_steps=1, resumed_step=0, console=silent) as journal:
        validate = build_validator("dry-run", trainer.config, trainer.network, judged)
        with trainer.averaged():
            scores = validate()
        journal.validation(0, 0, scores.example, **scores.numbers())
        trainer.save()
        draw_curves(run)


def _num_compared(store: TokenStore, pairs: NDArray[np.int64]) -> int:
    """Attention's comparisons in a batch, each source place with each target place."""
    longest_source = int(store.source_lengths[pairs].max()) + 1
    longest_target = int(store.target_lengths[pairs].max()) + 1
    return len(pairs) * longest_source * longest_target
