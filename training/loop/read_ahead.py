"""Reads the batches of the next updates in a thread while the device computes the current one."""

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from training.config import ResolvedConfig
from training.data.token_store import TokenStore
from training.loop.batching import PairBatch, epoch_batches, read_batch
from training.loop.distributed import World
from training.loop.state import RunProgress

# Lengths are padded to a multiple of this: few shapes, of sizes that suit a GPU's matrix units. On
# a CPU the padding costs more than a tenth of the speed and gains nothing.
GPU_LENGTHS = 8
DEPTH = 4  # updates read ahead; more than one because reading times differ

Item = TypeVar("Item")


@dataclass(frozen=True)
class Portion:
    """The data of one update; all fields but `batches` are the same for every worker."""

    batches: list[PairBatch]  # this worker's rows; may be empty
    target_tokens: int  # of all workers' rows, EOS counted
    num_batches: int  # of the epoch, over all workers; 0 if a run resumes after the last one
    ends_epoch: bool


def batches_of(config: ResolvedConfig, store: TokenStore, epoch: int) -> list[NDArray[np.int64]]:
    """Returns the pair numbers of every batch of an epoch."""
    batch_tokens = config.optimization.batch_tokens
    return epoch_batches(store, batch_tokens=batch_tokens, seed=config.seed, epoch=epoch)


def portions(
    config: ResolvedConfig,
    store: TokenStore,
    progress: RunProgress,
    *,
    world: World,
    device: torch.device,
) -> Generator[Portion]:
    """Yields the data of each update, from `progress` to the end of the last epoch.

    A thread reads the next portions and computes the order of the next epoch. Close the iterator to
    end the thread.
    """
    return read_ahead(
        _portions(config, store, progress.epoch, progress.batch, world, device), DEPTH
    )


def read_ahead(items: Iterator[Item], depth: int) -> Generator[Item]:
    """Yields the same items; one thread makes up to `depth` of them in advance."""
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as pool:
        try:
            made = deque(pool.submit(next, items, None) for _ in range(depth))
            while (item := made.popleft().result()) is not None:
                made.append(pool.submit(next, items, None))
                yield item
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # the block's end awaits the running one


def _portions(
    config: ResolvedConfig,
    store: TokenStore,
    epoch: int,
    batch: int,
    world: World,
    device: torch.device,
) -> Iterator[Portion]:
    yield from _epoch_portions(config, store, epoch, batch, world, device)
    for later_epoch in range(epoch + 1, config.optimization.max_epochs):
        yield from _epoch_portions(config, store, later_epoch, 0, world, device)


def _epoch_portions(
    config: ResolvedConfig,
    store: TokenStore,
    epoch: int,
    batch: int,
    world: World,
    device: torch.device,
) -> Iterator[Portion]:
    batches, accumulate = batches_of(config, store, epoch), config.optimization.accumulate
    for start in range(batch, len(batches), accumulate) or [batch]:
        chosen = batches[start : start + accumulate]
        tokens = (int((store.target_lengths[pairs] + 1).sum(dtype=int)) for pairs in chosen)
        yield Portion(
            batches=_read(store, chosen, world, device),
            target_tokens=sum(tokens),
            num_batches=len(chosen),
            ends_epoch=start + accumulate >= len(batches),
        )


def _read(
    store: TokenStore, chosen: Sequence[NDArray[np.int64]], world: World, device: torch.device
) -> list[PairBatch]:
    shares = [share for pairs in chosen if len(share := world.share_of(pairs))]
    if device.type == "cpu":
        return [read_batch(store, share) for share in shares]
    return [read_batch(store, share, pad_to_multiple=GPU_LENGTHS).pinned() for share in shares]
