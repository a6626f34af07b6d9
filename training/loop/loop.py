"""The training loop: updates the weights, validates, saves run states, and decides when to stop.

Every worker runs this loop and takes the same branches. What only one worker knows (a signal, a dev
score) is shared with all of them before anything depends on it.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from model.system.process import give_back_memory
from training.config import ResolvedConfig
from training.data.token_store import TokenStore
from training.loop.journal import Journal
from training.loop.memory import peak_memory_mib
from training.loop.optimization import learning_rate
from training.loop.read_ahead import Portion, portions
from training.loop.state import RunProgress
from training.loop.trainer import Trainer, Update
from training.loop.validation import DevScores

REPORT_EVERY_STEPS = 20
NAN_STEPS = 3  # the run stops after this many updates in a row without a finite gradient
_CLIP_CHECK_STEPS = 50 * REPORT_EVERY_STEPS  # how often the share of clipped updates is judged


@dataclass
class _ReportWindow:
    """Measurements since the last report."""

    started_at: float  # on the monotonic clock, moved on by the time that validation takes
    updates: list[Update] = field(default_factory=list)  # those with a finite gradient
    waited_s: float = 0.0  # for data


@dataclass
class _LoopState:
    """Times and counts that the loop keeps between updates; times are on the monotonic clock."""

    counted_until: float  # up to here, time is counted in progress.seconds
    saved_at: float
    window: _ReportWindow
    bad_steps: int = 0  # updates in a row without a finite gradient


@dataclass(frozen=True)
class _Reporting:
    """Where results go; only the writer has a journal and a validation."""

    journal: Journal | None
    validate: Callable[[], DevScores] | None
    total_steps: int


def train_loop(
    trainer: Trainer,
    store: TokenStore,
    *,
    journal: Journal | None,
    validate: Callable[[], DevScores] | None,
    stop: threading.Event,
    total_steps: int,
) -> None:
    """Trains until a limit is reached or `stop` is set; the last run state records which.

    The writer passes a journal and a validation, other workers pass None for both.
    """
    world, reporting = trainer.world, _Reporting(journal, validate, total_steps)
    now = time.monotonic()
    state = _LoopState(counted_until=now, saved_at=now, window=_ReportWindow(now))
    data = portions(trainer.config, store, trainer.progress, world=world, device=trainer.device)
    with closing(data):
        while not trainer.progress.finished and not world.any_worker(stop.is_set()):
            waits_from = time.monotonic()
            portion = next(data)
            state.window.waited_s += time.monotonic() - waits_from
            if portion.num_batches:
                _update(trainer, portion, state)
                _report_if_due(trainer, reporting, state)
                _validate_or_save_if_due(trainer, reporting, state, portion.ends_epoch)
            if portion.ends_epoch:
                _end_epoch(trainer.progress, trainer.config)
    if not state.bad_steps:
        trainer.save()


def _update(trainer: Trainer, portion: Portion, state: _LoopState) -> None:
    """Makes and counts one update; raises DivergenceError after NAN_STEPS bad ones in a row."""
    update = trainer.update(portion.batches, portion.target_tokens)
    progress = trainer.progress
    progress.batch += portion.num_batches
    progress.step += 1
    progress.target_tokens += portion.target_tokens
    _count_time(progress, state)
    if math.isfinite(update.gradient_norm):
        state.bad_steps = 0
        state.window.updates.append(update)
        return
    state.bad_steps += 1
    if state.bad_steps == NAN_STEPS:
        raise trainer.divergence()


def _count_time(progress: RunProgress, state: _LoopState) -> float:
    """Adds the time since the last call to progress.seconds; returns it."""
    now = time.monotonic()
    elapsed = now - state.counted_until
    progress.seconds += elapsed
    state.counted_until = now
    return elapsed


def _report_if_due(trainer: Trainer, reporting: _Reporting, state: _LoopState) -> None:
    if trainer.progress.step % REPORT_EVERY_STEPS or not state.window.updates:
        return
    if reporting.journal is not None:
        seconds = state.counted_until - state.window.started_at
        _report(trainer, reporting.journal, state.window, seconds, reporting.total_steps)
        _warn_of_clipping(trainer.progress, reporting.journal)
    state.window = _ReportWindow(state.counted_until)


def _validate_or_save_if_due(
    trainer: Trainer, reporting: _Reporting, state: _LoopState, epoch_ended: bool
) -> None:
    if _validation_is_due(trainer.config, trainer.progress, epoch_ended):
        _validate(trainer, reporting)
        # The speed of the next report leaves validation out.
        state.window.started_at += _count_time(trainer.progress, state)
        state.saved_at = state.counted_until
    elif not state.bad_steps:
        since_save_s = state.counted_until - state.saved_at
        if since_save_s > 60 * trainer.config.save_every_minutes:
            trainer.save()
            state.saved_at = state.counted_until


def _validation_is_due(config: ResolvedConfig, progress: RunProgress, epoch_ended: bool) -> bool:
    """Whether to validate now: at the configured interval, and after the last update."""
    every, limits = config.validation.every_steps, config.optimization
    if _reached(progress.step, limits.max_steps):
        return True
    if epoch_ended and _reached(progress.epoch + 1, limits.max_epochs):
        return True
    return epoch_ended if every is None else progress.step % every == 0


def _reached(count: int, limit: int | None) -> bool:
    return limit is not None and count >= limit  # a limit can be lowered before a run is resumed


def _end_epoch(progress: RunProgress, config: ResolvedConfig) -> None:
    progress.epoch += 1
    progress.batch = 0
    if _reached(progress.epoch, config.optimization.max_epochs) and not progress.finished:
        progress.finished = f"all {progress.epoch} epochs are done"


def _validate(trainer: Trainer, reporting: _Reporting) -> None:
    """Scores the weights on dev and saves, in the writer; other workers wait for its result."""
    if reporting.validate is not None and reporting.journal is not None:
        _score(trainer, reporting.journal, reporting.validate)
        trainer.save()
        trainer.drop_old_states()
        give_back_memory()  # what translating needed lies between blocks that training keeps
    trainer.copy_writers_progress()


def _score(trainer: Trainer, journal: Journal, validate: Callable[[], DevScores]) -> None:
    """Scores the averaged weights on dev, keeps them if they are good, decides whether to stop."""
    progress, config = trainer.progress, trainer.config
    metric = config.validation.metric
    with trainer.averaged():
        scores = validate()
        if not math.isfinite(scores.nll):
            raise trainer.divergence()
        should_stop = trainer.add_dev_score(scores.score(metric))
    journal.validation(
        progress.step,
        progress.epoch,
        scores.example,
        **scores.numbers(),
        peak_memory_mib=round(peak_memory_mib(trainer.device), 1),
    )
    if should_stop:
        progress.finished = (
            f"dev {metric} has not risen for {progress.since_best} validations "
            f"(best {progress.best[0].score:.2f} at step {progress.best[0].step})"
        )
    elif _reached(progress.step, config.optimization.max_steps):
        progress.finished = f"all {progress.step} steps are done"


def _report(
    trainer: Trainer, journal: Journal, window: _ReportWindow, seconds: float, total_steps: int
) -> None:
    progress, config, updates = trainer.progress, trainer.config.optimization, window.updates
    tokens = sum(update.target_tokens for update in updates)
    clipped = sum(update.gradient_norm > config.clip_norm for update in updates)
    progress.clipped += clipped
    remaining = progress.seconds / progress.step * max(total_steps - progress.step, 0)
    journal.training(
        progress.step,
        progress.epoch,
        remaining,
        loss=sum(update.smoothed_loss for update in updates) / tokens,
        nll=sum(update.negative_log_prob for update in updates) / tokens,
        tokens_per_s=tokens / seconds,
        waiting_share=window.waited_s / seconds,
        learning_rate=learning_rate(config, progress.step, progress.plateau_cuts),
        gradient_norm=sum(update.gradient_norm for update in updates) / len(updates),
        clipped_share=clipped / len(updates),
    )


def _warn_of_clipping(progress: RunProgress, journal: Journal) -> None:
    """Says so when more than half of the last _CLIP_CHECK_STEPS updates were clipped."""
    if progress.step % _CLIP_CHECK_STEPS:
        return
    if progress.clipped > _CLIP_CHECK_STEPS / 2:
        journal.say(
            f"the gradient was clipped in {progress.clipped:,} of the last "
            f"{_CLIP_CHECK_STEPS:,} updates; if the loss is unsteady, lower "
            f"optimization.learning_rate or raise optimization.warmup_steps"
        )
    progress.clipped = 0


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """Yields an event that Ctrl-C or SIGTERM sets; a second signal ends the process as usual."""
    stop = threading.Event()
    previous: dict[signal.Signals, Any] = {}

    def ask_to_stop(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, previous[signal.Signals(number)])

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, ask_to_stop)
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
