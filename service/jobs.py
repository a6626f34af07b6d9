"""What the dispatcher hands to an engine's thread: one job a request.

A job's future belongs to the event loop that waits for it; everything else is touched by the
engine's thread only, except `gone`, which anybody may set and nobody takes back.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # torch is the engine thread's affair
    from model.beam_search import SearchConfig
    from model.segmenter import Segmentation
    from model.translator import ForcedScore, Translation


class TranslatorFace(Protocol):
    """The part of `Translator` that a worker drives."""

    @property
    def idle(self) -> bool:
        """True when no text is waiting or being decoded."""

    @property
    def num_waiting(self) -> int:
        """How many segments wait for a slot."""

    def add(
        self,
        text: str,
        search: "SearchConfig | None" = None,
        *,
        alignments: bool = False,
        segmentation: "Segmentation" = "line",
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


@dataclass(eq=False)
class Job:
    """A request: `num_items` results are due, in order."""

    future: asyncio.Future[list[Any]]
    loop: asyncio.AbstractEventLoop
    num_items: int
    gone: bool = False  # answered, failed, late or abandoned: no more work for it
    results: dict[int, Any] = field(default_factory=dict)

    def finish(self, index: int, result: Any) -> None:
        """Keeps one result; the last one answers the request."""
        self.results[index] = result
        if len(self.results) == self.num_items:
            self.gone = True
            results = [self.results[position] for position in range(self.num_items)]
            self._tell(lambda: self.future.set_result(results))

    def fail(self, error: Exception) -> None:
        """Answers the request with `error`; what it still has in work is dropped."""
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
    name_of: Callable[[int], str]  # what an error calls the text at an index
    num_fed: int = 0  # texts that the translator has been given


@dataclass(eq=False, kw_only=True)
class ScoreJob(Job):
    """Pairs to score."""

    pairs: Sequence[tuple[str, str]]
    num_scored: int = 0
    chunk_size: int = 16  # scored between two steps, in one call that nothing can interrupt
