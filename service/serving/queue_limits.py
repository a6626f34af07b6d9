"""How much work one model may have accepted and not finished.

Counted in texts, in characters, and in the seconds that they take at the measured speed: a queue
longer than the deadline would answer no request in time. A full queue lets a few requests wait for
a moment. The limits themselves stand in `service/limits.py`. Belongs to the event loop.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from service.errors import QueueFull
from service.limits import MAX_WAITING, Limits, QueueUse
from service.serving.pending import PendingRequest, PendingRequests
from service.settings import Settings

# A request of more characters than all engines translate in this time is bulk. Within bounds: a
# list of twenty sentences is not bulk on the slowest machine, a chapter is bulk on the fastest.
_BULK_S = 0.5
_MIN_BULK, _MAX_BULK = 2_000, 10_000


@dataclass(frozen=True)
class Load:
    """What a request adds to a model's work."""

    num_texts: int
    num_characters: int
    bulk: bool = False  # so large that all other requests pass it


_NOTHING, _SMALLEST = Load(0, 0), Load(1, 1)


@dataclass(eq=False)
class _Waiting:
    """A request that waits for space."""

    load: Load
    deadline_s: float
    acquired: asyncio.Future[None]


class QueueLimits:
    """Limits the work that one model has accepted and not finished.

    `name`: what error messages call the model.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        # Characters a second with all engines busy; None while it is unknown.
        self.speed: Callable[[], float | None] = lambda: None
        self.num_texts = 0
        self.num_characters = 0
        self._bulk = _NOTHING  # all bulk requests together
        self._name = name
        self._limits = Limits(settings)
        self._wait_s = settings.queue_wait_s
        self._deadline_s = settings.deadline_s
        self._waiting: deque[_Waiting] = deque()
        self._bulk_waiting: deque[_Waiting] = deque()  # other requests do not wait for these

    def load_of(self, texts: Iterable[str]) -> Load:
        """What these texts add to the work."""
        lengths = [len(text) for text in texts]
        num_characters = sum(lengths)
        speed = self.speed()
        bulk = _MAX_BULK if speed is None else min(max(int(_BULK_S * speed), _MIN_BULK), _MAX_BULK)
        return Load(len(lengths), num_characters, bulk=num_characters > bulk)

    async def acquire(
        self, load: Load, deadline_s: float, pending: PendingRequest | None = None
    ) -> None:
        """Takes space for a load, which `release` returns; requests that wait get it in turn.

        `pending`, the request's handle, ends here: from now on it is counted as queued or waiting.
        Raises QueueFull: at once when many requests wait already, else after `queue_wait_s`.
        """
        if pending is not None:
            pending.end()
        waiting = self._bulk_waiting if load.bulk else self._waiting
        refusal = self._refusal(load, deadline_s)
        if refusal is None and not waiting:
            self._count(load, 1)
            return
        wait_s = min(self._wait_s, deadline_s)
        if wait_s <= 0 or len(waiting) >= MAX_WAITING:
            raise refusal or self._behind_others(load)
        place = _Waiting(load, deadline_s, asyncio.get_running_loop().create_future())
        waiting.append(place)
        try:
            with contextlib.suppress(TimeoutError):  # it may have acquired at the same moment
                async with asyncio.timeout(wait_s):
                    await place.acquired
        except asyncio.CancelledError:
            if place.acquired.done() and not place.acquired.cancelled():
                self.release(load)
            raise
        finally:
            if place in waiting:
                waiting.remove(place)
                self._serve_waiting()  # the next one may need less space
        if not place.acquired.done() or place.acquired.cancelled():
            raise self._refusal(load, deadline_s) or refusal or self._behind_others(load)

    def release(self, load: Load) -> None:
        """Returns space, to the requests that wait for it first."""
        self._count(load, -1)
        self._serve_waiting()

    def overloaded(self, pending: PendingRequests) -> QueueFull | None:
        """The refusal that even the smallest request would get now; None where it would not.

        All pending requests come before it: they take space, and places among those that wait.
        """
        # A body has at least as many bytes as its texts have characters.
        ahead = Load(pending.num_requests, pending.num_bytes)
        refusal = self._refusal(_SMALLEST, self._deadline_s, ahead)
        if refusal is None and not self._waiting:
            return None
        if self._wait_s > 0 and len(self._waiting) + pending.num_requests < MAX_WAITING:
            return None
        return refusal or self._behind_others(_SMALLEST)

    def wait_s(self, load: Load = _SMALLEST, ahead: Load = _NOTHING) -> float | None:
        """Seconds until a load is begun; None while the speed is unknown. Bulk passes nothing."""
        speed = self.speed()
        before = self.num_characters + ahead.num_characters
        before -= 0 if load.bulk else self._bulk.num_characters
        return None if speed is None else before / speed

    def _serve_waiting(self) -> None:
        for waiting in (self._waiting, self._bulk_waiting):
            while waiting and self._refusal(waiting[0].load, waiting[0].deadline_s) is None:
                place = waiting.popleft()
                if not place.acquired.done():
                    self._count(place.load, 1)
                    place.acquired.set_result(None)

    def _count(self, load: Load, times: int) -> None:
        self.num_texts += times * load.num_texts
        self.num_characters += times * load.num_characters
        if load.bulk:
            self._bulk = Load(
                self._bulk.num_texts + times * load.num_texts,
                self._bulk.num_characters + times * load.num_characters,
                bulk=True,
            )

    def _refusal(self, load: Load, deadline_s: float, ahead: Load = _NOTHING) -> QueueFull | None:
        """Why there is no space for a load now, with `ahead` in the queue; None where there is."""
        num_texts = self.num_texts + ahead.num_texts
        use = QueueUse(
            num_texts + load.num_texts,
            self.num_characters + ahead.num_characters + load.num_characters,
            self._bulk.num_characters + load.num_characters if load.bulk else 0,
            self.wait_s(load, ahead),
            is_first=num_texts == 0,
        )
        return self._limits.queue_refusal(self._name, use, deadline_s, self._retry_after_s(load))

    def _behind_others(self, load: Load) -> QueueFull:
        return self._limits.waiting_refusal(self._name, self._retry_after_s(load))

    def _retry_after_s(self, load: Load) -> float:
        wait_s = self.wait_s(load)
        return 1.0 if wait_s is None else wait_s
