"""`dragoman train --dry-run`: forecasts time and memory of a run without starting it."""

import resource
import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console

from model.errors import ConfigError
from model.inference.precision import resolve_device
from model.network.seq2seq import Seq2Seq
from training.config import TrainingConfig
from training.loop.batching import read_batch
from training.loop.build_network import build_network, describe
from training.loop.distributed import this_worker
from training.loop.read_ahead import batches_of
from training.loop.trainer import Trainer
from training.run.pipeline import prepare_for_run
from training.run.resolve import resolve

TRIAL_UPDATES = 8  # measured for speed and memory


def dry_run(asked: TrainingConfig, console: Console | None = None) -> None:
    """Prepares the corpus, makes a few updates, prints time and memory; leaves no files behind."""
    if this_worker().size > 1:
        raise ConfigError("--dry-run measures a single worker; start it without torchrun")
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
        speed = tokens / max(seconds, 1e-3)
        epoch_tokens = int((corpus.train.target_lengths + 1).sum(dtype=int))
        minutes = epoch_tokens / speed / 60
        console.print(
            f"{len(batches):,} batches of {config.optimization.batch_tokens:,} tokens with padding "
            f"and {epoch_tokens:,} target tokens an epoch; about "
            f"{speed:,.0f} tokens/s on this machine: {minutes:.1f} min an epoch, at most "
            f"{minutes * config.optimization.max_epochs:.0f} min for "
            f"{config.optimization.max_epochs} epochs (validation aside; it often stops earlier)\n"
            f"memory: {_peak_mib(network):,.0f} MiB at the peak of {len(trial)} trial updates",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def _peak_mib(network: Seq2Seq) -> float:
    device = next(network.parameters()).device
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
