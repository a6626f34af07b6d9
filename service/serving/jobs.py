"""What the served_model hands to an engine's thread: one job a request.

A job's future belongs to the event loop that waits for it; everything else is touched by the
engine's thread only, except `gone`, which anybody may set and nobody takes back. Jobs know nothing
of requests: several may wait for one.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # torch is the engine thread's affair
    from model.decoding.beam_search import SearchConfig
    from model.decoding.request import Usage
    from model.text.segmenter import Segmentation
    from model.translation import Translation
    from model.translator import ForcedScore


class TranslatorFace(Protocol):
    """The part of `Translator` that a worker drives."""

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
    def usage(self) -> "Usage":
        """How busy the engines are; from any thread."""

    def add(
        self,
        text: str,
        search: "SearchConfig | None" = None,
        *,
        alignments: bool = False,
        segmentation: "Segmentation" = "line",
        bulk: bool = False,
    ) -> int:
        """Queues a text; the ticket under which `step` will return it."""

    def step(self, timeout_s: float | None = None) -> "list[tuple[int, Translation]]":
        """Advances all texts in work; those that are finished. May wait for one, so long."""

    def wake(self) -> None:
        """Lets a `step` that waits return at once; from any thread."""

    def close(self) -> None:
        """Ends the translator's engines."""

    def cancel(self, ticket: int) -> None:
        """Forgets a text, wherever it is."""

    def score(self, pairs: Sequence[tuple[str, str]]) -> "list[ForcedScore]":
        """Log-probabilities of given translations."""


class ItemFailure(Exception):
    """One item of a job could not be done. Whoever asked for it knows what to call it."""

    def __init__(self, index: int, error: Callable[[str], Exception]) -> None:
        super().__init__(index)
        self.index = index
        self.error = error  # made with the item's name


@dataclass(eq=False)
class Job:
    """`num_items` results are due, in order. Times are those of time.monotonic."""

    future: asyncio.Future[list[Any]]
    loop: asyncio.AbstractEventLoop
    num_items: int
    gone: bool = False  # answered, failed, late or abandoned: no more work for it
    results: dict[int, Any] = field(default_factory=dict)
    accepted_at: float = field(default_factory=time.monotonic)
    begun_at: float | None = None  # when its first item was given to the translator
    done_at: float | None = None

    def finish(self, index: int, result: Any) -> None:
        """Keeps one result; the last one is the end of the job."""
        self.results[index] = result
        if len(self.results) == self.num_items:
            self.gone = True
            self.done_at = time.monotonic()
            results = [self.results[position] for position in range(self.num_items)]
            self._tell(lambda: self.future.set_result(results))

    def fail(self, error: Exception) -> None:
        """Ends the job with `error`; what it still has in work is dropped."""
        self.gone = True
        self._tell(lambda: self.future.set_exception(error))

    def _tell(self, answer: Callable[[], None]) -> None:
        def answer_if_awaited() -> None:
            if not self.future.done():
                answer()

        # The loop is closed when the process leaves without waiting; nobody is left to tell.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(answer_if_awaited)


@dataclass(eq=False, kw_only=True)
class TranslateJob(Job):
    """Texts to translate with one search setting."""

    texts: Sequence[str]
    search: "SearchConfig | None"
    alignments: bool
    segmentation: "Segmentation"
    bulk: bool  # so much that it lets all others pass
    num_fed: int = 0  # texts that the translator has been given


@dataclass(eq=False, kw_only=True)
class ScoreJob(Job):
    """Pairs to score."""

    pairs: Sequence[tuple[str, str]]
    num_scored: int = 0
    chunk_size: int = 16  # scored between two steps, in one call that nothing can interrupt
