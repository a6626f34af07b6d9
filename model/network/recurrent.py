"""One recurrent layer in one direction, over whole sequences; cells.py has its steps.

torch's fused kernels compute it (cuDNN on a GPU, oneDNN on a CPU). Sequences are padded at their
end and read from their start, so padding only changes states after the last real one, which are not
used. torch's packed sequences are therefore not needed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from model.config import CellKind


@dataclass(frozen=True)
class RecurrentState:
    """State of one layer between two words; `cell` is the memory of an LSTM, else None."""

    hidden: Float[Tensor, "rows hidden"]
    cell: Float[Tensor, "rows hidden"] | None


class RecurrentLayer(nn.Module):
    """LSTM (Hochreiter and Schmidhuber, 1997), GRU (Cho et al., 2014) or tanh (Elman, 1990)."""

    def __init__(self, kind: CellKind, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.kind = kind
        self.hidden_size = hidden_size
        fused: dict[CellKind, Callable[..., nn.RNNBase]] = {
            "lstm": nn.LSTM,
            "gru": nn.GRU,
            "rnn": nn.RNN,
        }
        self.rnn = fused[kind](input_size, hidden_size, batch_first=True)
        self._initialise()

    def _initialise(self) -> None:
        input_weight, hidden_weight, input_bias, hidden_bias = self.rnn.all_weights[0]
        gates = hidden_weight.shape[0] // self.hidden_size
        nn.init.xavier_uniform_(input_weight)
        with torch.no_grad():
            # Orthogonal per gate keeps the size of the state along time (Saxe et al., 2014).
            for gate in hidden_weight.chunk(gates):
                nn.init.orthogonal_(gate)
            input_bias.zero_()
            hidden_bias.zero_()
            if self.kind == "lstm":
                # An open forget gate at first (Jozefowicz et al., 2015).
                input_bias[self.hidden_size : 2 * self.hidden_size] = 1.0

    def forward(
        self, inputs: Float[Tensor, "batch time size"], initial: RecurrentState | None = None
    ) -> Float[Tensor, "batch time hidden"]:
        """Returns the hidden state after every input; `initial` None: starts at zero."""
        if initial is None:
            outputs, _ = self.rnn(inputs)
        elif initial.cell is not None:
            # .contiguous(): a step's state may be a view, which cuDNN refuses
            start = (
                initial.hidden.unsqueeze(0).contiguous(),
                initial.cell.unsqueeze(0).contiguous(),
            )
            outputs, _ = self.rnn(inputs, start)
        else:
            outputs, _ = self.rnn(inputs, initial.hidden.unsqueeze(0).contiguous())
        states: Tensor = outputs
        return states


def reversed_positions(lengths: Int[Tensor, " batch"], length: int) -> Int[Tensor, "batch length"]:
    """Returns the positions that reverse each sequence within its length; padding stays in place.

    Gathering twice restores the order.
    """
    places = torch.arange(length, device=lengths.device).unsqueeze(0)
    mirrored = lengths.unsqueeze(1) - 1 - places
    return torch.where(mirrored >= 0, mirrored, places)


def reorder(
    sequence: Float[Tensor, "batch time size"], positions: Int[Tensor, "batch time"]
) -> Float[Tensor, "batch time size"]:
    """Returns the sequences with their time steps in the order of `positions`."""
    return sequence.gather(1, positions.unsqueeze(-1).expand_as(sequence))
