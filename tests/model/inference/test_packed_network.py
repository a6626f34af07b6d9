"""The packed network equals the trained network, in every combination of settings."""

from functools import partial
from typing import Any

import pytest
import torch

from model.inference.packed_network import PackedNetwork
from model.inference.products import ProductPrecision, int8_failure
from model.network.batch import SourceBatch
from model.network.seq2seq import Seq2Seq
from model.text.tokenizer import BOS, EOS, PAD
from tests.networks import build, combinations, name
from tests.slow_step import slow_step

SOURCES = [[5, 6, 7, 8, EOS], [9, EOS], [10, 11, 12, EOS], [4, 4, EOS]]
BEAM = 2
PREVIOUS = torch.tensor([[BOS, BOS, BOS, BOS], [5, 6, 7, 8], [9, 10, 11, 12], [4, 5, 6, 7]])
PARENTS = torch.tensor([0, 0, 2, 3, 5, 4, 6, 6])

precisions = [
    "fp32",
    "bf16",
    pytest.param(
        "int8",
        marks=pytest.mark.skipif(int8_failure() is not None, reason=f"no int8: {int8_failure()}"),
    ),
]
# Of log_probs around 2.5; bf16 and int8 keep 8 bits of a number.
TOLERANCE = {"fp32": 1e-5, "bf16": 0.15, "int8": 0.15}


def steps(network: PackedNetwork | Seq2Seq) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Returns log_probs and attention of a few steps in which beams change places."""
    step = network.step if isinstance(network, PackedNetwork) else partial(slow_step, network)
    found = []
    with torch.no_grad():
        state = network.encode(SourceBatch.from_ids(SOURCES)).select(
            torch.arange(len(SOURCES)).repeat_interleave(BEAM)
        )
        for previous in PREVIOUS:
            output = step(previous.repeat_interleave(BEAM), state)
            logits = output.logits[:, : network.config.target_vocab_size]
            found.append((logits.log_softmax(-1), output.attention_weights))
            state = output.state.select(PARENTS)
    return found


@pytest.mark.parametrize("precision", precisions)
@pytest.mark.parametrize("choices", list(combinations()), ids=name)
def test_equals_the_trained_network(choices: dict[str, Any], precision: ProductPrecision) -> None:
    network = build(**choices)
    tolerance = TOLERANCE[precision] * (6 if choices["layer_norm"] and precision == "int8" else 1)
    for found, expected in zip(
        steps(PackedNetwork(network, precision)), steps(network), strict=True
    ):
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=0)


def test_later_training_does_not_change_it() -> None:
    network = build()
    packed = PackedNetwork(network, "fp32")
    before = steps(packed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    for ours, theirs in zip(steps(packed), before, strict=True):
        assert torch.equal(ours[0], theirs[0])


@pytest.mark.parametrize("precision", precisions)
def test_a_narrowed_step_scores_its_pieces_like_a_whole_one(precision: ProductPrecision) -> None:
    packed = PackedNetwork(build(), precision)
    state = packed.encode(SourceBatch.from_ids(SOURCES))
    pieces = torch.tensor([[EOS, 5, 12], [EOS, 7, PAD], [EOS, 4, 9], [EOS, PAD, PAD]])
    whole = packed.step(PREVIOUS[0], state).logits
    narrowed = packed.step(PREVIOUS[0], state, packed.narrowing(pieces)).logits
    real = pieces != PAD
    tolerance = 0.05 if precision == "bf16" else 1e-5
    torch.testing.assert_close(
        narrowed[real], whole.gather(1, pieces)[real], atol=tolerance, rtol=0
    )
    assert (narrowed[~real] == -torch.inf).all()
