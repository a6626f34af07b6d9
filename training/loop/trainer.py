"""A network under training: one update of its weights, and what is kept of them.

When to update, validate, save and stop is the loop's affair (`loop.py`). Everything that changes is
in the run state (`state.py`), so a run that is killed at any moment goes on from its last state
to the weights that an unbroken run would have reached.
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
from training.config import OptimizationConfig, TrainingConfig
from training.errors import DivergenceError, RunError
from training.loop.batching import PairBatch
from training.loop.distributed import ALONE, World
from training.loop.loss import cross_entropy
from training.loop.optimization import AveragedWeights, build_optimizer, learning_rate
from training.loop.state import (
    LAST,
    BestState,
    Place,
    load_run_state,
    place_from_json,
    place_to_json,
    save_run_state,
    save_weights,
)


@dataclass(frozen=True)
class Update:
    """One update of the weights, in sums over its target tokens, those of all workers."""

    smoothed_loss: float
    negative_log_prob: float
    target_tokens: int
    gradient_norm: float  # before clipping


class Trainer:
    """A network on its way: weights, optimizer, averages and place, which are saved together."""

    def __init__(
        self,
        network: Seq2Seq,
        config: TrainingConfig,
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
        """Writes the last run state, if this is the writer.

        DivergenceError, and the old one stays, if it is no good.
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
            place=self.place,
        )

    def agree_on_start(self) -> None:
        """Before the first update: every worker has the writer's weights and its place."""
        own_step = self.place.step
        self.take_writers_place()
        if self.world.any(own_step != self.place.step):
            raise RunError(
                f"the workers do not see the same run states in {self.states}; a run on several "
                f"machines needs a folder that all of them share"
            )
        self.world.spread_weights(list(self.network.parameters()))

    def take_writers_place(self) -> None:
        """After the writer alone has judged and counted: its place becomes every worker's."""
        if self.world.size > 1:
            self.place = place_from_json(self.world.spread(place_to_json(self.place)))

    def update(self, batches: Sequence[PairBatch], target_tokens: int | None = None) -> Update:
        """One step of the optimizer on the gradient summed over `batches`.

        The gradient is divided by the number of target tokens in all of them, so accumulating
        over several batches equals one large batch. A gradient that is not finite changes nothing.
        With several workers `batches` are this one's share, possibly none, of `target_tokens`.
        """
        config = self.config.optimization
        self.network.train()
        if target_tokens is None:
            target_tokens = sum(batch.num_target_tokens for batch in batches)
        if self.world.size > 1:
            # Masks of its own for each worker, and the same ones after a resume.
            torch.manual_seed(self.world.seed(self.config.seed, self.place.step))
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
            sums = self._add_up(sums)
        gradient_norm = torch.nn.utils.clip_grad_norm_(
            self.network.parameters(), config.clip_norm, foreach=True
        )
        # The only moment of an update at which the program waits for a GPU.
        smoothed, negative, norm = torch.cat([sums, gradient_norm.reshape(1)]).tolist()
        if math.isfinite(norm) and math.isfinite(smoothed):
            rate = learning_rate(config, self.place.step + 1, self.place.plateau_cuts)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
            if self.averages is not None:
                self.averages.update(self.place.step + 1)
        self.optimizer.zero_grad(set_to_none=True)
        return Update(smoothed, negative, target_tokens, norm)

    def _add_up(self, sums: Tensor) -> Tensor:
        """Gradients and sums become those of all workers."""
        parameters = list(self.network.parameters())
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        sums, *gradients = self.world.add_up([sums, *gradients])
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        return sums

    def divergence(self) -> DivergenceError:
        """What to raise when the weights or the loss are no numbers."""
        config = self.config.optimization
        return DivergenceError(
            f"the loss is not a number at step {self.place.step}: the gradient exploded. The last "
            f"good run state is kept. Lower optimization.learning_rate (now "
            f"{config.learning_rate:g}) or optimization.clip_norm (now {config.clip_norm:g}), then "
            f"resume or start again"
        )

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
