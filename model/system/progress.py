"""Shows the progress of a long command: a bar on a terminal, a plain line every 30 s in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SHORTEST_S = 2.0  # shorter work needs no bar
_LOG_EVERY_S = 30.0


@contextmanager
def line_progress(label: str, total: int, unit: str = "lines") -> Iterator[Callable[[int], None]]:
    """Gives a function to call with the number done so far. Writes to standard error only."""
    if sys.stderr.isatty():
        yield from _bar(label, total, unit)
    else:
        yield from _log(label, total, unit)


def _bar(label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,}/{task.total:,} {task.fields[unit]}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = bar.add_task(label, total=total, unit=unit, rate="")
    started = time.monotonic()
    num_before: int | None = None  # done by an earlier, interrupted job: not this one's speed

    def update(num_done: int) -> None:
        nonlocal num_before
        num_before = num_done if num_before is None else num_before
        elapsed = time.monotonic() - started
        if elapsed < _SHORTEST_S:
            return
        rate = (num_done - num_before) / elapsed
        bar.start()
        bar.update(task, completed=num_done, rate=f"{rate:,.0f}/s" if rate >= 1 else "")

    try:
        yield update
    finally:
        bar.stop()


def _log(label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    last = time.monotonic()

    def update(num_done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _LOG_EVERY_S:
            print(f"{label}: {num_done:,} of {total:,} {unit}", file=sys.stderr, flush=True)
            last = now

    yield update
