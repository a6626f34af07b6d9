"""Applies a function to many items in several processes, with results in the order of the items."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from model.errors import DragomanError
from training.errors import CorpusError

Input = TypeVar("Input")
Output = TypeVar("Output")

# One process reads and writes for all workers and keeps about this many busy. Each takes about
# 60 MB, so that all together stay below 1 GB.
MAX_WORKERS = 16

_ITEMS_AHEAD = 3  # per worker: one in work and two waiting, so that no worker is idle


def map_in_order(
    function: Callable[[Input], Output], items: Iterable[Input], *, num_workers: int
) -> Generator[Output, None, None]:
    """Yields function(item) for every item; close it (`contextlib.closing`) to stop early.

    With one worker everything runs in this process. Otherwise the function, the items and the
    results are pickled between processes, with a few items per worker in flight. The first error,
    in the order of the items, is raised and ends all workers; it may come from `items` too. Ctrl-C
    reaches only this process; workers exit when their parent dies. Raises CorpusError when the
    system killed a worker.
    """
    if num_workers == 1:
        yield from map(function, items)
        return
    # Spawned, not forked: this process may hold threads and memory of torch.
    pool = ProcessPoolExecutor(
        num_workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(function,),
    )
    in_flight: deque[Future[Any]] = deque()
    try:
        for item in _with_error(items):
            if isinstance(item, Exception):
                yield from _results(in_flight, at_most=0)  # an earlier item may fail as well
                raise item
            with _ctrl_c_delayed():  # a worker inherits it while it starts
                in_flight.append(pool.submit(_apply, item))
            yield from _results(in_flight, at_most=_ITEMS_AHEAD * num_workers)
        yield from _results(in_flight, at_most=0)
    except BrokenProcessPool:
        raise CorpusError(
            "the system killed a process that prepared the corpus, probably for lack of memory; "
            "start again with fewer cores (taskset)"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _with_error(items: Iterable[Input]) -> Iterator[Input | DragomanError | OSError]:
    """Yields the items, then the error that ended them, if there was one."""
    try:
        yield from items
    except (DragomanError, OSError) as error:
        yield error


def _results(in_flight: deque[Future[Output]], *, at_most: int) -> Iterator[Output]:
    """Yields the oldest results until at most `at_most` items are in flight."""
    while len(in_flight) > at_most:
        yield in_flight.popleft().result()


@contextmanager
def _ctrl_c_delayed() -> Iterator[None]:
    """Delays Ctrl-C until the end of the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# In a worker process: the function, sent once instead of with every item.
_function: Callable[[Any], Any] | None = None


def _start_worker(function: Callable[[Any], Any]) -> None:
    global _function
    _function = function
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _apply(item: Any) -> Any:
    assert _function is not None  # _start_worker came first
    return _function(item)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
