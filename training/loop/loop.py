"""The training loop: an update, and another; now and then validate, save, maybe stop.

With several workers all of them run it, and go the same way at every turn: what one alone knows
(a signal, a dev score) is agreed upon before anything depends on it.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from training.config import TrainingConfig
from training.data.token_store import TokenStore
from training.loop.journal import Journal
from training.loop.optimization import learning_rate
from training.loop.read_ahead import portions
from training.loop.state import Place
from training.loop.trainer import Trainer, Update
from training.loop.validation import DevScores

REPORT_EVERY_STEPS = 20
NAN_STEPS = 3  # updates in a row without a finite gradient before the run stops


@dataclass
class _SinceReport:
    """What the next report tells of."""

    started_at: float
    updates: list[Update] = field(default_factory=list)  # those with a finite gradient
    waited_s: float = 0.0  # for data


def train_loop(
    trainer: Trainer,
    store: TokenStore,
    *,
    journal: Journal | None,
    validate: Callable[[], DevScores] | None,
    stop: threading.Event,
    total_steps: int,
) -> None:
    """Runs until an end is reached or `stop` is set; the last run state says which.

    The writer has a journal and a validation, other workers have neither.
    """
    config, world = trainer.config, trainer.world
    bad_steps = 0
    saved_at = clock = time.monotonic()
    since_report = _SinceReport(clock)
    data = portions(config, store, trainer.place, world=world, device=trainer.device)
    with closing(data):
        while not trainer.place.finished and not world.any(stop.is_set()):
            waits_from = time.monotonic()
            portion = next(data)
            since_report.waited_s += time.monotonic() - waits_from
            place = trainer.place
            if portion.num_batches:
                update = trainer.update(portion.batches, portion.target_tokens)
                place.batch += portion.num_batches
                place.step += 1
                place.target_tokens += portion.target_tokens
                now = time.monotonic()
                place.seconds, clock = place.seconds + now - clock, now
                bad_steps = 0 if math.isfinite(update.gradient_norm) else bad_steps + 1
                if bad_steps == NAN_STEPS:
                    raise trainer.divergence()
                if not bad_steps:
                    since_report.updates.append(update)
                if place.step % REPORT_EVERY_STEPS == 0 and since_report.updates:
                    _report(trainer, journal, since_report, now, total_steps)
                    since_report = _SinceReport(now)
                if _is_due(config, place, portion.ends_epoch):
                    _validate(trainer, journal, validate)
                    place, now = trainer.place, time.monotonic()
                    place.seconds += now - clock
                    since_report.started_at += now - clock  # the speed leaves validation out
                    clock = saved_at = now
                elif now - saved_at > 60 * config.save_every_minutes and not bad_steps:
                    trainer.save()
                    saved_at = now
            if portion.ends_epoch:
                place.epoch += 1
                place.batch = 0
                if _reached(place.epoch, config.optimization.max_epochs) and not place.finished:
                    place.finished = f"all {place.epoch} epochs are done"
    if not bad_steps:
        trainer.save()


def _is_due(config: TrainingConfig, place: Place, epoch_ended: bool) -> bool:
    """Whether to validate now: as often as asked for, and after the last update."""
    every, limits = config.validation.every_steps, config.optimization
    if _reached(place.step, limits.max_steps):
        return True
    if epoch_ended and _reached(place.epoch + 1, limits.max_epochs):
        return True
    return epoch_ended if every is None else place.step % every == 0


def _reached(count: int, limit: int | None) -> bool:
    return limit is not None and count >= limit  # a limit can be lowered before a run is resumed


def _validate(
    trainer: Trainer, journal: Journal | None, validate: Callable[[], DevScores] | None
) -> None:
    """The writer judges the weights and saves; the others wait for what it found."""
    if validate is not None and journal is not None:
        _judge(trainer, journal, validate)
        trainer.save()
        trainer.drop_old_states()
    trainer.take_writers_place()


def _judge(trainer: Trainer, journal: Journal, validate: Callable[[], DevScores]) -> None:
    place, config = trainer.place, trainer.config
    with trainer.averaged():
        scores = validate()
        if not math.isfinite(scores.nll):
            raise trainer.divergence()
        metric = config.validation.metric
        score = -scores.nll if metric == "loss" else getattr(scores, metric)
        should_stop = trainer.judge(score)
    journal.validation(place.step, place.epoch, scores.example, **scores.numbers())
    if should_stop:
        place.finished = (
            f"dev {metric} has not risen for {place.since_best} validations "
            f"(best {place.best[0].score:.2f} at step {place.best[0].step})"
        )
    elif _reached(place.step, config.optimization.max_steps):
        place.finished = f"all {place.step} steps are done"


def _report(
    trainer: Trainer, journal: Journal | None, since: _SinceReport, now: float, total_steps: int
) -> None:
    if journal is None:
        return
    place, config = trainer.place, trainer.config.optimization
    updates, seconds = since.updates, now - since.started_at
    tokens = sum(update.target_tokens for update in updates)
    clipped = sum(update.gradient_norm > config.clip_norm for update in updates)
    remaining = place.seconds / place.step * max(total_steps - place.step, 0)
    journal.training(
        place.step,
        place.epoch,
        remaining,
        loss=sum(update.smoothed_loss for update in updates) / tokens,
        nll=sum(update.negative_log_prob for update in updates) / tokens,
        tokens_per_s=tokens / seconds,
        waiting_share=since.waited_s / seconds,
        learning_rate=learning_rate(config, place.step, place.plateau_cuts),
        gradient_norm=sum(update.gradient_norm for update in updates) / len(updates),
        clipped_share=clipped / len(updates),
    )
    place.clipped += clipped
    if place.step % (50 * REPORT_EVERY_STEPS) == 0:
        if place.clipped > 25 * REPORT_EVERY_STEPS:
            journal.say(
                f"the gradient was clipped in {place.clipped} of the last "
                f"{50 * REPORT_EVERY_STEPS} updates; if the loss is unsteady, lower "
                f"optimization.learning_rate or raise optimization.warmup_steps"
            )
        place.clipped = 0


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; a second one of them acts as usual."""
    stop = threading.Event()
    kept: dict[signal.Signals, Any] = {}

    def ask_to_stop(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, kept[signal.Signals(number)])

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            kept[number] = signal.signal(number, ask_to_stop)
    try:
        yield stop
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
