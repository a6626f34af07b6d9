"""How much a model may have accepted and not yet answered; a full one lets requests wait a moment.

Counted in texts, in characters, and in the seconds that they will take at the speed seen so far: a
queue that is longer than the deadline would answer nobody. Lives on the event loop.
"""

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from service.errors import QueueFull
from service.serving.arrivals import arrived
from service.settings import Settings

MAX_RETRY_AFTER_S = 60

# Requests that may wait for room at the same time: so many at least get some in the time they have.
LONGEST_LINE = 8

# A request of more characters than all engines do in this time is bulk; within bounds, because a
# list of twenty sentences is none on the slowest machine, and a chapter is on the fastest.
_BULK_S = 0.5
_BULK_AT_LEAST, _BULK_AT_MOST = 2_000, 10_000


@dataclass(frozen=True)
class Load:
    """What a request adds to a model's work."""

    num_texts: int
    num_characters: int
    bulk: bool = False  # so much that it lets all others pass


_NOTHING, _SMALLEST = Load(0, 0), Load(1, 1)


@dataclass(eq=False)
class _Waiting:
    """A request in line for room."""

    load: Load
    deadline_s: float
    admitted: asyncio.Future[None]


class QueueLimits:
    """Room for the work of one model, called `name` in refusals."""

    def __init__(self, name: str, settings: Settings) -> None:
        # Characters a second with all engines at work; None while it is unknown.
        self.speed: Callable[[], float | None] = lambda: None
        self.num_texts = 0
        self.num_characters = 0
        self._bulk = _NOTHING  # all of it together
        self._name = name
        self._settings = settings
        self._line: deque[_Waiting] = deque()
        self._bulk_line: deque[_Waiting] = deque()  # nobody else waits behind these

    def load_of(self, texts: Iterable[str]) -> Load:
        """What these texts add."""
        lengths = [len(text) for text in texts]
        num_characters = sum(lengths)
        speed = self.speed()
        limit = _BULK_AT_MOST
        if speed is not None:
            limit = min(max(int(_BULK_S * speed), _BULK_AT_LEAST), _BULK_AT_MOST)
        return Load(len(lengths), num_characters, bulk=num_characters > limit)

    async def enter(self, load: Load, deadline_s: float) -> None:
        """Takes room for a load, which `leave` gives back; waits a moment for it, in turn.

        Raises QueueFull: at once when many wait already, else after `queue_wait_s`, the time at
        the door included.
        """
        waited_s = arrived()
        line = self._line_of(load)
        refusal = self._refusal(load, deadline_s)
        if refusal is None and not line:
            self._take(load)
            return
        wait_s = min(self._settings.queue_wait_s - waited_s, deadline_s)
        if wait_s <= 0 or len(line) >= LONGEST_LINE:
            raise refusal or self._behind_others(load)
        waiting = _Waiting(load, deadline_s, asyncio.get_running_loop().create_future())
        line.append(waiting)
        try:
            with contextlib.suppress(TimeoutError):  # maybe admitted at the same moment
                async with asyncio.timeout(wait_s):
                    await waiting.admitted
        except asyncio.CancelledError:
            if waiting.admitted.done() and not waiting.admitted.cancelled():
                self.leave(load)
            raise
        finally:
            if waiting in line:
                line.remove(waiting)
                self._admit_waiting()  # those behind it may need less
        if not waiting.admitted.done() or waiting.admitted.cancelled():
            raise self._refusal(load, deadline_s) or refusal or self._behind_others(load)

    def refuses_all(self, num_coming: int) -> QueueFull | None:
        """Why even the smallest request would find no room now; None when it would.

        So many others will have asked before it; they are taken for texts such as those waiting.
        """
        num_texts = self.num_texts - self._bulk.num_texts
        usual = (self.num_characters - self._bulk.num_characters) // max(num_texts, 1)
        ahead = Load(num_coming, num_coming * usual)
        refusal = self._refusal(_SMALLEST, self._settings.deadline_s, ahead)
        return self._behind_others(_SMALLEST) if refusal is None and self._line else refusal

    def leave(self, load: Load) -> None:
        """Gives room back, to those who wait for it first."""
        self._count(load, -1)
        self._admit_waiting()

    def _admit_waiting(self) -> None:
        for line in (self._line, self._bulk_line):
            while line and self._refusal(line[0].load, line[0].deadline_s) is None:
                waiting = line.popleft()
                if not waiting.admitted.done():
                    self._take(waiting.load)
                    waiting.admitted.set_result(None)

    def _line_of(self, load: Load) -> "deque[_Waiting]":
        return self._bulk_line if load.bulk else self._line

    def _take(self, load: Load) -> None:
        self._count(load, 1)

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
        """Why there is no room now, `ahead` taken for waiting already; None when there is."""
        settings = self._settings
        num_texts = self.num_texts + ahead.num_texts
        num_characters = self.num_characters + ahead.num_characters
        if num_texts + load.num_texts > settings.max_queue_texts:
            return self._full(
                f"{num_texts} texts are waiting",
                f"{settings.max_queue_texts} may",
                "max_queue_texts",
                load,
            )
        if num_characters + load.num_characters > settings.max_queue_characters:
            return self._full(
                f"{num_characters} characters are waiting",
                f"{settings.max_queue_characters} may",
                "max_queue_characters",
                load,
            )
        # Half is kept for requests that people wait for.
        bulk = max(settings.max_characters, settings.max_queue_characters // 2)
        if load.bulk and self._bulk.num_characters + load.num_characters > bulk:
            return self._full(
                f"{self._bulk.num_characters} characters of large requests are waiting",
                f"{bulk} may",
                "half of max_queue_characters",
                load,
            )
        longest_s = min(settings.max_queue_s, deadline_s)
        if num_texts and (self.waits_s(load, ahead) or 0.0) > longest_s:
            setting = "max_queue_s" if settings.max_queue_s <= deadline_s else "the deadline"
            most = f"{longest_s:g} s of work may"
            return self._full("more texts are waiting", most, setting, load)
        return None

    def waits_s(self, load: Load = _SMALLEST, ahead: Load = _NOTHING) -> float | None:
        """How long a load would wait for those before it; None while the speed is unknown.

        They do not include bulk for others.
        """
        speed = self.speed()
        before = self.num_characters + ahead.num_characters
        before -= 0 if load.bulk else self._bulk.num_characters
        return None if speed is None else before / speed

    def _full(self, what: str, limit: str, setting: str, load: Load) -> QueueFull:
        waits_s = self.waits_s(load)
        return QueueFull(
            f"{what} for model {self._name}, at most {limit} ({setting}); try again later",
            retry_after_s=min(
                max(math.ceil(1.0 if waits_s is None else waits_s), 1), MAX_RETRY_AFTER_S
            ),
        )

    def _behind_others(self, load: Load) -> QueueFull:
        return self._full("others are waiting before this request", "so long", "queue_wait_s", load)
