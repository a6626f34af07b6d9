"""Jobs: the work that a served model hands to its worker thread, one job per request.

A job's future belongs to the event loop that waits for it. Everything else is touched by the
worker thread only, except `gone`, which any thread may set and none resets. Several requests may
wait for one job.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from model.decoding.request import EngineUsage
from model.decoding.search_config import SearchConfig
from model.text.segmenter import Segmentation
from model.translation import ForcedScore, Translation


class TranslatorFace(Protocol):
    """The part of `Translator` that a worker uses."""

    @property
    def idle(self) -> bool:
        """True when no text is waiting or being decoded."""

    @property
    def num_waiting(self) -> int:
        """How many segments wait for a slot."""

    @property
    def num_characters_done(self) -> int:
        """Characters of all segments translated so far."""

    @property
    def usage(self) -> EngineUsage:
        """How busy the engines are; may be called from any thread."""

    def add(
        self,
        text: str,
        search: SearchConfig | None = None,
        *,
        alignments: bool = False,
        segmentation: Segmentation = "line",
        bulk: bool = False,
    ) -> int:
        """Queues a text; returns the ticket under which `step` will return its translation."""

    def step(self, timeout_s: float | None = None) -> list[tuple[int, Translation]]:
        """Advances all texts by one step; returns the finished ones. Waits up to `timeout_s`."""

    def wake(self) -> None:
        """Makes a waiting `step` return at once; may be called from any thread."""

    def close(self) -> None:
        """Ends the translator's engines."""

    def cancel(self, ticket: int) -> None:
        """Drops a text, whether it is queued or being decoded."""

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[ForcedScore]:
        """Log-probabilities of given translations."""


class ItemFailure(Exception):
    """One item of a job failed. The request that waits for it adds the item's name."""

    def __init__(self, index: int, error: Callable[[str], Exception]) -> None:
        super().__init__(index)
        self.index = index
        self.error = error  # called with the item's name


@dataclass(eq=False)
class Job:
    """Work with `num_items` results, in order. Times are those of time.monotonic."""

    future: asyncio.Future[list[Any]]
    loop: asyncio.AbstractEventLoop
    num_items: int
    gone: bool = False  # answered, failed, late or cancelled: needs no more work
    results: dict[int, Any] = field(default_factory=dict)
    accepted_at: float = field(default_factory=time.monotonic)
    begun_at: float | None = None  # when its first item was given to the translator
    done_at: float | None = None

    def finish(self, index: int, result: Any) -> None:
        """Stores one result; the last result answers the job."""
        self.results[index] = result
        if len(self.results) == self.num_items:
            self.gone = True
            self.done_at = time.monotonic()
            results = [self.results[position] for position in range(self.num_items)]
            self._tell(lambda: self.future.set_result(results))

    def fail(self, error: Exception) -> None:
        """Ends the job with `error`; its unfinished items are dropped."""
        self.gone = True
        self._tell(lambda: self.future.set_exception(error))

    def _tell(self, answer: Callable[[], None]) -> None:
        def answer_if_awaited() -> None:
            if not self.future.done():
                answer()

        # RuntimeError: the loop is closed because the process exits without waiting.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(answer_if_awaited)


@dataclass(eq=False, kw_only=True)
class TranslateJob(Job):
    """Texts to translate with one search setting."""

    texts: Sequence[str]
    search: SearchConfig | None
    alignments: bool
    segmentation: Segmentation
    bulk: bool  # large: served after the jobs that are not
    num_fed: int = 0  # texts handed to the translator so far


@dataclass(eq=False, kw_only=True)
class ScoreJob(Job):
    """Pairs to score."""

    pairs: Sequence[tuple[str, str]]
    num_scored: int = 0
    chunk_size: int = 16  # pairs scored between two steps, in one call that cannot be interrupted
