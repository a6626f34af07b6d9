"""Each kind of attention compared with its equation in plain floats."""

import math
from typing import Any

import pytest
import torch

from model.config import ModelConfig
from model.network.attention import (
    AdditiveAttention,
    Attended,
    EncodedSource,
    MultiplicativeAttention,
    NoAttention,
    build_attention,
)
from tests.networks import SMALL

Vector = list[float]
# Two sources: three words, and two words and a padding place, whose numbers must not matter.
VALUES = [
    [[1.0, 0.0, 0.5, -1.0], [0.0, 2.0, -0.5, 1.0], [-1.0, 1.0, 1.5, 0.25]],
    [[0.5, -0.5, 1.0, 0.0], [2.0, 1.0, 0.0, -2.0], [99.0, -99.0, 99.0, 99.0]],
]
LENGTHS = [3, 2]
SUMMARIES = [[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]]
# Two queries a source: two words of a target, or two beams.
QUERIES = [[[1.0, -1.0], [0.5, 0.25]], [[-0.75, 2.0], [0.0, 1.0]]]
WIDE_QUERIES = [  # as wide as the values, which `dot` needs
    [[1.0, -1.0, 0.5, 0.0], [0.5, 0.25, -1.0, 2.0]],
    [[-0.75, 2.0, 1.0, 0.5], [0.0, 1.0, -0.5, 0.25]],
]
QUERY_MATRIX = [[0.2, -0.4], [0.6, 0.1], [-0.3, 0.5], [0.7, -0.2]]
KEY_MATRIX = [
    [0.1, 0.2, -0.3, 0.4],
    [0.5, -0.6, 0.1, 0.2],
    [0.3, 0.3, 0.2, -0.1],
    [0.0, 0.4, 0.6, 0.5],
]
KEY_BIAS = [0.05, -0.1, 0.15, 0.2]
ENERGY = [0.8, -1.2, 0.4, 1.5]


def config(attention: str, heads: int = 1) -> ModelConfig:
    choices: dict[str, Any] = {
        "attention": attention,
        "attention_heads": heads,
        "encoder_hidden": 2,
        "decoder_hidden": 4 if attention == "dot" else 2,
        "attention_size": 4,
    }
    return ModelConfig(**{**SMALL, **choices})


def additive(heads: int) -> AdditiveAttention:
    attention = AdditiveAttention(config("additive", heads))
    with torch.no_grad():
        attention.query.weight.copy_(torch.tensor(QUERY_MATRIX))
        attention.key.weight.copy_(torch.tensor(KEY_MATRIX))
        attention.key.bias.copy_(torch.tensor(KEY_BIAS))
        attention.energy.copy_(torch.tensor(ENERGY).view(heads, -1))
    return attention


def general(heads: int) -> MultiplicativeAttention:
    attention = MultiplicativeAttention(config("general", heads))
    assert isinstance(attention.query, torch.nn.Linear)
    with torch.no_grad():
        attention.query.weight.copy_(torch.tensor(QUERY_MATRIX))
    return attention


def product(matrix: list[Vector], vector: Vector) -> Vector:
    return [sum(w * v for w, v in zip(row, vector, strict=True)) for row in matrix]


def energy(kind: str, query: Vector, value: Vector, head: slice) -> float:
    """One head's score of a source place: Bahdanau et al. (2015) or Luong et al. (2015), scaled."""
    if kind == "additive":
        keys = [a + b for a, b in zip(product(KEY_MATRIX, value), KEY_BIAS, strict=True)]
        hidden = [math.tanh(q + k) for q, k in zip(product(QUERY_MATRIX, query), keys, strict=True)]
        return sum(v * h for v, h in zip(ENERGY[head], hidden[head], strict=True))
    if kind == "general":
        query = product(QUERY_MATRIX, query)
    compared = [q * k for q, k in zip(query[head], value[head], strict=True)]
    return sum(compared) / math.sqrt(len(compared))


