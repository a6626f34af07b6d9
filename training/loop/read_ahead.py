"""What the next updates learn from, made ready by a thread while the device computes this one."""

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from training.config import TrainingConfig
from training.data.token_store import TokenStore
from training.loop.batching import PairBatch, epoch_batches, read_batch
from training.loop.distributed import World
from training.loop.state import Place

# Few shapes, of the sizes that a GPU's matrix units take. On a CPU the padding costs more than a
# tenth of the speed and gains nothing.
GPU_LENGTHS = 8
DEPTH = 4  # updates made ready; one is enough unless some take much longer to read than others

Item = TypeVar("Item")


@dataclass(frozen=True)
class Portion:
    """What one update learns from; all but `batches` is the same for every worker."""

    batches: list[PairBatch]  # this worker's rows; may be empty
    target_tokens: int  # of all workers' rows, EOS counted
    num_batches: int  # of the epoch that are used up; 0 where a run stopped behind the last one
    ends_epoch: bool


def batches_of(config: TrainingConfig, store: TokenStore, epoch: int) -> list[NDArray[np.int64]]:
    """The pair numbers of every batch of an epoch."""
    batch_tokens = config.optimization.batch_tokens
    assert isinstance(batch_tokens, int)  # filled in by resolve.py
    return epoch_batches(store, batch_tokens=batch_tokens, seed=config.seed, epoch=epoch)


def portions(
    config: TrainingConfig,
    store: TokenStore,
    place: Place,
    *,
    world: World,
    device: torch.device,
) -> Generator[Portion]:
    """From a place in the data on, epoch after epoch; ends behind the last epoch, if there is one.

    The next portions, and the order of the next epoch, are made by a thread of their own. Close
    the iterator to end it.
    """
    return read_ahead(_portions(config, store, place.epoch, place.batch, world, device), DEPTH)


def read_ahead(items: Iterator[Item], depth: int) -> Generator[Item]:
    """The same items, up to `depth` of them made before they are asked for, by one thread."""
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as pool:
        try:
            made = deque(pool.submit(next, items, None) for _ in range(depth))
            while (item := made.popleft().result()) is not None:
                made.append(pool.submit(next, items, None))
                yield item
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # only the one under way is waited for


def _portions(
    config: TrainingConfig,
    store: TokenStore,
    epoch: int,
    batch: int,
    world: World,
    device: torch.device,
) -> Iterator[Portion]:
    max_epochs = config.optimization.max_epochs
    for number in count(epoch):
        yield from _epoch_portions(config, store, number, batch, world, device)
        batch = 0
        if max_epochs is not None and number + 1 >= max_epochs:
            return


def _epoch_portions(
    config: TrainingConfig,
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
