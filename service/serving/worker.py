"""Feeds jobs to a translator and returns the results, in the thread that owns the translator.

`ServedModel` calls `turn` in a loop from that thread. Nothing here starts threads or knows HTTP.
"""

import logging
import time
import traceback
from collections import deque
from collections.abc import Iterable

from model.decoding.request import EngineUsage
from model.errors import DragomanError, NoEngine
from service.errors import InvalidRequest, TranslationFailed, describe
from service.serving.jobs import ItemFailure, Job, ScoreJob, TranslateJob, TranslatorFace

logger = logging.getLogger("dragoman.worker")

_LONGEST_WAIT_S = 0.1  # for a finished text, in case no call of `wake` ends the wait

# Time with all engines busy: how much is needed to know the speed, how much is averaged over.
_SEEN_ENOUGH_S = 1.0
_REMEMBERED_S = 20.0


class Worker:
    """Shares one translator among many jobs: one text from each job in turn."""

    def __init__(self, translator: TranslatorFace, *, feed_ahead: int) -> None:
        self._translator = translator
        self._feed_ahead = feed_ahead  # segments kept waiting inside the translator
        self._feeding: deque[TranslateJob] = deque()
        self._scoring: deque[ScoreJob] = deque()
        self._in_work: dict[int, tuple[TranslateJob, int]] = {}  # ticket -> job, index of its text
        # Texts that were being decoded when a step failed; retried one at a time.
        self._suspects: deque[tuple[TranslateJob, int]] = deque()
        self.busy_s = 0.0
        self._full_s = 0.0  # recent time with all engines busy
        self._full_characters = 0.0  # translated in that time

    def speed(self) -> float | None:
        """Characters per second with all engines busy; None until that was measured for 1 s."""
        seen = self._full_s >= _SEEN_ENOUGH_S and self._full_characters > 0
        return self._full_characters / self._full_s if seen else None

    @property
    def usage(self) -> EngineUsage:
        """How busy the engines are; may be called from any thread."""
        return self._translator.usage

    @property
    def idle(self) -> bool:
        """True when there is no work until the next job."""
        return not (self._feeding or self._scoring or self._in_work or self._suspects)

    def take(self, jobs: Iterable[Job]) -> None:
        """Appends new jobs to the queue."""
        for job in jobs:
            if isinstance(job, TranslateJob):
                self._feeding.append(job)
            elif isinstance(job, ScoreJob):
                self._scoring.append(job)

    def turn(self) -> None:
        """Drops cancelled jobs, feeds the translator and advances it by one word."""
        started = time.monotonic()
        self._drop_gone()
        self._feed()
        usage = self._translator.usage
        num_characters = self._translator.num_characters_done
        self._step()
        self._score()
        seconds = time.monotonic() - started
        self.busy_s += seconds
        if usage.num_busy >= usage.num_slots > 0:
            self._see_full(seconds, self._translator.num_characters_done - num_characters)

    def wake(self) -> None:
        """Ends the wait of a turn; may be called from any thread."""
        self._translator.wake()

    def close(self) -> None:
        """Ends the translator's engines."""
        self._translator.close()

    def fail_all(self, error: Exception) -> None:
        """Answers every job with `error`, when the translator has stopped for good."""
        jobs: set[Job] = {*self._feeding, *self._scoring}
        jobs.update(job for job, _ in (*self._in_work.values(), *self._suspects))
        for job in jobs:
            if not job.gone:
                job.fail(error)

    def _see_full(self, seconds: float, num_characters: int) -> None:
        self._full_s += seconds
        self._full_characters += num_characters
        if self._full_s > _REMEMBERED_S:  # older measurements lose weight
            self._full_s /= 2
            self._full_characters /= 2

    def _drop_gone(self) -> None:
        for ticket in [ticket for ticket, (job, _) in self._in_work.items() if job.gone]:
            self._translator.cancel(ticket)
            del self._in_work[ticket]
        if any(job.gone for job in self._feeding):
            self._feeding = deque(job for job in self._feeding if not job.gone)
        if any(job.gone for job in self._scoring):
            self._scoring = deque(job for job in self._scoring if not job.gone)
        if self._suspects:
            self._suspects = deque(item for item in self._suspects if not item[0].gone)

    def _feed(self) -> None:
        if self._suspects:
            if not self._in_work:
                self._add(*self._suspects.popleft())
            return
        # One text from each job in turn, so that a long list does not keep a short one waiting.
        while self._feeding and self._translator.num_waiting < self._feed_ahead:
            job = self._feeding.popleft()
            self._add(job, job.num_fed)
            job.num_fed += 1
            if job.num_fed < job.num_items and not job.gone:
                self._feeding.append(job)

    def _add(self, job: TranslateJob, index: int) -> None:
        job.begun_at = job.begun_at or time.monotonic()
        try:
            ticket = self._translator.add(
                job.texts[index],
                job.search,
                alignments=job.alignments,
                segmentation=job.segmentation,
                bulk=job.bulk,
            )
        except DragomanError as error:
            _refuse_item(job, index, str(error))
        except Exception as error:  # noqa: BLE001 - a fault of ours that must stay with this one request
            _fail_item(job, index, error)
        else:
            self._in_work[ticket] = (job, index)

    def _step(self) -> None:
        if not self._in_work:
            return
        try:
            # Pairs to score are not kept waiting for a translation.
            finished = self._translator.step(0.0 if self._scoring else _LONGEST_WAIT_S)
        except NoEngine:  # not caused by a text: no engine is left for the next one either
            raise
        except Exception as error:  # noqa: BLE001 - the failed text is unknown yet, and the others must not fail with it
            self._isolate(error)
            return
        for ticket, translation in finished:
            job, index = self._in_work.pop(ticket)
            job.finish(index, translation)

    def _isolate(self, error: Exception) -> None:
        """After a failed step: fails a text that was alone, or retries each text alone."""
        items = list(self._in_work.values())
        for ticket in self._in_work:
            self._translator.cancel(ticket)
        self._in_work.clear()
        if len(items) == 1:
            job, index = items[0]
            _fail_item(job, index, error)
        else:
            logger.error("a step failed with %d texts in work: %s", len(items), describe(error))
            self._suspects.extend(items)

    def _score(self) -> None:
        if not self._scoring:
            return
        job = self._scoring.popleft()
        job.begun_at = job.begun_at or time.monotonic()
        start = job.num_scored
        pairs = job.pairs[start : start + job.chunk_size]
        try:
            scores = self._translator.score(pairs)
        except Exception as error:  # noqa: BLE001 - reported below
            if len(pairs) > 1:  # one at a time, to find the pair that fails
                job.chunk_size = 1
                self._scoring.appendleft(job)
            elif isinstance(error, DragomanError):
                reason = str(error).removeprefix("pair 1: ")  # numbered within this call
                _refuse_item(job, start, reason)
            else:
                _fail_item(job, start, error)
            return
        for index, score in enumerate(scores, start):
            job.finish(index, score)
        job.num_scored += len(pairs)
        if not job.gone:
            self._scoring.append(job)


def _refuse_item(job: Job, index: int, reason: str) -> None:
    job.fail(ItemFailure(index, lambda field: InvalidRequest(f"{field}: {reason}", field=field)))


def _fail_item(job: Job, index: int, error: Exception) -> None:
    logger.error(
        "item %d of %d failed in the model: %s\n%s",
        index + 1,
        job.num_items,
        describe(error),
        "".join(traceback.format_tb(error.__traceback__)),
    )
    job.fail(
        ItemFailure(
            index,
            lambda name: TranslationFailed(
                f"the model failed on {name}; the log says why", field=name
            ),
        )
    )
