"""Builds the optimizer, computes the learning rate, averages the weights."""

import math

import torch
from torch import Tensor, nn

from training.config import OptimizationConfig


def build_optimizer(network: nn.Module, config: OptimizationConfig) -> torch.optim.Optimizer:
    """Builds Adam (Kingma and Ba, 2015) or AdamW (Loshchilov and Hutter, 2019), fused."""
    betas = (0.9, config.beta2)
    if config.optimizer == "adam":
        return torch.optim.Adam(
            network.parameters(), lr=config.learning_rate, betas=betas, fused=True
        )
    matrices = [p for p in network.parameters() if p.dim() > 1]
    vectors = [p for p in network.parameters() if p.dim() <= 1]  # biases and norms do not decay
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, fused=True)


def learning_rate(config: OptimizationConfig, step: int, plateau_cuts: int) -> float:
    """Returns the learning rate of update `step`, counted from 1.

    After a linear warm-up, inverse_sqrt falls with the square root of the step (Vaswani et al.,
    2017), and plateau is multiplied by its factor each time the dev score stops rising.
    """
    warmup = max(config.warmup_steps, 1)
    if step < warmup:
        return config.learning_rate * step / warmup
    if config.schedule == "inverse_sqrt":
        return config.learning_rate * math.sqrt(warmup / step)
    if config.schedule == "plateau":
        return config.learning_rate * math.pow(config.plateau_factor, plateau_cuts)
    return config.learning_rate


class AveragedWeights:
    """Exponential moving average of the parameters (Polyak and Juditsky, 1992).

    The decay starts at 2 / 11 and grows, so that early averages are over few updates.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.averages = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Adds the weights after update `step` to the average."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.averages, [p.detach() for p in self.parameters], 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchanges averages and weights; a second call undoes the first."""
        for average, parameter in zip(self.averages, self.parameters, strict=True):
            weights = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(weights)

    def state(self) -> dict[str, Tensor]:
        """Returns the averages by their index."""
        return {f"{index}": average for index, average in enumerate(self.averages)}

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """Restores the averages that `state` returned."""
        for index, average in enumerate(self.averages):
            average.copy_(state[f"{index}"])
