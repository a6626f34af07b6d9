"""Finds the largest batches that fit into memory, for optimization.batch_tokens = "auto".

A few trial updates on batches of the longest pairs show how many bytes a token takes. Memory grows
linearly with tokens, so the result is extrapolated; no trial runs out of memory, and a margin stays
free.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.errors import ConfigError
from training.data.token_store import TokenStore
from training.loop.batching import PairBatch, read_batch
from training.loop.trainer import Trainer

# On a CPU larger batches are no faster: 5,500 target tokens/s in batches of 600, 7,600 in 4,000,
# 8,200 in 8,000 and 7,700 in 16,000 (default network, bf16, one core of an AMD EPYC), and fewer
# updates learn less.
CPU_TOKENS = 4_000
UPDATES_PER_EPOCH = 100  # at least, on any device: fewer teach a network little
_FIRST_TOKENS = 1_000  # of the first trial; later ones double
_SHARE_OF_CPU = 0.5  # of the free memory, which other programs need too
_SHARE_OF_GPU = 0.85
# Peak memory of an update, relative to what autograd keeps for the backward pass: 2.3 in the
# default network, and 3 leaves a margin.
_PEAK_TO_KEPT = 3
_LONGEST_PAIRS = 4_096  # fill the trials; repeated if a trial is larger


@dataclass(frozen=True)
class _Trial:
    tokens: int  # longest side x rows
    num_bytes: int


def fit_batch_tokens(trainer: Trainer, store: TokenStore) -> int:
    """Returns batch_tokens for one worker's device; the trials change the trainer's weights.

    With several workers each computes a part of a batch, so the number fits any number of workers.
    Raises ConfigError when the longest pair alone does not fit.
    """
    pairs = _longest_pairs(store)
    width = int(max(store.source_lengths[pairs[0]], store.target_lengths[pairs[0]])) + 1
    room = _room(trainer.device)
    epoch_tokens = int(store.target_lengths.sum(dtype=int)) + len(store)
    most = max(epoch_tokens // UPDATES_PER_EPOCH, width)
    if trainer.device.type == "cpu":
        most = min(most, max(CPU_TOKENS, width))
    first, second = (_try(trainer, store, pairs, width, n * _FIRST_TOKENS) for n in (1, 2))
    # torch caches GPU blocks of many sizes, so GPU memory is measured up to larger batches.
    while trainer.device.type == "cuda" and 2 * second.tokens <= most:
        if _bytes_at(2 * second.tokens, first, second) > room:
            break
        first, second = second, _try(trainer, store, pairs, width, 2 * second.tokens)
    per_token = _bytes_per_token(first, second)
    fitting = int(second.tokens + (room - second.num_bytes) / per_token)
    if fitting < width:
        raise ConfigError(
            f"the longest pair has {width:,} tokens, but only {max(fitting, 0):,} fit into the "
            f"memory of {trainer.device}; lower data.cleaning.max_tokens or choose a smaller model"
        )
    tokens = min(fitting, most)
    return tokens - tokens % 100 if tokens > max(width, 1_000) else tokens


def _longest_pairs(store: TokenStore) -> NDArray[np.int64]:
    """Returns the longest pairs, by their longer side, longest first."""
    longest = np.maximum(store.source_lengths, store.target_lengths)
    count = min(len(longest), _LONGEST_PAIRS)
    chosen = np.argpartition(longest, len(longest) - count)[len(longest) - count :]
    return chosen[np.argsort(-longest[chosen], kind="stable")]


def _try(
    trainer: Trainer, store: TokenStore, pairs: NDArray[np.int64], width: int, tokens: int
) -> _Trial:
    rows = max(tokens // width, 1)
    batch = read_batch(store, np.resize(pairs, rows))
    measure = _gpu_bytes if trainer.device.type == "cuda" else _cpu_bytes
    return _Trial(rows * width, measure(trainer, batch))


def _gpu_bytes(trainer: Trainer, batch: PairBatch) -> int:
    """Returns the peak GPU memory that torch reserves during an update, weights included."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(trainer.device)
    trainer.update([batch])
    return torch.cuda.max_memory_reserved(trainer.device)


def _cpu_bytes(trainer: Trainer, batch: PairBatch) -> int:
    """Estimates the memory of an update beside the weights, from what autograd keeps.

    Not read from the system: memory freed after the corpus was prepared stays with the process, so
    its size would not grow.
    """
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        trainer.update([batch])
    return _PEAK_TO_KEPT * sum(kept.values())


def _bytes_per_token(first: _Trial, second: _Trial) -> float:
    """Returns the slope between two trials, at least 1: very long pairs may give equal trials."""
    return max((second.num_bytes - first.num_bytes) / max(second.tokens - first.tokens, 1), 1.0)


def _bytes_at(tokens: int, first: _Trial, second: _Trial) -> float:
    return second.num_bytes + (tokens - second.tokens) * _bytes_per_token(first, second)


def _room(device: torch.device) -> float:
    """Returns the bytes that updates may take."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return _SHARE_OF_GPU * (free + torch.cuda.memory_reserved(device))
    return _SHARE_OF_CPU * available_memory()


def available_memory(
    meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")
) -> int:
    """Returns the free memory of the machine, or of the container if that is less, in bytes.

    Without /proc, 4 GiB are assumed.
    """
    free = 4 * 2**30
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
        free *= 1024
    except (OSError, StopIteration):
        pass
    for limit, used in (
        ("memory.max", "memory.current"),  # cgroup v2
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),  # v1
    ):
        try:
            left = int((cgroup / limit).read_text()) - int((cgroup / used).read_text())
        except (OSError, ValueError):  # missing, or "max": no limit
            continue
        free = min(free, max(left, 0))
    return free
