"""The training loop: forward, loss, backward, clip, step; now and then validate, save, maybe stop.

Everything the loop changes is in the run state (`run_state.py`), so a run that is killed at any
moment goes on from its last state to the weights that an unbroken run would have reached.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.seq2seq import Seq2Seq
from model.tokenizer import PAD
from training.batching import PairBatch, epoch_batches, read_batch
from training.config import OptimizationConfig, TrainingConfig
from training.errors import DivergenceError
from training.journal import Journal
from training.loss import cross_entropy
from training.optimization import AveragedWeights, build_optimizer, learning_rate
from training.run_state import LAST, BestState, Place, load_run_state, save_run_state, save_weights
from training.token_store import TokenStore
from training.validation import DevScores

REPORT_EVERY_STEPS = 20
NAN_STEPS = 3  # updates in a row without a finite gradient before the run stops


@dataclass(frozen=True)
class Update:
    """One update of the weights, in sums over its target tokens."""

    smoothed_loss: float
    negative_log_prob: float
    target_tokens: int
    gradient_norm: float  # before clipping


class Trainer:
    """A network on its way: weights, optimizer, averages and place, which are saved together."""

    def __init__(self, network: Seq2Seq, config: TrainingConfig, states: Path) -> None:
        self.network = network
        self.config = config
        self.states = states
        self.optimizer = build_optimizer(network, config.optimization)
        decay = config.optimization.ema_decay
        self.averages = AveragedWeights(network, decay) if decay else None
        self.place = Place()
        self.device = next(network.parameters()).device
        self.dtype = training_dtype(config.optimization, self.device)

    def resume(self) -> None:
        """Takes up the last run state."""
        self.place = load_run_state(
            self.states / LAST,
            network=self.network,
            optimizer=self.optimizer,
            averages=self.averages,
        )

    def save(self) -> None:
        """Writes the last run state; DivergenceError, and the old one stays, if it is no good."""
        if not all(parameter.isfinite().all() for parameter in self.network.parameters()):
            raise DivergenceError(_explain_divergence(self.config.optimization, self.place.step))
        save_run_state(
            self.states / LAST,
            network=self.network,
            optimizer=self.optimizer,
            averages=self.averages,
            place=self.place,
        )

    def update(self, batches: list[PairBatch]) -> Update:
        """One step of the optimizer on the gradient summed over `batches`.

        The gradient is divided by the number of target tokens in all of them, so accumulating
        over several batches equals one large batch. A gradient that is not finite changes nothing.
        """
        config = self.config.optimization
        self.network.train()
        target_tokens = sum(batch.num_target_tokens for batch in batches)
        smoothed = negative = 0.0
        for batch in batches:
            batch = batch.to(self.device)
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                readouts = self.network.readouts(batch.source, batch.target_input)
                real = batch.target_output != PAD
                loss = cross_entropy(
                    readouts[real],
                    self.network.output,
                    batch.target_output[real],
                    config.label_smoothing,
                )
            (loss.smoothed / target_tokens).backward()
            smoothed += loss.smoothed.item()
            negative += loss.negative_log_prob.item()
        norm = torch.nn.utils.clip_grad_norm_(
            self.network.parameters(), config.clip_norm, foreach=True
        ).item()
        if math.isfinite(norm) and math.isfinite(smoothed):
            rate = learning_rate(config, self.place.step + 1, self.place.plateau_cuts)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
            if self.averages is not None:
                self.averages.update(self.place.step + 1)
        self.optimizer.zero_grad(set_to_none=True)
        return Update(smoothed, negative, target_tokens, norm)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the network computes with its averaged weights."""
        if self.averages is None:
            yield
            return
        self.averages.swap()
        try:
            yield
        finally:
            self.averages.swap()

    def judge(self, score: float) -> bool:
        """Keeps the state if it is among the best; True when the run should stop."""
        place, config = self.place, self.config
        best_so_far = place.best[0].score if place.best else -math.inf
        # Before the first right word BLEU stays at 0: that is no lack of progress yet.
        improved = score > best_so_far or score == best_so_far == 0.0
        kept = len(place.best) < config.validation.keep_best or score > place.best[-1].score
        if kept:
            file = f"best-{place.step:08d}.safetensors"
            save_weights(self.states / file, self.network, place, score)
            place.best = sorted(
                [*place.best, BestState(file, place.step, score)], key=lambda best: -best.score
            )[: config.validation.keep_best]
        place.since_best = 0 if improved else place.since_best + 1
        place.plateau_wait = 0 if improved else place.plateau_wait + 1
        if place.plateau_wait > config.optimization.plateau_patience:
            place.plateau_cuts += 1
            place.plateau_wait = 0
        return place.since_best >= config.validation.patience

    def drop_old_states(self) -> None:
        """Removes states no longer among the best; only after `save` named the new ones."""
        named = {best.file for best in self.place.best}
        for path in self.states.glob("best-*.safetensors"):
            if path.name not in named:
                path.unlink()


