"""Tests learning rates and averages against hand arithmetic, and which weights decay."""

import pytest
import torch
from torch import nn

from tests.networks import build
from training.config import OptimizationConfig
from training.loop.optimization import AveragedWeights, build_optimizer, learning_rate


def rates(config: OptimizationConfig, *steps: int, cuts: int = 0) -> list[float]:
    return [learning_rate(config, step, cuts) for step in steps]


def test_warm_up_then_inverse_square_root() -> None:
    config = OptimizationConfig(learning_rate=0.8, warmup_steps=4, schedule="inverse_sqrt")
    # A quarter of the peak a step, then the peak times sqrt(4 / step).
    assert rates(config, 1, 2, 3, 4, 16, 64) == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.4, 0.2])


def test_plateau_cuts_apply_only_after_warm_up() -> None:
    config = OptimizationConfig(
        learning_rate=0.8, warmup_steps=4, schedule="plateau", plateau_factor=0.5
    )
    assert rates(config, 2, 4, 1000) == pytest.approx([0.4, 0.8, 0.8])
    assert rates(config, 4, 1000, cuts=3) == pytest.approx([0.1, 0.1])
    assert rates(config, 2, cuts=3) == pytest.approx([0.4])


def test_a_constant_rate_stays() -> None:
    config = OptimizationConfig(learning_rate=0.8, warmup_steps=2, schedule="constant")
    assert rates(config, 1, 2, 3, 10**6, cuts=5) == pytest.approx([0.4, 0.8, 0.8, 0.8])


def test_without_warm_up_the_first_update_has_the_highest_rate() -> None:
    for schedule in ("inverse_sqrt", "plateau", "constant"):
        config = OptimizationConfig.model_validate(
            {"learning_rate": 0.8, "warmup_steps": 0, "schedule": schedule}
        )
        assert rates(config, 1) == pytest.approx([0.8])


def one_weight(value: float) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(value)
    return layer


def set_to(layer: nn.Linear, value: float) -> None:
    with torch.no_grad():
        layer.weight.fill_(value)


def test_the_average_equals_hand_arithmetic() -> None:
    layer = one_weight(11.0)
    averages = AveragedWeights(layer, decay=0.5)
    set_to(layer, 0.0)
    averages.update(1)  # decay 2 / 11: 11 * 2 / 11
    assert averages.averages[0].item() == pytest.approx(2.0)
    set_to(layer, 4.0)
    averages.update(2)  # decay 3 / 12: 2 / 4 + 4 * 3 / 4
    assert averages.averages[0].item() == pytest.approx(3.5)
    set_to(layer, 1.5)
    averages.update(1000)  # decay 0.5, no longer 1001 / 1010
    assert averages.averages[0].item() == pytest.approx(2.5)
    assert layer.weight.item() == 1.5


def test_swapping_twice_changes_nothing() -> None:
    network = build()
    averages = AveragedWeights(network, decay=0.9)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    weights = [p.detach().clone() for p in network.parameters()]
    average = [a.clone() for a in averages.averages]
    averages.swap()
    assert all(map(torch.equal, network.parameters(), average))
    assert all(map(torch.equal, averages.averages, weights))
    averages.swap()
    assert all(map(torch.equal, network.parameters(), weights))
    assert all(map(torch.equal, averages.averages, average))


def test_averages_are_restored() -> None:
    first = AveragedWeights(build(seed=1), decay=0.9)
    second = AveragedWeights(build(seed=2), decay=0.9)
    second.load(first.state())
    assert all(map(torch.equal, first.averages, second.averages))
    with pytest.raises(KeyError):
        second.load({})


def test_adamw_decays_only_matrices() -> None:
    network = build(layer_norm=True)
    optimizer = build_optimizer(network, OptimizationConfig(weight_decay=0.25))
    assert isinstance(optimizer, torch.optim.AdamW)
    decay = {
        id(parameter): group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for name, parameter in network.named_parameters():
        assert decay.pop(id(parameter)) == (0.25 if parameter.dim() > 1 else 0.0), name
    assert not decay  # every parameter stands in one group


def test_adam_does_not_decay() -> None:
    optimizer = build_optimizer(build(), OptimizationConfig(optimizer="adam", weight_decay=0.25))
    assert type(optimizer) is torch.optim.Adam
    assert all(group["weight_decay"] == 0 for group in optimizer.param_groups)


def test_the_first_adamw_update_equals_hand_arithmetic() -> None:
    # Adam's first step is the rate, against the gradient's sign; before it, decay takes a share.
    layer = one_weight(2.0)
    config = OptimizationConfig(learning_rate=0.1, weight_decay=0.5, warmup_steps=0)
    optimizer = build_optimizer(layer, config)
    (layer.weight.sum() * 3).backward()
    optimizer.step()
    assert layer.weight.item() == pytest.approx(2.0 * (1 - 0.1 * 0.5) - 0.1)