def expected(kind: str, queries: list[list[Vector]], heads: int) -> tuple[Any, Any]:
    """Contexts (batch, queries, enc) and weights (batch, queries, src_len) as nested lists."""
    contexts, weights = [], []
    width = 4 // heads
    for values, length, asked in zip(VALUES, LENGTHS, queries, strict=True):
        row_contexts, row_weights = [], []
        for query in asked:
            context: Vector = []
            mean = [0.0, 0.0, 0.0]
            for number in range(heads):
                head = slice(number * width, (number + 1) * width)
                powers = [math.exp(energy(kind, query, v, head)) for v in values[:length]]
                shares = [power / sum(powers) for power in powers]
                for place, share in enumerate(shares):
                    mean[place] += share / heads
                for feature in range(head.start, head.stop):
                    context.append(
                        sum(s * v[feature] for s, v in zip(shares, values[:length], strict=True))
                    )
            row_contexts.append(context)
            row_weights.append(mean)
        contexts.append(row_contexts)
        weights.append(row_weights)
    return contexts, weights


def attend(
    attention: AdditiveAttention | MultiplicativeAttention | NoAttention,
    queries: list[list[Vector]],
) -> Attended:
    values = torch.tensor(VALUES)
    mask = torch.arange(3) < torch.tensor(LENGTHS).unsqueeze(1)
    with torch.no_grad():
        source = EncodedSource(attention.keys(values), values, mask, torch.tensor(SUMMARIES))
        attended: Attended = attention(torch.tensor(queries), source)
    return attended


def assert_follows(attended: Attended, contexts: Any, weights: Any) -> None:
    torch.testing.assert_close(attended.context, torch.tensor(contexts))
    torch.testing.assert_close(attended.weights, torch.tensor(weights))
    assert (attended.weights[1, :, 2] == 0.0).all()  # exactly, on padding


@pytest.mark.parametrize("heads", [1, 2])
def test_additive_attention_follows_its_equation(heads: int) -> None:
    assert_follows(attend(additive(heads), QUERIES), *expected("additive", QUERIES, heads))


@pytest.mark.parametrize("heads", [1, 2])
def test_general_attention_follows_its_equation(heads: int) -> None:
    assert_follows(attend(general(heads), QUERIES), *expected("general", QUERIES, heads))


@pytest.mark.parametrize("heads", [1, 2])
def test_dot_attention_follows_its_equation(heads: int) -> None:
    attention = MultiplicativeAttention(config("dot", heads))
    assert list(attention.parameters()) == []
    assert_follows(attend(attention, WIDE_QUERIES), *expected("dot", WIDE_QUERIES, heads))


def test_without_attention_the_summary_is_every_context() -> None:
    contexts = [[summary, summary] for summary in SUMMARIES]
    weights = [[[1 / 3, 1 / 3, 1 / 3]] * 2, [[0.5, 0.5, 0.0]] * 2]
    assert_follows(attend(NoAttention(), QUERIES), contexts, weights)


def test_a_source_of_one_word_gets_all_the_attention() -> None:
    values = torch.tensor(VALUES)[:, :1]
    mask = torch.ones(2, 1, dtype=torch.bool)
    attention = additive(2)
    with torch.no_grad():
        source = EncodedSource(attention.keys(values), values, mask, torch.tensor(SUMMARIES))
        attended = attention(torch.tensor(QUERIES), source)
    assert (attended.weights == 1.0).all()
    torch.testing.assert_close(attended.context, values.expand(-1, 2, -1))


def test_huge_energies_stay_finite() -> None:
    huge = [[[1e20 * number for number in query] for query in asked] for asked in WIDE_QUERIES]
    attended = attend(MultiplicativeAttention(config("dot")), huge)
    assert attended.context.isfinite().all()
    torch.testing.assert_close(attended.weights.sum(-1), torch.ones(2, 2))


@pytest.mark.parametrize(
    ("kind", "built"),
    [
        ("additive", AdditiveAttention),
        ("dot", MultiplicativeAttention),
        ("general", MultiplicativeAttention),
        ("none", NoAttention),
    ],
)
def test_the_configuration_names_the_attention(kind: str, built: type) -> None:
    attention = build_attention(config(kind))
    assert isinstance(attention, built)
    names = {name for name, _ in attention.named_parameters()}
    assert ("query.weight" in names) == (kind in ("additive", "general"))
