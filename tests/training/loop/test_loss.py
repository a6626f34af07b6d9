"""Tests that the chunked loss equals torch's cross-entropy, in values and gradients."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.loop import loss as loss_module
from training.loop.loss import cross_entropy

TOKENS, EMB, VOCAB = 37, 6, 11


@dataclass
class Case:
    """Makes readouts, an output layer and target ids."""

    readouts: Tensor
    output: nn.Linear
    targets: Tensor

    def gradients(self) -> list[Tensor]:
        found = [self.readouts.grad, self.output.weight.grad, self.output.bias.grad]
        for tensor in (self.readouts, self.output.weight, self.output.bias):
            tensor.grad = None
        return [gradient for gradient in found if gradient is not None]


@pytest.fixture
def case() -> Case:
    torch.manual_seed(0)
    return Case(
        torch.randn(TOKENS, EMB, requires_grad=True),
        nn.Linear(EMB, VOCAB),
        torch.randint(0, VOCAB, (TOKENS,)),
    )


@pytest.fixture(params=[1, 5, 36, 37, 38, 1000])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_module, "CHUNK_TOKENS", request.param)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_values_and_gradients_are_those_of_torch(case: Case, smoothing: float) -> None:
    expected = functional.cross_entropy(
        case.output(case.readouts), case.targets, reduction="sum", label_smoothing=smoothing
    )
    plain = functional.cross_entropy(case.output(case.readouts), case.targets, reduction="sum")
    (expected / 7).backward()
    wanted = case.gradients()

    found = cross_entropy(case.readouts, case.output, case.targets, smoothing)
    (found.smoothed / 7).backward()

    torch.testing.assert_close(found.smoothed, expected)
    torch.testing.assert_close(found.negative_log_prob, plain)
    assert not found.negative_log_prob.requires_grad
    for gradient, right in zip(case.gradients(), wanted, strict=True):
        torch.testing.assert_close(gradient, right, rtol=1e-5, atol=1e-6)


def test_the_loss_of_two_words_equals_hand_arithmetic() -> None:
    # Logits log 1, log 3 and a half each of smoothing: -log(3/4) and the mean of -log(1/4, 3/4).
    output = nn.Linear(1, 2)
    with torch.no_grad():
        output.weight.zero_()
        output.bias.copy_(torch.tensor([1.0, 3.0]).log())
    found = cross_entropy(torch.zeros(1, 1), output, torch.tensor([1]), 0.5)
    quarter, three = torch.tensor(4.0).log(), torch.tensor(4.0 / 3).log()
    torch.testing.assert_close(found.negative_log_prob, three)
    torch.testing.assert_close(found.smoothed, 0.5 * three + 0.5 * (quarter + three) / 2)


def test_a_tied_matrix_gets_both_gradients(case: Case) -> None:
    embedding = nn.Embedding(VOCAB, EMB)
    case.output.weight = embedding.weight

    def gradient(chunked: bool) -> Tensor:
        readouts = torch.tanh(embedding(case.targets))
        if chunked:
            total = cross_entropy(readouts, case.output, case.targets, 0.1).smoothed
        else:
            total = functional.cross_entropy(
                case.output(readouts), case.targets, reduction="sum", label_smoothing=0.1
            )
        embedding.zero_grad()
        total.backward()
        assert embedding.weight.grad is not None
        return embedding.weight.grad.clone()

    torch.testing.assert_close(gradient(True), gradient(False))


def test_bf16_stays_close_to_fp32(case: Case) -> None:
    right = cross_entropy(case.readouts, case.output, case.targets, 0.1)
    right.smoothed.backward()
    wanted = case.gradients()
    with torch.autocast("cpu", torch.bfloat16):
        rough = cross_entropy(case.readouts, case.output, case.targets, 0.1)
    rough.smoothed.backward()

    assert rough.smoothed.dtype == torch.float32
    # 8 bits of mantissa: half a percent a number, far less in a sum of many
    torch.testing.assert_close(rough.smoothed, right.smoothed, rtol=5e-3, atol=0)
    torch.testing.assert_close(rough.negative_log_prob, right.negative_log_prob, rtol=5e-3, atol=0)
    for gradient, correct in zip(case.gradients(), wanted, strict=True):
        assert gradient.dtype == torch.float32
        torch.testing.assert_close(gradient, correct, rtol=0.05, atol=0.05)


def test_without_gradients_only_values_are_computed(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = cross_entropy(case.readouts, case.output, case.targets, 0.1)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a gradient was computed that is not used")

    monkeypatch.setattr(torch, "mm", refuse)
    with torch.no_grad():
        found = cross_entropy(case.readouts, case.output, case.targets, 0.1)
    assert not found.smoothed.requires_grad
    torch.testing.assert_close(found.smoothed, right.smoothed)
    torch.testing.assert_close(found.negative_log_prob, right.negative_log_prob)


def test_the_output_layer_is_trained_with_frozen_readouts(case: Case) -> None:
    cross_entropy(case.readouts.detach(), case.output, case.targets, 0.1).smoothed.backward()
    assert case.output.weight.grad is not None
    assert case.output.weight.grad.abs().sum() > 0


def test_extreme_logits_stay_finite() -> None:
    output = nn.Linear(1, 3)
    readouts = torch.tensor([[1e4]], requires_grad=True)
    with torch.no_grad():
        output.weight.copy_(torch.tensor([[1.0], [0.0], [-1.0]]))
    found = cross_entropy(readouts, output, torch.tensor([2]), 0.0)
    found.smoothed.backward()
    torch.testing.assert_close(found.negative_log_prob.item(), 2e4, rtol=1e-3, atol=0)
    assert readouts.grad is not None
    assert readouts.grad.isfinite().all()
