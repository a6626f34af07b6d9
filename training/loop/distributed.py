"""Data-parallel training with several workers (processes) through torch.distributed.

`torchrun` starts the same command once per worker, on one machine or several, and tells each worker
its rank in environment variables. All workers make the same updates: each computes its share of the
rows of every batch, and gradients are summed (all-reduce). More workers therefore change the speed
and nothing else. Rank 0 is the writer: only it prepares the corpus, validates, writes files and
prints. Without torchrun there is one worker, and these functions return at once.
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

_CONNECT_TIMEOUT = timedelta(minutes=10)  # until all workers are connected; all-reduce on GPUs
# The others wait this long for the writer, which prepares a corpus or validates. A worker that ends
# closes its connection, which the others notice at once; this limit is for lost machines.
_WRITER_TIMEOUT = timedelta(hours=24)


@dataclass(frozen=True)
class World:
    """Rank of this worker and number of all workers; by default the only one."""

    rank: int = 0  # counted from 0
    size: int = 1
    local_rank: int = 0  # on this machine
    local_size: int = 1
    # The process group for texts and flags; None: the default group, which gradients use.
    control: distributed.ProcessGroup | None = None

    @property
    def is_writer(self) -> bool:
        """Whether this worker prepares the corpus, validates, writes files and prints."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """Returns the device of this worker: the GPU with its local rank, or the CPU."""
        device = resolve_device(name)
        if self.size == 1 or device.type == "cpu":
            return device
        if device.index is not None:
            raise ConfigError(
                f"device {name!r} is one GPU, but there are {self.size} workers; set device to "
                f"'cuda', or choose GPUs with CUDA_VISIBLE_DEVICES"
            )
        return resolve_device(f"cuda:{self.local_rank}")

    def share_of(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns this worker's pairs of a batch; all workers get similar lengths."""
        return pairs[self.rank :: self.size]

    def seed(self, *numbers: int) -> int:
        """Returns a seed made of `numbers` and the rank, so that no two workers share it."""
        words = np.random.SeedSequence([*numbers, self.rank]).generate_state(1, np.uint64)
        return int(words[0])

    def all_reduce(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Returns each tensor summed over all workers, bit-equal on all of them, in one message."""
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with self._collective():
            distributed.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]

    def any_worker(self, flag: bool) -> bool:
        """Returns whether `flag` is true on any worker."""
        if self.size == 1:
            return flag
        any_flag = torch.tensor([flag], dtype=torch.int32)
        with self._collective():
            distributed.all_reduce(any_flag, distributed.ReduceOp.MAX, group=self.control)
        return bool(any_flag)

    def broadcast_text(self, text: str) -> str:
        """Returns the writer's text on every worker."""
        if self.size == 1:
            return text
        content = torch.tensor(list(text.encode()), dtype=torch.uint8)
        length = torch.tensor([len(content)])
        with self._collective():
            distributed.broadcast(length, src=0, group=self.control)
            if not self.is_writer:
                content = torch.empty(int(length), dtype=torch.uint8)
            distributed.broadcast(content, src=0, group=self.control)
        return content.numpy().tobytes().decode()

    @torch.no_grad()
    def broadcast_weights(self, parameters: Sequence[Tensor]) -> None:
        """Copies the writer's weights to every worker, in place."""
        if self.size == 1:
            return
        with self._collective():
            for parameter in parameters:
                distributed.broadcast(parameter.detach(), src=0)

    @contextmanager
    def _collective(self) -> Iterator[None]:
        """Raises RunError when a collective operation fails because a worker has ended."""
        try:
            yield
        except RuntimeError as error:
            reason = str(error).partition("\n")[0].partition(". ")[0]
            raise RunError(
                f"worker {self.rank + 1} of {self.size} stops because another worker has ended; "
                f"the last line of that worker says why ({reason})"
            ) from None


ALONE = World()


def this_worker() -> World:
    """Reads rank and number of workers from torchrun's variables; without them, the only worker."""
    try:
        world = World(
            rank=int(os.environ.get("RANK", "0")),
            size=int(os.environ.get("WORLD_SIZE", "1")),
            local_rank=int(os.environ.get("LOCAL_RANK", "0")),
            local_size=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        )
    except ValueError as error:
        raise ConfigError(
            f"RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE must be numbers ({error}); "
            f"unset them, or start the workers with torchrun, which sets them"
        ) from None
    if not 0 <= world.rank < world.size:
        raise ConfigError(
            f"RANK {world.rank} is not below WORLD_SIZE {world.size}; unset both variables, or "
            f"start the workers with torchrun, which sets them"
        )
    return world


@contextmanager
def process_group(world: World, device: torch.device) -> Iterator[World]:
    """Connects all workers for the duration of the block; waits until all of them are there."""
    if world.size == 1:
        yield world
        return
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    try:
        store, rank, size = next(rendezvous("env://", timeout=_CONNECT_TIMEOUT))
        distributed.init_process_group(
            "nccl" if on_gpu else "gloo",
            store=store,
            rank=rank,
            world_size=size,
            timeout=_CONNECT_TIMEOUT if on_gpu else _WRITER_TIMEOUT,
        )
        # gloo beside NCCL: it may wait for hours, and notices at once when a worker ends.
        control = distributed.new_group(timeout=_WRITER_TIMEOUT, backend="gloo") if on_gpu else None
    except (RuntimeError, ValueError) as error:  # ValueError: a variable of torchrun is missing
        reason = str(error).partition("\n")[0]
        raise RunError(
            f"worker {world.rank + 1} of {world.size} could not connect to the others: {reason}; "
            f"start all of them with torchrun and the same --master-addr or --rdzv-endpoint"
        ) from None
    yield replace(world, control=control)
    # Not after an error: the barrier would wait for workers that wait for this one.
    distributed.barrier(group=control)  # the writer may still be writing
    distributed.destroy_process_group()


def exit_worker(world: World, status: int) -> None:
    """Ends the process of one of several workers at once, after flushing its output.

    Threads of gloo can abort a normal exit (seen once in some tens of runs), and torchrun would
    then stop the other workers. With a single worker this does nothing.
    """
    if world.size > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