def training_dtype(config: OptimizationConfig, device: torch.device) -> torch.dtype:
    """bf16 where the device multiplies faster in it, measured once; the weights stay fp32."""
    if config.precision == "fp32":
        return torch.float32
    if config.precision == "bf16":
        return torch.bfloat16
    return torch.bfloat16 if _gains_from_bf16(device) else torch.float32


def _gains_from_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        left, right = (torch.randn(512, 512, generator=torch.Generator()).to(dtype) for _ in "ab")
        left @ right
        times = []
        for _ in range(5):
            start = time.perf_counter()
            left @ right
            times.append(time.perf_counter() - start)
        seconds[dtype] = min(times)
    return seconds[torch.bfloat16] * 1.3 < seconds[torch.float32]


def train_loop(
    trainer: Trainer,
    store: TokenStore,
    *,
    journal: Journal,
    validate: Callable[[], DevScores],
    stop: threading.Event,
    total_steps: int,
) -> None:
    """Runs until an end is reached or `stop` is set; the last run state says which."""
    config, place = trainer.config, trainer.place
    updates: list[Update] = []
    bad_steps = 0
    clock = time.monotonic()
    saved_at = reported_at = clock
    while not place.finished and not stop.is_set():
        batches = _epoch(config, store, place.epoch)
        accumulate = config.optimization.accumulate
        while place.batch < len(batches) and not place.finished and not stop.is_set():
            chosen = batches[place.batch : place.batch + accumulate]
            update = trainer.update([read_batch(store, pairs) for pairs in chosen])
            place.batch += len(chosen)
            place.step += 1
            place.target_tokens += update.target_tokens
            now = time.monotonic()
            place.seconds, clock = place.seconds + now - clock, now
            bad_steps = 0 if math.isfinite(update.gradient_norm) else bad_steps + 1
            if bad_steps == NAN_STEPS:
                raise DivergenceError(_explain_divergence(config.optimization, place.step))
            if not bad_steps:
                updates.append(update)
            if place.step % REPORT_EVERY_STEPS == 0 and updates:
                _report(trainer, journal, updates, now - reported_at, total_steps)
                updates, reported_at = [], now
            at_end = place.batch >= len(batches)
            if _is_due(config, place, at_end):
                _validate(trainer, journal, validate)
                now = time.monotonic()
                place.seconds += now - clock
                reported_at += now - clock  # the speed of training leaves validation out
                clock = saved_at = now
            elif now - saved_at > 60 * config.save_every_minutes and not bad_steps:
                trainer.save()
                saved_at = now
        if place.batch >= len(batches):
            place.epoch += 1
            place.batch = 0
            if _reached(place.epoch, config.optimization.max_epochs) and not place.finished:
                place.finished = f"all {place.epoch} epochs are done"
    if not bad_steps:
        trainer.save()


def _epoch(config: TrainingConfig, store: TokenStore, epoch: int) -> list[NDArray[np.int64]]:
    batch_tokens = config.optimization.batch_tokens
    assert batch_tokens is not None  # filled in by defaults.py
    return epoch_batches(store, batch_tokens=batch_tokens, seed=config.seed, epoch=epoch)


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


def _validate(trainer: Trainer, journal: Journal, validate: Callable[[], DevScores]) -> None:
    place, config = trainer.place, trainer.config
    with trainer.averaged():
        scores = validate()
        if not math.isfinite(scores.nll):
            raise DivergenceError(_explain_divergence(config.optimization, place.step))
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
    trainer.save()
    trainer.drop_old_states()


def _report(
    trainer: Trainer, journal: Journal, updates: list[Update], seconds: float, total_steps: int
) -> None:
    place, config = trainer.place, trainer.config.optimization
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


def _explain_divergence(config: OptimizationConfig, step: int) -> str:
    return (
        f"the loss is not a number at step {step}: the gradient exploded. The last good run state "
        f"is kept. Lower optimization.learning_rate (now {config.learning_rate:g}) or "
        f"optimization.clip_norm (now {config.clip_norm:g}), then resume or start again"
    )


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
