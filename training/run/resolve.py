"""A config completed: for the size of the corpus, and by what is measured on this machine."""

import tempfile
from pathlib import Path

import torch

from model.system.process import num_cores
from training.config import TrainingConfig
from training.data.prepared import PreparedCorpus
from training.loop.batch_budget import fit_batch_tokens
from training.loop.build_network import build_network
from training.loop.distributed import ALONE, World
from training.loop.trainer import Trainer, training_dtype
from training.run.defaults import fill_defaults


def resolve(
    asked: TrainingConfig,
    recorded: TrainingConfig | None,
    corpus: PreparedCorpus,
    world: World = ALONE,
) -> TrainingConfig:
    """Every None filled in; what was measured on this machine is kept from the first start."""
    filled = fill_defaults(asked, len(corpus.train))
    threads = _threads(asked, recorded, world)
    torch.set_num_threads(threads)
    if recorded is not None:
        precision = recorded.optimization.precision
    else:
        dtype = training_dtype(filled.optimization, world.device(asked.device))
        precision = "bf16" if dtype == torch.bfloat16 else "fp32"
    optimization = filled.optimization.model_copy(update={"precision": precision})
    resolved = filled.model_copy(update={"optimization": optimization, "threads": threads})
    if optimization.batch_tokens != "auto":
        return resolved
    if recorded is not None:
        batch_tokens = recorded.optimization.batch_tokens
    else:
        batch_tokens = _fit_batch_tokens(resolved, corpus, world)
    optimization = optimization.model_copy(update={"batch_tokens": batch_tokens})
    return resolved.model_copy(update={"optimization": optimization})


def _fit_batch_tokens(config: TrainingConfig, corpus: PreparedCorpus, world: World) -> int:
    network = build_network(config, corpus.tokenizers, world.device(config.device))
    with tempfile.TemporaryDirectory(prefix="dragoman-trial-") as scratch:
        return fit_batch_tokens(Trainer(network, config, Path(scratch)), corpus.train)


def _threads(asked: TrainingConfig, recorded: TrainingConfig | None, world: World) -> int:
    """Of each worker: the workers of one machine share its cores."""
    if asked.threads is not None:
        return asked.threads
    share = max(num_cores() // world.local_size, 1)
    if recorded is None or recorded.threads is None:
        return share
    return recorded.threads if world.local_size == 1 else min(recorded.threads, share)
