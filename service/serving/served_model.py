"""One served model: its worker thread, its queue, and the requests that wait for results.

The thread loads the model, translates one sentence to check that it works, and then owns the
translator until the model is closed. The event loop never touches the translator.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from model.decoding.request import EngineUsage
from model.decoding.search_config import SearchConfig
from model.system.process import freeze_gc
from model.text.segmenter import Segmentation
from model.translation import ForcedScore, Translation
from service.errors import (
    ModelLoading,
    ModelUnavailable,
    ShuttingDown,
    describe,
)
from service.limits import deadline_exceeded
from service.serving.jobs import ItemFailure, Job, ScoreJob, TranslateJob, TranslatorFace
from service.serving.pending import PendingRequest
from service.serving.queue_limits import Load, QueueLimits
from service.serving.worker import Worker
from service.settings import Settings

logger = logging.getLogger("dragoman.served_model")


class ModelState(StrEnum):
    """LOADING until a sentence was translated, then READY. FAILED: not loaded. STOPPED: closed."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class ModelInfo:
    """The description of a loaded model."""

    source_language: str
    target_language: str
    version: str
    precision: str
    exact: bool  # a text gets the same translation in any batch, to the last bit
    max_source_tokens: int
    search: SearchConfig  # the defaults that a request's own settings replace
    metrics: dict[str, Any]


@dataclass(frozen=True)
class LoadedModel:
    """A translator and its description."""

    translator: TranslatorFace
    info: ModelInfo


@dataclass(frozen=True)
class Answer:
    """Translations of some texts, and how long they took."""

    translations: list[Translation]  # one a text, in order
    shared: bool  # computed for an earlier request for the same texts
    queue_s: float  # from the request until the engines took its first text
    decode_s: float  # from then until its last text was translated


