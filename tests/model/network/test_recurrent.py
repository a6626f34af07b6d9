"""Each kind of cell compared with its equations in plain floats."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from model.config import CellKind
from model.inference import cells
from model.network.recurrent import RecurrentLayer, RecurrentState, reorder, reversed_positions
from tests.slow_step import slow_cell

Vector = list[float]
CELLS: tuple[CellKind, ...] = ("lstm", "gru", "rnn")
GATES: dict[CellKind, tuple[str, ...]] = {  # in the order in which torch stacks them
    "lstm": ("input", "forget", "cell", "output"),
    "gru": ("reset", "update", "new"),
    "rnn": ("new",),
}
SEQUENCES = [  # (batch 2, time 3, size 3)
    [[1.0, -2.0, 0.5], [0.5, 3.0, -1.0], [-1.0, 0.25, 2.0]],
    [[0.0, 1.0, -0.5], [2.0, -1.0, 1.5], [0.75, -3.0, 1.0]],
]
START_HIDDEN = [[0.5, -0.25], [-1.0, 0.75]]
START_CELL = [[2.0, -1.0], [0.5, 1.5]]


@dataclass(frozen=True)
class Gate:
    """Weights and bias of one gate; one row per hidden unit."""

    of_input: list[Vector]
    of_hidden: list[Vector]
    input_bias: Vector
    hidden_bias: Vector

    def from_input(self, inputs: Vector) -> Vector:
        return affine(self.of_input, inputs, self.input_bias)

    def from_hidden(self, hidden: Vector) -> Vector:
        return affine(self.of_hidden, hidden, self.hidden_bias)

    def sum(self, inputs: Vector, hidden: Vector) -> Vector:
        return [
            a + b for a, b in zip(self.from_input(inputs), self.from_hidden(hidden), strict=True)
        ]


def gate(number: int) -> Gate:
    """Simple numbers, different in every place and gate."""
    shift = 0.3 * number
    return Gate(
        of_input=[[0.1 + shift, -0.2, 0.3], [0.4 - shift, 0.5, -0.6]],
        of_hidden=[[0.2 - shift, 0.7], [-0.3, 0.1 + shift]],
        input_bias=[0.05 + shift, -0.1],
        hidden_bias=[-0.15, 0.2 - shift],
    )


def affine(matrix: list[Vector], vector: Vector, bias: Vector) -> Vector:
    return [
        sum(w * v for w, v in zip(row, vector, strict=True)) + b
        for row, b in zip(matrix, bias, strict=True)
    ]


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def lstm(gates: dict[str, Gate], x: Vector, hidden: Vector, cell: Vector) -> tuple[Vector, Vector]:
    """c' = f c + i g and h' = o tanh(c'): Hochreiter and Schmidhuber (1997), with Gers's forget."""
    i, f, g, o = (gates[name].sum(x, hidden) for name in GATES["lstm"])
    new_cell = [
        sigmoid(f[unit]) * cell[unit] + sigmoid(i[unit]) * math.tanh(g[unit]) for unit in range(2)
    ]
    return [sigmoid(o[unit]) * math.tanh(new_cell[unit]) for unit in range(2)], new_cell


def gru(gates: dict[str, Gate], x: Vector, hidden: Vector) -> Vector:
    """h' = (1 - z) n + z h: Cho et al. (2014), the reset gate after the product as in cuDNN."""
    reset = [sigmoid(a) for a in gates["reset"].sum(x, hidden)]
    update = [sigmoid(a) for a in gates["update"].sum(x, hidden)]
    from_input, from_hidden = gates["new"].from_input(x), gates["new"].from_hidden(hidden)
    new = [math.tanh(from_input[unit] + reset[unit] * from_hidden[unit]) for unit in range(2)]
    return [(1.0 - update[unit]) * new[unit] + update[unit] * hidden[unit] for unit in range(2)]


def expected_states(
    kind: CellKind, sequence: list[Vector], hidden: Vector, cell: Vector
) -> tuple[list[Vector], list[Vector]]:
    """Hidden states and LSTM memories after every input."""
    gates = {name: gate(number) for number, name in enumerate(GATES[kind])}
    hiddens, cells = [], []
    for x in sequence:
        if kind == "lstm":
            hidden, cell = lstm(gates, x, hidden, cell)
        elif kind == "gru":
            hidden = gru(gates, x, hidden)
        else:
            hidden = [math.tanh(a) for a in gates["new"].sum(x, hidden)]
        hiddens.append(hidden)
        cells.append(cell)
    return hiddens, cells


def layer_of_known_weights(kind: CellKind) -> RecurrentLayer:
    layer = RecurrentLayer(kind, 3, 2)
    gates = [gate(number) for number in range(len(GATES[kind]))]
    layer.rnn.load_state_dict(
        {
            "weight_ih_l0": torch.tensor([row for g in gates for row in g.of_input]),
            "weight_hh_l0": torch.tensor([row for g in gates for row in g.of_hidden]),
            "bias_ih_l0": torch.tensor([bias for g in gates for bias in g.input_bias]),
            "bias_hh_l0": torch.tensor([bias for g in gates for bias in g.hidden_bias]),
        }
    )
    return layer


def start(kind: CellKind) -> RecurrentState:
    memory = torch.tensor(START_CELL) if kind == "lstm" else None
    return RecurrentState(torch.tensor(START_HIDDEN), memory)


def from_known_start(kind: CellKind) -> tuple[Tensor, Tensor]:
    """Hidden states and memories of both sequences, (batch, time, hidden) each."""
    states = [
        expected_states(kind, *given)
        for given in zip(SEQUENCES, START_HIDDEN, START_CELL, strict=True)
    ]
    return torch.tensor([h for h, _ in states]), torch.tensor([c for _, c in states])


@pytest.mark.parametrize("kind", CELLS)
def test_a_sequence_follows_the_equations(kind: CellKind) -> None:
    with torch.no_grad():
        outputs = layer_of_known_weights(kind)(torch.tensor(SEQUENCES), start(kind))
    torch.testing.assert_close(outputs, from_known_start(kind)[0])


@pytest.mark.parametrize("kind", CELLS)
def test_a_sequence_starts_at_zero_when_nothing_is_given(kind: CellKind) -> None:
    nothing = [0.0, 0.0]
    expected = [expected_states(kind, sequence, nothing, nothing)[0] for sequence in SEQUENCES]
    with torch.no_grad():
        outputs = layer_of_known_weights(kind)(torch.tensor(SEQUENCES))
    torch.testing.assert_close(outputs, torch.tensor(expected))


def packed_cell(layer: RecurrentLayer, inputs: Tensor, state: RecurrentState) -> RecurrentState:
    cell = cells.Cell(layer, "fp32")
    return cell.step(functional.linear(inputs, cell.input_weight, cell.input_bias), state)


@pytest.mark.parametrize("step", [slow_cell, packed_cell])
@pytest.mark.parametrize("kind", CELLS)
def test_steps_follow_the_equations(
    kind: CellKind, step: Callable[[RecurrentLayer, Tensor, RecurrentState], RecurrentState]
) -> None:
    layer, state = layer_of_known_weights(kind), start(kind)
    hidden, cell = from_known_start(kind)
    with torch.no_grad():
        for time, inputs in enumerate(torch.tensor(SEQUENCES).unbind(dim=1)):
            state = step(layer, inputs, state)
            torch.testing.assert_close(state.hidden, hidden[:, time])
            if kind == "lstm":
                torch.testing.assert_close(state.cell, cell[:, time])
            else:
                assert state.cell is None


@pytest.mark.parametrize("kind", CELLS)
def test_padding_behind_a_sequence_changes_no_real_state(kind: CellKind) -> None:
    layer = layer_of_known_weights(kind)
    padded = torch.tensor(SEQUENCES)
    padded[0, 2] = 100.0
    with torch.no_grad():
        outputs = layer(padded, start(kind))
    torch.testing.assert_close(outputs[0, :2], from_known_start(kind)[0][0, :2])
    torch.testing.assert_close(outputs[1], from_known_start(kind)[0][1])


@pytest.mark.parametrize("kind", CELLS)
def test_every_gate_starts_orthogonal_and_only_the_forget_gate_open(kind: CellKind) -> None:
    weights = RecurrentLayer(kind, 3, 5).rnn.state_dict()
    for number, name in enumerate(GATES[kind]):
        rows = slice(5 * number, 5 * number + 5)
        recurrent = weights["weight_hh_l0"][rows]
        torch.testing.assert_close(recurrent @ recurrent.T, torch.eye(5), atol=1e-5, rtol=0)
        bias = (weights["bias_ih_l0"] + weights["bias_hh_l0"])[rows]
        assert (bias == (1.0 if name == "forget" else 0.0)).all()


def test_reversed_positions_leave_padding_where_it_is() -> None:
    positions = reversed_positions(torch.tensor([4, 1, 3]), 4)
    assert positions.tolist() == [[3, 2, 1, 0], [0, 1, 2, 3], [2, 1, 0, 3]]


def test_reordering_twice_gives_the_first_order_back() -> None:
    sequence = torch.arange(12.0).view(2, 3, 2)
    positions = reversed_positions(torch.tensor([2, 3]), 3)
    mirrored = reorder(sequence, positions)
    assert mirrored[0].tolist() == [[2.0, 3.0], [0.0, 1.0], [4.0, 5.0]]
    assert mirrored[1].tolist() == [[10.0, 11.0], [8.0, 9.0], [6.0, 7.0]]
    assert torch.equal(reorder(mirrored, positions), sequence)
