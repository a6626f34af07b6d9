"""Steps of LSTM, GRU and tanh layers, prepared for translating.

tanh(x) is computed as 2 sigmoid(2x) - 1 (pointwise.py); the weights are doubled beforehand.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from model.inference.products import ProductPrecision, pack
from model.network.pointwise import sigmoid_, tanh_of_half_
from model.network.recurrent import RecurrentLayer, RecurrentState


class Cell:
    """The step of a recurrent layer, whose input is given as its product with `input_weight`."""

    def __init__(
        self, layer: RecurrentLayer, precision: ProductPrecision, *, bound: float = 1.0
    ) -> None:
        weights = [weight.detach().float() for weight in layer.rnn.all_weights[0]]
        self.kind = layer.kind
        self.size = layer.hidden_size
        input_weight, hidden_weight, input_bias, hidden_bias = map(self._rearranged, weights)
        # A GRU's reset gate scales the hidden part of the candidate, its bias included.
        self.input_weight: Float[Tensor, "gates inputs"] = input_weight
        self.input_bias: Float[Tensor, " gates"] = input_bias
        self.hidden_product = pack(hidden_weight, hidden_bias, precision, bound=bound)

    def _rearranged(self, rows: Tensor) -> Tensor:
        """Doubles the gates that end in tanh; puts the sigmoid gates of an LSTM side by side."""
        if self.kind == "lstm":
            remembered, forgotten, candidate, shown = rows.chunk(4)
            return torch.cat([remembered, forgotten, shown, 2 * candidate])
        if self.kind == "gru":
            reset, kept, candidate = rows.chunk(3)
            return torch.cat([reset, kept, 2 * candidate])
        return 2 * rows

    def step(self, gates: Float[Tensor, "rows gates"], state: RecurrentState) -> RecurrentState:
        """Returns the state after one more input; does not change `gates`."""
        hidden_gates = self.hidden_product(state.hidden)
        if state.cell is not None:
            return _lstm(hidden_gates.add_(gates), state.cell)
        if self.kind == "gru":
            return _gru(gates, hidden_gates, state.hidden)
        return RecurrentState(tanh_of_half_(hidden_gates.add_(gates)), None)


def _lstm(gates: Tensor, cell: Tensor) -> RecurrentState:
    """Returns the next state of an LSTM; writes over `gates`."""
    remembered, forgotten, shown, candidate = sigmoid_(gates).chunk(4, dim=1)
    # f c + i (2g - 1)
    cell = (forgotten * cell).addcmul_(remembered, candidate, value=2.0).sub_(remembered)
    # o (2 sigmoid(2c) - 1)
    squashed = sigmoid_(cell * 2.0)
    return RecurrentState(torch.addcmul(-shown, shown, squashed, value=2.0), cell)


def _gru(gates: Tensor, hidden_gates: Tensor, hidden: Tensor) -> RecurrentState:
    size = hidden.shape[1]
    reset, kept = sigmoid_(gates[:, : 2 * size] + hidden_gates[:, : 2 * size]).chunk(2, dim=1)
    candidate = torch.addcmul(gates[:, 2 * size :], reset, hidden_gates[:, 2 * size :])
    return RecurrentState(torch.lerp(tanh_of_half_(candidate), hidden, kept), None)
