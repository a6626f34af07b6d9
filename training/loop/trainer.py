"""Trainer: updates the weights of a network, saves and restores it, keeps its best states.

`loop.py` decides when to update, validate, save and stop; `add_dev_score` has the rule of early
stopping. Everything that changes is in the run state (`state.py`), so a killed and resumed run
reaches the same weights as an unbroken one.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from model.network.seq2seq import Seq2Seq
from model.text.tokenizer import PAD
from training.config import OptimizationConfig, ResolvedConfig
from training.errors import DivergenceError, RunError
from training.loop.batching import PairBatch
from training.loop.distributed import ALONE, World
from training.loop.loss import cross_entropy
from training.loop.optimization import AveragedWeights, build_optimizer, learning_rate
from training.loop.state import (
    LAST,
    BestState,
    RunProgress,
    load_run_state,
    progress_from_json,
    progress_to_json,
    save_run_state,
    save_weights,
)


@dataclass(frozen=True)
class Update:
    """Result of one update of the weights: sums over the target tokens of all workers."""

    smoothed_loss: float
    negative_log_prob: float
    target_tokens: int
    gradient_norm: float  # before clipping


class Trainer:
    """Trains a network; weights, optimizer, averages and progress are saved together."""

    def __init__(
        self,
        network: Seq2Seq,
        config: ResolvedConfig,
        states: Path,
        *,
        world: World = ALONE,
    ) -> None:
        self.network = network
        self.config = config
        self.states = states
        self.world = world
        self.optimizer = build_optimizer(network, config.optimization)
        decay = config.optimization.ema_decay
        self.averages = AveragedWeights(network, decay) if decay else None
        self.progress = RunProgress()
        self.device = next(network.parameters()).device
        self.dtype = training_dtype(config.optimization, self.device)

    def resume(self) -> None:
        """Restores the last run state."""
        self.progress = load_run_state(
            self.states / LAST,
            network=self.network,
            optimizer=self.optimizer,
            averages=self.averages,
        )

    def save(self) -> None:
        """Writes the last run state, if this worker is the writer.

        Raises DivergenceError, and keeps the state on disk, if a weight is not finite.
        """
        if not self.world.is_writer:
            return
        if not all(parameter.isfinite().all() for parameter in self.network.parameters()):
            raise self.divergence()
        save_run_state(
            self.states / LAST,
            network=self.network,
            optimizer=self.optimizer,
            averages=self.averages,
            progress=self.progress,
        )

    def agree_on_start(self) -> None:
        """Gives every worker the writer's weights and progress; call it before the first update."""
        own_step = self.progress.step
        self.copy_writers_progress()
        if self.world.any_worker(own_step != self.progress.step):
            raise RunError(
                f"the workers loaded different run states from {self.states}; a run on several "
                f"machines needs a folder that all of them share"
            )
        self.world.broadcast_weights(list(self.network.parameters()))

    def copy_writers_progress(self) -> None:
        """Copies the writer's progress to every worker; call it after a validation."""
        if self.world.size > 1:
            self.progress = progress_from_json(
                self.world.broadcast_text(progress_to_json(self.progress))
            )

    def update(self, batches: Sequence[PairBatch], target_tokens: int | None = None) -> Update:
        """Makes one optimizer step on the gradient summed over `batches`.

        The gradient is divided by the number of target tokens in all batches, so accumulating over
        several batches equals one large batch. A gradient that is not finite changes no weight.
        With several workers, `batches` is this worker's share, possibly empty, and `target_tokens`
        counts the tokens of all workers.
        """
        config = self.config.optimization
        self.network.train()
        if target_tokens is None:
            target_tokens = sum(batch.num_target_tokens for batch in batches)
        if self.world.size > 1:
            # Each worker draws its own dropout masks, the same ones again after a resume.
            torch.manual_seed(self.world.seed(self.config.seed, self.progress.step))
        sums = torch.zeros(2, device=self.device)  # smoothed loss, negative log-probability
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
            sums += torch.stack([loss.smoothed.detach(), loss.negative_log_prob])
        if self.world.size > 1:
            sums = self._all_reduce_gradients(sums)
        gradient_norm = torch.nn.utils.clip_grad_norm_(
            self.network.parameters(), config.clip_norm, foreach=True
        )
        # The only point in an update where the program waits for the GPU.
        smoothed, negative, norm = torch.cat([sums, gradient_norm.reshape(1)]).tolist()
        if math.isfinite(norm) and math.isfinite(smoothed):
            rate = learning_rate(config, self.progress.step + 1, self.progress.plateau_cuts)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
            if self.averages is not None:
                self.averages.update(self.progress.step + 1)
        self.optimizer.zero_grad(set_to_none=True)
        return Update(smoothed, negative, target_tokens, norm)

    def _all_reduce_gradients(self, sums: Tensor) -> Tensor:
        """Sums the gradients (in place) and `sums` (returned) over all workers."""
        parameters = list(self.network.parameters())
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        sums, *gradients = self.world.all_reduce([sums, *gradients])
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        return sums

    def divergence(self) -> DivergenceError:
        """Makes the error for weights or a loss that are not finite."""
        config = self.config.optimization
        return DivergenceError(
            f"the loss is not a number at step {self.progress.step}: the gradient exploded. The "
            f"last good run state was kept. Lower optimization.learning_rate (now "
            f"{config.learning_rate:g}) or optimization.clip_norm (now {config.clip_norm:g}), then "
            f"resume or start again"
        )

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Makes the network compute with its averaged weights inside the block."""
        if self.averages is None:
            yield
            return
        self.averages.swap()
        try:
            yield
        finally:
            self.averages.swap()

    def add_dev_score(self, score: float) -> bool:
        """Keeps the state if its score is among the best; returns True for early stopping.

        That is after `validation.patience` validations in a row without a better score. A higher
        score is better, also for the metric loss.
        """
        progress, config = self.progress, self.config
        best_so_far = progress.best[0].score if progress.best else -math.inf
        # BLEU is 0 until the first correct word; that does not count against patience.
        improved = score > best_so_far or score == best_so_far == 0.0
        kept = len(progress.best) < config.validation.keep_best or score > progress.best[-1].score
        if kept:
            file = f"best-{progress.step:08d}.safetensors"
            save_weights(self.states / file, self.network, progress, score)
            progress.best = sorted(
                [*progress.best, BestState(file, progress.step, score)],
                key=lambda best: -best.score,
            )[: config.validation.keep_best]
        progress.since_best = 0 if improved else progress.since_best + 1
        progress.plateau_wait = 0 if improved else progress.plateau_wait + 1
        if progress.plateau_wait > config.optimization.plateau_patience:
            progress.plateau_cuts += 1
            progress.plateau_wait = 0
        return progress.since_best >= config.validation.patience

    def drop_old_states(self) -> None:
        """Removes state files that are no longer among the best; call it after `save`."""
        named = {best.file for best in self.progress.best}
        for path in self.states.glob("best-*.safetensors"):
            if path.name not in named:
                path.unlink()


def training_dtype(config: OptimizationConfig, device: torch.device) -> torch.dtype:
    """Returns the number format of products: bf16 where the device multiplies faster in it."""
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
