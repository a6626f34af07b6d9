"""Trains the bottom layer of the feed family over whole targets.

Each word reads the context of the word before it (input feeding, Luong et al., 2015), so words are
computed one after another. The loop holds only what depends on the word before. Products of the
words alone are computed for all places at once. So are the gradients of weights, keys and values,
which all places share, from the states that the loop stored: autograd alone would compute them
place by place and add up one product per word.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from model.network.attention import Attended, Attention, EncodedSource
from model.network.recurrent import RecurrentLayer, RecurrentState


@dataclass(frozen=True)
class FedOutputs:
    """Outputs of the bottom layer at every place of the target, and their contexts."""

    outputs: Float[Tensor, "batch tgt_len hidden"]
    contexts: Float[Tensor, "batch tgt_len enc"]


def feed_contexts(
    words: Float[Tensor, "batch tgt_len emb"],
    context: Float[Tensor, "batch enc"],
    initial: RecurrentState,
    source: EncodedSource,
    *,
    layer: RecurrentLayer,
    norm: nn.Module,
    attention: Attention,
    dropped: Float[Tensor, "batch 1 hidden"] | None,
) -> FedOutputs:
    """Runs `layer` over `words`, each with the context of the word before; `context` is the first.

    Outputs are normalised by `norm` and, if given, multiplied by the dropout mask `dropped`.
    """
    gates = _Gates(layer, words)
    lookups = _Lookups(attention, source, words.shape[1], gates.dtype)
    state = initial
    outputs, contexts = [], []
    for place in range(words.shape[1]):
        state = gates.step(place, context, state)
        output = norm(state.hidden)
        output = output if dropped is None else output * dropped.squeeze(1)
        context = lookups.context(place, output)
        outputs.append(output)
        contexts.append(context)
    return FedOutputs(torch.stack(outputs, dim=1), torch.stack(contexts, dim=1))


class _Gates:
    """Steps of the layer; the products with the words are computed beforehand."""

    def __init__(self, layer: RecurrentLayer, words: Tensor) -> None:
        input_weight, hidden_weight, input_bias, hidden_bias = layer.rnn.all_weights[0]
        word_weight, context_weight = input_weight.tensor_split([words.shape[2]], dim=1)
        self._kind = layer.kind
        self._contexts: list[Tensor] = []  # read at every place, without gradient
        self._hiddens: list[Tensor] = []
        # (tgt_len, batch, gates): added at each place to the products with context and state
        one_bias = self._kind != "gru"  # a GRU's reset gate stands between the two products
        bias = input_bias + hidden_bias if one_bias else input_bias
        gates = functional.linear(words.transpose(0, 1), word_weight, bias)
        self.dtype = gates.dtype  # autocast's, if it is on
        gates = _late_product(gates, context_weight, self._contexts)
        if one_bias:
            gates = _late_product(gates, hidden_weight, self._hiddens)
        else:
            hidden_gates = hidden_bias.to(self.dtype).expand_as(gates)
            hidden_gates = _late_product(hidden_gates, hidden_weight, self._hiddens)
            self._hidden_gates = hidden_gates.unbind()
        self._gates = gates.unbind()
        # Cast once: autocast would cast tensors without gradient again at every place.
        self._context_weight = context_weight.detach().to(self.dtype).t()
        self._hidden_weight = hidden_weight.detach().to(self.dtype).t()

    def step(self, place: int, context: Tensor, state: RecurrentState) -> RecurrentState:
        """Returns the state after the word at `place`."""
        self._contexts.append(context.detach())
        self._hiddens.append(state.hidden.detach())
        gates = torch.addmm(self._gates[place], context, self._context_weight)
        if self._kind == "gru":
            hidden_gates = torch.addmm(self._hidden_gates[place], state.hidden, self._hidden_weight)
            return RecurrentState(_gru(gates, hidden_gates, state.hidden), None)
        gates = torch.addmm(gates, state.hidden, self._hidden_weight)
        if state.cell is None:
            return RecurrentState(torch.tanh(gates), None)
        return _lstm(gates, state.cell)


def _lstm(gates: Tensor, cell: Tensor) -> RecurrentState:
    written, kept, candidate, shown = gates.chunk(4, dim=1)
    cell = torch.sigmoid(kept) * cell + torch.sigmoid(written) * torch.tanh(candidate)
    return RecurrentState(torch.sigmoid(shown) * torch.tanh(cell), cell)


def _gru(gates: Tensor, hidden_gates: Tensor, hidden: Tensor) -> Tensor:
    size = hidden.shape[1]
    both = torch.sigmoid(gates[:, : 2 * size] + hidden_gates[:, : 2 * size])
    reset, kept = both.chunk(2, dim=1)
    candidate = torch.tanh(gates[:, 2 * size :] + reset * hidden_gates[:, 2 * size :])
    return candidate + kept * (hidden - candidate)


class _Lookups:
    """Attention, one place after another, on keys and values that all places share."""

    def __init__(
        self, attention: Attention, source: EncodedSource, places: int, dtype: torch.dtype
    ) -> None:
        self._attention = attention
        self._weights = {name: p.detach().to(dtype) for name, p in attention.named_parameters()}
        self._source = _with(source, source.keys.detach(), source.values.detach())
        self._queries: list[Tensor] = []  # without gradient
        # Not a method of this object: that would be a reference cycle with the zeros.
        all_contexts = partial(_all_contexts, attention, self._queries, self._source)
        shape = (places, *source.summary.shape)
        zeros: Tensor = _LateLookups.apply(  # type: ignore[no-untyped-call]
            all_contexts, shape, dtype, source.keys, source.values, *attention.parameters()
        )
        self._zeros = zeros.unbind()

    def context(self, place: int, query: Float[Tensor, "batch hidden"]) -> Tensor:
        """Returns the context of one query."""
        self._queries.append(query.detach())
        call = (query.unsqueeze(1), self._source)
        attended: Attended = functional_call(self._attention, self._weights, call)
        return attended.context.squeeze(1) + self._zeros[place]


def _all_contexts(
    attention: Attention, queries: list[Tensor], source: EncodedSource, keys: Tensor, values: Tensor
) -> Float[Tensor, "batch tgt_len enc"]:
    """Returns the contexts of the queries of all places, computed at once."""
    attended: Attended = attention(torch.stack(queries, dim=1), _with(source, keys, values))
    return attended.context


def _with(source: EncodedSource, keys: Tensor, values: Tensor) -> EncodedSource:
    return EncodedSource(keys, values, source.mask, source.summary.detach())


def _late_product(sums: Tensor, weight: Tensor, inputs: list[Tensor]) -> Tensor:
    """Returns `sums` unchanged; in the backward pass it computes the gradient of `weight`.

    The loop adds inputs[place] @ weight.T to sums[place], without gradient for `weight`. Product
    and sum have the same gradient, so the weight's gradient is one product over all places.
    """
    late: Tensor = _LateProduct.apply(sums, weight, inputs)  # type: ignore[no-untyped-call]
    return late


class _LateProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, sums: Tensor, weight: Tensor, inputs: list[Tensor]) -> Tensor:
        ctx.inputs, ctx.dtype = inputs, weight.dtype
        return sums.view_as(sums)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        inputs = torch.cat(ctx.inputs).to(gradient.dtype)  # (tgt_len x batch, ..)
        return gradient, (gradient.flatten(0, 1).t() @ inputs).to(ctx.dtype), None


class _LateLookups(torch.autograd.Function):
    """Zeros that, added to contexts, carry the gradients of keys, values and attention weights.

    The loop computes contexts without these gradients. The backward pass computes all contexts
    again, at once, and takes the gradients from there.
    """

    @staticmethod
    def forward(
        ctx: Any,
        all_contexts: Callable[[Tensor, Tensor], Tensor],
        shape: tuple[int, ...],
        dtype: torch.dtype,
        keys: Tensor,
        values: Tensor,
        *weights: Tensor,
    ) -> Tensor:
        ctx.all_contexts, ctx.weights = all_contexts, weights
        ctx.save_for_backward(keys, values)
        device = keys.device.type
        ctx.autocast = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
        return torch.zeros(shape, dtype=dtype, device=keys.device)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        # Copies without history: gradients must stop here.
        shared = [tensor.detach().requires_grad_() for tensor in ctx.saved_tensors]
        enabled, dtype = ctx.autocast
        with torch.enable_grad(), torch.autocast(gradient.device.type, dtype, enabled=enabled):
            contexts = ctx.all_contexts(*shared)
        trained = [weight for weight in ctx.weights if weight.requires_grad]
        gradients = iter(
            torch.autograd.grad(
                contexts,
                [*shared, *trained],
                gradient.transpose(0, 1).to(contexts.dtype),
                allow_unused=True,  # the weights that make keys
            )
        )
        of_shared = [next(gradients) for _ in shared]
        of_weights = [next(gradients) if weight.requires_grad else None for weight in ctx.weights]
        return None, None, None, *of_shared, *of_weights
