"""The encoder prepared for translating on a CPU, computed step by step like the decoder."""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from model.inference.cells import Cell
from model.inference.products import Product, ProductPrecision, pack
from model.network.batch import SourceBatch
from model.network.encoder import Encoder
from model.network.recurrent import RecurrentLayer, RecurrentState, reorder, reversed_positions

_NORM_BOUND = 5.0  # standard deviations; int8 clips larger outputs of layer normalisation


class PackedEncoder:
    """Computes states and summary of sources; `bound` is the largest number in the states."""

    def __init__(self, encoder: Encoder, precision: ProductPrecision) -> None:
        self._residual = encoder.residual
        self._embedding = encoder.embedding.weight.detach().clone()
        self._norms = [frozen_norm(norm) for norm in encoder.norms]
        self._backwards = [False] * encoder.forwards + [True] * encoder.backwards
        self._summary = encoder.summary
        stacks = [stack for stack in (encoder.forward_layers, encoder.backward_layers) if stack]
        self._layers: list[list[_EncoderLayer]] = []  # one of each direction
        self.bound = self._embedding.abs().max().item()
        for index, norm in enumerate(encoder.norms):
            self._layers.append(
                [_EncoderLayer(recurrent(stack[index]), precision, self.bound) for stack in stacks]
            )
            below = [self.bound] if self._residual and index > 0 else []
            self.bound = sum_bound([*below, norm_bound(norm)])

    @property
    def products(self) -> list[Product]:
        """All that a translation needs."""
        return [
            product
            for layers in self._layers
            for layer in layers
            for product in (layer.input_product, layer.cell.hidden_product)
        ]

    def __call__(
        self, source: SourceBatch
    ) -> tuple[Float[Tensor, "batch src_len enc"], Float[Tensor, "batch enc"]]:
        """Returns the same as `Encoder.forward`."""
        positions = reversed_positions(source.lengths, source.token_ids.shape[1])
        states = functional.embedding(source.token_ids, self._embedding)
        for index, (layers, norm) in enumerate(zip(self._layers, self._norms, strict=True)):
            directions = [
                reorder(layer(reorder(states, positions)), positions)
                if backwards
                else layer(states)
                for layer, backwards in zip(layers, self._backwards, strict=True)
            ]
            outputs = norm(torch.cat(directions, dim=-1))
            states = states + outputs if self._residual and index > 0 else outputs
        return states, self._summary(states, source)


class _EncoderLayer:
    """One direction of one encoder layer."""

    def __init__(self, layer: RecurrentLayer, precision: ProductPrecision, bound: float) -> None:
        self.cell = Cell(layer, precision)
        self.input_product = pack(
            self.cell.input_weight, self.cell.input_bias, precision, bound=bound, clip=True
        )

    def __call__(
        self, inputs: Float[Tensor, "batch time size"]
    ) -> Float[Tensor, "batch time hidden"]:
        """Returns the hidden state after every place."""
        by_time = inputs.transpose(0, 1)
        gates = self.input_product(by_time.flatten(0, 1)).unflatten(0, by_time.shape[:2])
        hidden = inputs.new_zeros(inputs.shape[0], self.cell.size)
        state = RecurrentState(hidden, hidden if self.cell.kind == "lstm" else None)
        outputs = []
        for gates_now in gates.unbind(0):
            state = self.cell.step(gates_now, state)
            outputs.append(state.hidden)
        return torch.stack(outputs, dim=1)


def frozen_norm(norm: nn.Module) -> Callable[[Tensor], Tensor]:
    """Returns layer normalisation with copied weights, or the identity."""
    if not isinstance(norm, nn.LayerNorm):
        return lambda states: states
    weight, bias = norm.weight.detach().clone(), norm.bias.detach().clone()
    return lambda states: functional.layer_norm(states, weight.shape, weight, bias, norm.eps)


def norm_bound(norm: nn.Module) -> float:
    """Returns the largest output of a layer; a recurrent state stays within [-1, 1]."""
    if not isinstance(norm, nn.LayerNorm):
        return 1.0
    return float((_NORM_BOUND * norm.weight.abs() + norm.bias.abs()).max())


def sum_bound(bounds: Sequence[float]) -> float:
    """Returns how large a residual sum gets, rarely more: its parts differ in direction."""
    return math.hypot(*bounds)


def recurrent(layer: nn.Module) -> RecurrentLayer:
    """Returns the layer with its type, for the type checker."""
    assert isinstance(layer, RecurrentLayer)
    return layer
