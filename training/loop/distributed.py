"""Several workers on one run: who this one is, and what all of them do together.

`torchrun` starts the same command once per GPU, or as often as it is told to, on one machine or
many, and says in the environment which of them each is. All make the same updates: of every batch
each worker takes its share of the rows, and gradients are summed, so more workers change the speed
and nothing else. The first one is the writer: it alone prepares the corpus, validates, writes and
speaks. Without torchrun the world is one worker, and nothing here costs anything.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed
from torch.distributed.rendezvous import rendezvous

from model.errors import ConfigError
from model.inference.precision import resolve_device
from training.errors import RunError

_MEETING = timedelta(minutes=10)  # for all workers to come, and for the gradients of GPUs
# For the writer while it prepares a corpus or validates. A worker that ends is noticed at once,
# by its closed connection, so this is met only when a machine vanishes from the network.
_PATIENCE = timedelta(hours=24)


@dataclass(frozen=True)
class World:
    """This worker among all of them; by default the only one."""

    rank: int = 0  # counted from 0
    size: int = 1
    local_rank: int = 0  # on this machine
    local_size: int = 1
    # What texts and flags go through; None: what gradients do.
    control: distributed.ProcessGroup | None = None

    @property
    def is_writer(self) -> bool:
        """Whether this worker prepares, validates, writes and speaks for all."""
        return self.rank == 0

    def device(self, asked: str) -> torch.device:
        """This worker's own: the GPU that has its number on the machine, or the CPU."""
        device = resolve_device(asked)
        if self.size == 1 or device.type == "cpu":
            return device
        if device.index is not None:
            raise ConfigError(
                f"device {asked!r} is one GPU for {self.size} workers; set device to 'cuda', or "
                f"choose GPUs with CUDA_VISIBLE_DEVICES"
            )
        return resolve_device(f"cuda:{self.local_rank}")

    def share_of(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        """The pairs of a batch that this worker computes; of similar lengths for every worker."""
        return pairs[self.rank :: self.size]

    def seed(self, *numbers: int) -> int:
        """A seed made of `numbers` that no other worker has."""
        words = np.random.SeedSequence([*numbers, self.rank]).generate_state(1, np.uint64)
        return int(words[0])

    def add_up(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The sum of each tensor over all workers, bit-equal on all of them; in one message."""
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with self._together():
            distributed.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]

    def any(self, flag: bool) -> bool:
        """Whether any worker says so."""
        if self.size == 1:
            return flag
        found = torch.tensor([flag], dtype=torch.int32)
        with self._together():
            distributed.all_reduce(found, distributed.ReduceOp.MAX, group=self.control)
        return bool(found)

    def spread(self, text: str) -> str:
        """The writer's text, on every worker."""
        if self.size == 1:
            return text
        content = torch.tensor(list(text.encode()), dtype=torch.uint8)
        length = torch.tensor([len(content)])
        with self._together():
            distributed.broadcast(length, src=0, group=self.control)
            if not self.is_writer:
                content = torch.empty(int(length), dtype=torch.uint8)
            distributed.broadcast(content, src=0, group=self.control)
        return content.numpy().tobytes().decode()

    @torch.no_grad()
    def spread_weights(self, parameters: Sequence[Tensor]) -> None:
        """Gives every worker the writer's weights."""
        if self.size == 1:
            return
        with self._together():
            for parameter in parameters:
                distributed.broadcast(parameter.detach(), src=0)

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Around what needs all workers: RunError when one of them is gone."""
        try:
            yield
        except RuntimeError as error:
            reason = str(error).partition("\n")[0].partition(". ")[0]
            raise RunError(
                f"worker {self.rank + 1} of {self.size} stops, since another one is gone; its own "
                f"last line says why ({reason})"
            ) from None


ALONE = World()


def this_worker() -> World:
    """What torchrun says in the environment; the only worker when it says nothing."""
    try:
        world = World(
            rank=int(os.environ.get("RANK", "0")),
            size=int(os.environ.get("WORLD_SIZE", "1")),
            local_rank=int(os.environ.get("LOCAL_RANK", "0")),
            local_size=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        )
    except ValueError as error:
        raise ConfigError(f"RANK, WORLD_SIZE and the like are set by torchrun: {error}") from None
    if not 0 <= world.rank < world.size:
        raise ConfigError(
            f"RANK is {world.rank} and WORLD_SIZE {world.size}; start several workers with torchrun"
        )
    return world


@contextmanager
def joined(world: World, device: torch.device) -> Iterator[World]:
    """Inside, all workers are connected; entering waits until all of them have come."""
    if world.size == 1:
        yield world
        return
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    try:
        store, rank, size = next(rendezvous("env://", timeout=_MEETING))
        distributed.init_process_group(
            "nccl" if on_gpu else "gloo",
            store=store,
            rank=rank,
            world_size=size,
            timeout=_MEETING if on_gpu else _PATIENCE,
        )
        # gloo beside NCCL: it may wait long, and notices who is gone.
        control = distributed.new_group(timeout=_PATIENCE, backend="gloo") if on_gpu else None
    except (RuntimeError, ValueError) as error:  # ValueError: a variable of torchrun is missing
        reason = str(error).partition("\n")[0]
        raise RunError(
            f"worker {world.rank + 1} did not meet the {world.size - 1} others: {reason}; start "
            f"all of them with torchrun, with one --master-addr or --rdzv-endpoint"
        ) from None
    yield replace(world, control=control)
    # Not after an error: it would wait for workers that wait for this one. The process ends.
    distributed.barrier(group=control)  # the writer may still be writing
    distributed.destroy_process_group()


def leave(world: World, status: int) -> None:
    """Ends one of several workers at once, with its last lines written.

    What gloo leaves running in the background can abort an orderly end of the process (seen once
    in some tens of runs), and torchrun would stop the others for it.
    """
    if world.size > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