class ServedModel:
    """Serves one model. Call `start` once and `close` once; translate from one event loop."""

    def __init__(self, name: str, load: Callable[[], LoadedModel], settings: Settings) -> None:
        self.name = name
        self.state = ModelState.LOADING
        self.failure: str | None = None  # why it failed, for the log and the start
        self._info: ModelInfo | None = None
        self._load = load
        self._settings = settings
        self._worker: Worker | None = None
        self.queue_limits = QueueLimits(name, settings)
        self.num_cancelled_texts = 0  # cancelled by every request that waited for them
        self.num_leases = 0
        self._inbox: deque[Job] = deque()
        self._closing = False
        self._wake = threading.Condition()  # guards _inbox and _closing
        # A daemon thread: a load that hangs must not block the exit of the process.
        self._thread = threading.Thread(target=self._main, name=f"model {name}", daemon=True)

    @property
    def info(self) -> ModelInfo:
        """The model's description; raises ModelLoading or ModelUnavailable without one."""
        self._require_ready()
        assert self._info is not None
        return self._info

    @property
    def usage(self) -> EngineUsage | None:
        """How busy the model's engines are; None before it has loaded."""
        return None if self._worker is None else self._worker.usage

    @property
    def busy_s(self) -> float:
        """Time during which the model had work, in seconds."""
        return 0.0 if self._worker is None else self._worker.busy_s

    @property
    def known_info(self) -> ModelInfo | None:
        """The model's description in any state; None if it has never loaded."""
        return self._info

    def start(self) -> None:
        """Begins loading, in the model's own thread."""
        self._thread.start()

    def close(self, timeout_s: float) -> bool:
        """Ends the thread; False when it is still busy, for example loading, after `timeout_s`."""
        with self._wake:
            self._closing = True
            self._wake_worker()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @contextlib.contextmanager
    def lease(self) -> Iterator[None]:
        """Keeps the model open while the block runs, even when a reload replaces it meanwhile."""
        self.num_leases += 1
        try:
            yield
        finally:
            self.num_leases -= 1

    async def translate(
        self,
        texts: Sequence[str],
        search: SearchConfig | None,
        *,
        alignments: bool,
        segmentation: Segmentation,
        deadline_s: float,
        pending: PendingRequest | None = None,
    ) -> Answer:
        """One translation a text, in order; `pending` ends when the texts are in the queue.

        Raises QueueFull when the queue has no room for them before the deadline, and ItemFailure
        for a text that cannot be translated. Cancelling frees the engine's slots at its next step.
        """
        self._require_ready()
        if not texts:
            return Answer([], shared=False, queue_s=0.0, decode_s=0.0)
        loop = asyncio.get_running_loop()
        load = self.queue_limits.load_of(texts)
        job = TranslateJob(
            loop.create_future(),
            loop,
            len(texts),
            texts=texts,
            search=search,
            alignments=alignments,
            segmentation=segmentation,
            bulk=load.bulk,
        )
        translations = await self._perform(job, load, deadline_s, pending)
        assert job.begun_at is not None
        assert job.done_at is not None
        return Answer(
            translations,
            shared=False,
            queue_s=job.begun_at - job.accepted_at,
            decode_s=job.done_at - job.begun_at,
        )

    async def score(
        self,
        pairs: Sequence[tuple[str, str]],
        *,
        deadline_s: float,
        pending: PendingRequest | None = None,
    ) -> list[ForcedScore]:
        """One score a pair, in order; raises like `translate`."""
        self._require_ready()
        if not pairs:
            return []
        loop = asyncio.get_running_loop()
        job = ScoreJob(loop.create_future(), loop, len(pairs), pairs=pairs)
        load = self.queue_limits.load_of(source + target for source, target in pairs)
        try:
            async with asyncio.timeout(deadline_s):
                return await self._perform(job, load, deadline_s, pending)
        except ItemFailure as failure:
            raise failure.error(f"pairs[{failure.index}]") from None
        except TimeoutError:
            raise deadline_exceeded(deadline_s) from None

    async def _perform(
        self, job: Job, load: Load, deadline_s: float, pending: PendingRequest | None
    ) -> list[Any]:
        """The results of a job, once the queue has space for it."""
        await self.queue_limits.acquire(load, deadline_s, pending)
        try:
            self._put(job)
            return await job.future
        finally:
            self.queue_limits.release(load)
            self._abandon(job)

    def _require_ready(self) -> None:
        if self.state is ModelState.LOADING:
            raise ModelLoading(f"model {self.name} is still loading; retry after a few seconds")
        if self.state is not ModelState.READY:
            raise ModelUnavailable(f"model {self.name} is not available; see the service's log")

    def _put(self, job: Job) -> None:
        with self._wake:
            if self._closing:
                raise ShuttingDown("the service is shutting down; ask another instance")
            job.accepted_at = time.monotonic()
            self._inbox.append(job)
            self._wake_worker()

    def _abandon(self, job: Job) -> None:
        if job.gone:  # answered: there is nothing to cancel
            return
        self.num_cancelled_texts += job.num_items - len(job.results)
        with self._wake:
            job.gone = True
            if job in self._inbox:
                self._inbox.remove(job)
            self._wake_worker()

    def _wake_worker(self) -> None:
        """Wakes the worker, whether it waits for a job or for a translation."""
        self._wake.notify()
        if self._worker is not None:
            self._worker.wake()

    def _main(self) -> None:
        try:
            worker = self._open()
        except Exception as error:  # noqa: BLE001 - whatever it is, the other models are served
            self.failure = describe(error)
            self.state = ModelState.FAILED
            logger.error("model %s failed to load: %s", self.name, self.failure)
            return
        try:
            while (jobs := self._next_jobs(worker)) is not None:
                worker.take(jobs)
                worker.turn()
            reason: Exception = ShuttingDown("the service is shutting down; ask another instance")
        except Exception as error:  # noqa: BLE001 - a translator that fails even when asked to cancel
            logger.critical("model %s has stopped: %s", self.name, describe(error))
            reason = ModelUnavailable(f"model {self.name} has stopped; the log says why")
        self._stop(worker, reason)

    def _open(self) -> Worker:
        started = time.monotonic()
        loaded = self._load()
        try:
            _translate_a_sentence(loaded)
        except BaseException:
            loaded.translator.close()
            raise
        self._info = loaded.info
        freeze_gc()
        self._worker = Worker(loaded.translator, feed_ahead=self._settings.max_slots)
        self.queue_limits.speed = self._worker.speed
        self.state = ModelState.READY
        logger.info(
            "model %s ready after %.1f s: %s to %s, version %s, %s",
            self.name,
            time.monotonic() - started,
            loaded.info.source_language,
            loaded.info.target_language,
            loaded.info.version,
            loaded.info.precision,
        )
        if not loaded.info.exact:
            logger.warning(
                "model %s is not exact on this machine (exact: false): in %s a translation may "
                "differ slightly with the texts that are translated at the same time; "
                "set DRAGOMAN_PRECISION=fp32 if that matters",
                self.name,
                loaded.info.precision,
            )
        return self._worker

    def _next_jobs(self, worker: Worker) -> list[Job] | None:
        """The jobs that arrived since the last call; waits while there is no work; None to end."""
        with self._wake:
            while worker.idle and not self._inbox and not self._closing:
                self._wake.wait()
            if self._closing:
                return None
            jobs = list(self._inbox)
            self._inbox.clear()
            return jobs

    def _stop(self, worker: Worker, reason: Exception) -> None:
        with self._wake:
            self._closing = True
            self.state = ModelState.STOPPED
            worker.take(self._inbox)
            self._inbox.clear()
        worker.fail_all(reason)
        worker.close()


# Any text would do; one in the model's source language takes few decoding steps.
_SENTENCES = {
    "en": "Good morning, how are you?",
    "de": "Guten Morgen, wie geht es Ihnen?",
    "zh": "早上好，你好吗？",
    "ja": "おはようございます。",
}


def _translate_a_sentence(loaded: LoadedModel) -> None:
    language = loaded.info.source_language.lower().split("-")[0]
    ticket = loaded.translator.add(_SENTENCES.get(language, _SENTENCES["en"]))
    while ticket not in {done for done, _ in loaded.translator.step()}:
        if loaded.translator.idle:
            raise RuntimeError(
                "trial translation failed: the engine has no work left, but did not return the "
                "sentence; reload the model, and report this error if it comes back"
            )
