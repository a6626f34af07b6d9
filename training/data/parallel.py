"""One function applied to many items by several processes; the results keep the items' order."""

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

Item = TypeVar("Item")
Result = TypeVar("Result")

# One process reads and writes for all the others; it keeps about this many busy. Each of them takes
# some 60 MB, so that they stay below 1 GB together.
MAX_WORKERS = 16

_ITEMS_AHEAD = 3  # a worker: one in hand, the others waiting, so that none idles


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], *, num_workers: int
) -> Generator[Result, None, None]:
    """Yields function(item) of every item; close it (`contextlib.closing`) when you stop early.

    With one worker everything happens in this process. Otherwise the function, the items and the
    results travel between processes, and at most a few items a worker are under way. The first
    error, in the order of the items, ends it, also one that `items` raises; no process stays.
    Ctrl-C reaches this process only, and workers whose parent was killed leave by themselves.
    Raises CorpusError when the system killed a worker.
    """
    if num_workers == 1:
        yield from map(function, items)
        return
    # Spawned rather than forked: this process may hold the threads and the memory of torch.
    pool = ProcessPoolExecutor(
        num_workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(function,),
    )
    under_way: deque[Future[Any]] = deque()
    try:
        for item in _with_damage(items):
            if isinstance(item, Exception):
                yield from _results(under_way, at_most=0)  # an earlier item may fail as well
                raise item
            with _ctrl_c_held():  # a worker inherits it while it starts
                under_way.append(pool.submit(_apply, item))
            yield from _results(under_way, at_most=_ITEMS_AHEAD * num_workers)
        yield from _results(under_way, at_most=0)
    except BrokenProcessPool:
        raise CorpusError(
            "a process that prepared the corpus was killed, maybe for want of memory; start again, "
            "with fewer cores (taskset) if it was"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _with_damage(items: Iterable[Item]) -> Iterator[Item | DragomanError | OSError]:
    """The items, and the error that making them ended with."""
    try:
        yield from items
    except (DragomanError, OSError) as error:
        yield error


def _results(under_way: deque[Future[Result]], *, at_most: int) -> Iterator[Result]:
    """The oldest results, until at most this many items are under way."""
    while len(under_way) > at_most:
        yield under_way.popleft().result()


@contextmanager
def _ctrl_c_held() -> Iterator[None]:
    """Ctrl-C waits until the end of the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# In a worker process: the function, sent once and not with every item.
_function: Callable[[Any], Any] | None = None


def _start_worker(function: Callable[[Any], Any]) -> None:
    global _function
    _function = function
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _apply(item: Any) -> Any:
    assert _function is not None  # _start_worker came first
    return _function(item)


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
