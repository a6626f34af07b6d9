"""Requests to translate that have come in and have not asked a model for room yet.

The event loop reads dozens of them before the first is far enough to ask: a queue with one place
left looks open to each. Who judges by the queue alone lets all of them in, and every one that is
then refused has cost as much as one that is translated. Lives on the event loop.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class PendingRequest:
    """One request, until it has asked."""

    def __init__(self, arrivals: "PendingRequests", since: float | None) -> None:
        self.since = since  # it waits for room, on the monotonic clock; None: it did not yet
        self._arrivals = arrivals
        self._counted = False
        self._over = False

    def count(self) -> None:
        """It is on its way, unless it has asked already; may be told again and again."""
        if not (self._counted or self._over):
            self._counted = True
            self._arrivals.num_coming += 1

    def end(self) -> None:
        """It has asked, or never will; may be told again and again."""
        self._over = True
        if self._counted:
            self._counted = False
            self._arrivals.num_coming -= 1


_arrival: ContextVar[PendingRequest | None] = ContextVar("arrival", default=None)


class PendingRequests:
    """Counts them."""

    def __init__(self) -> None:
        self.num_coming = 0

    @contextmanager
    def expected(self, since: float | None = None) -> Iterator[PendingRequest]:
        """A request may begin in this block: the tasks that begin in it belong to the arrival."""
        arrival = PendingRequest(self, since)
        token = _arrival.set(arrival)
        try:
            yield arrival
        finally:
            _arrival.reset(token)


def arrived() -> float:
    """The request that this task works for asks for room, or needs none; seconds it has waited."""
    arrival = _arrival.get()
    if arrival is None:
        return 0.0
    arrival.end()
    return 0.0 if arrival.since is None else time.monotonic() - arrival.since
