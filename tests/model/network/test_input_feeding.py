"""The bottom layer of the feed family equals the plain loop over words, gradients included."""

import gc
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from model.network.attention import EncodedSource
from model.network.decoder import Decoder, DecoderState
from model.network.input_feeding import FedOutputs, feed_contexts
from model.network.recurrent import RecurrentLayer
from model.network.seq2seq import Seq2Seq
from tests.networks import build
from tests.slow_step import slow_cell

BATCH, SRC_LEN, TGT_LEN, EMB, ENC, HIDDEN = 3, 5, 4, 6, 8, 8
LENGTHS = torch.tensor([5, 2, 3])


def choices() -> Iterator[dict[str, Any]]:
    for cell, (attention, heads), layer_norm in itertools.product(
        ("lstm", "gru", "rnn"),
        (("additive", 1), ("additive", 2), ("dot", 1), ("general", 1), ("general", 4)),
        (False, True),
    ):
        yield {
            "cell": cell,
            "attention": attention,
            "attention_heads": heads,
            "layer_norm": layer_norm,
        }


everything = pytest.mark.parametrize(
    "chosen", list(choices()), ids=lambda chosen: "-".join(map(str, chosen.values()))
)


def slow(
    decoder: Decoder, words: Tensor, state: DecoderState, dropped: Tensor | None
) -> FedOutputs:
    """Computes the layer word by word, with gradients by autograd."""
    layer, recurrent, context = bottom(decoder), state.layer(0), state.context
    assert context is not None
    outputs, contexts = [], []
    for word in words.unbind(dim=1):
        recurrent = slow_cell(layer, torch.cat([word, context], dim=-1), recurrent)
        output = decoder.norms[0](recurrent.hidden).unsqueeze(1)
        output = output if dropped is None else output * dropped
        context = decoder.attention(output, state.source).context.squeeze(1)
        outputs.append(output.squeeze(1))
        contexts.append(context)
    return FedOutputs(torch.stack(outputs, dim=1), torch.stack(contexts, dim=1))


def fast(
    decoder: Decoder, words: Tensor, state: DecoderState, dropped: Tensor | None
) -> FedOutputs:
    assert state.context is not None
    return feed_contexts(
        words,
        state.context,
        state.layer(0),
        state.source,
        layer=bottom(decoder),
        norm=decoder.norms[0],
        attention=decoder.attention,
        dropped=dropped,
    )


def bottom(decoder: Decoder) -> RecurrentLayer:
    layer = decoder.layers[0]
    assert isinstance(layer, RecurrentLayer)
    return layer


class Inputs:
    """Words, a source and a first state, all of which take gradients."""

    def __init__(self, decoder: Decoder, seed: int = 1) -> None:
        random = torch.Generator().manual_seed(seed)

        def leaf(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=random).requires_grad_()

        self.words, self.context = leaf(BATCH, TGT_LEN, EMB), leaf(BATCH, ENC)
        self.hidden, self.cell = leaf(BATCH, HIDDEN), leaf(BATCH, HIDDEN)
        self.values, self.summary = leaf(BATCH, SRC_LEN, ENC), leaf(BATCH, ENC)
        source = EncodedSource(
            keys=decoder.attention.keys(self.values),
            values=self.values,
            mask=torch.arange(SRC_LEN) < LENGTHS.unsqueeze(1),
            summary=self.summary,
        )
        self.state = DecoderState(
            hidden=(self.hidden,),
            cell=(self.cell,) if bottom(decoder).kind == "lstm" else (),
            context=self.context,
            source=source,
        )

    def gradients(self) -> dict[str, Tensor]:
        leaves = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}


def decoder_of(chosen: dict[str, Any]) -> Decoder:
    return build(**chosen, decoder="feed", decoder_layers=1).train().decoder


def weigh(fed: FedOutputs) -> Tensor:
    """A loss to which every number of both results contributes."""
    factors = torch.Generator().manual_seed(2)
    both = torch.cat([fed.outputs, fed.contexts], dim=-1)
    return (both * torch.randn(both.shape, generator=factors)).sum()


def mask() -> Tensor:
    kept = torch.rand(BATCH, 1, HIDDEN, generator=torch.Generator().manual_seed(3)) > 0.3
    return kept / 0.7


@everything
@pytest.mark.parametrize("dropout", [False, True])
def test_it_equals_the_plain_loop_with_all_gradients(chosen: dict[str, Any], dropout: bool) -> None:
    decoder = decoder_of(chosen)
    found = []
    for way in (slow, fast):
        inputs = Inputs(decoder)
        decoder.zero_grad()
        fed = way(decoder, inputs.words, inputs.state, mask() if dropout else None)
        weigh(fed).backward()
        weights = {n: p.grad for n, p in decoder.named_parameters() if p.grad is not None}
        found.append((fed, {**inputs.gradients(), **weights}))
    (right, expected), (fed, gradients) = found
    torch.testing.assert_close(fed.outputs, right.outputs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(fed.contexts, right.contexts, atol=1e-5, rtol=1e-5)
    assert {"words", "context", "hidden", "values"} <= set(expected)
    assert set(gradients) == set(expected)
    for name in expected:
        torch.testing.assert_close(gradients[name], expected[name], atol=1e-5, rtol=1e-5)


def train_step(network: Seq2Seq, way: Any) -> dict[str, Tensor]:
    """Gradients of a whole network, in bf16 autocast, its bottom layer computed in this way."""
    decoder = network.decoder
    with torch.autocast("cpu", torch.bfloat16):
        inputs = Inputs(decoder)
        loss = weigh(way(decoder, inputs.words, inputs.state, None))
    network.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in decoder.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("attention", ["additive", "general"])
def test_in_bf16_it_is_no_further_from_fp32_than_the_plain_loop(cell: str, attention: str) -> None:
    network = build(cell=cell, attention=attention, decoder="feed", decoder_layers=1)
    exact_inputs = Inputs(network.decoder)
    weigh(slow(network.decoder, exact_inputs.words, exact_inputs.state, None)).backward()
    exact = {n: p.grad.clone() for n, p in network.decoder.named_parameters() if p.grad is not None}
    errors = []
    for way in (slow, fast):
        gradients = train_step(network, way)
        assert all(gradient.dtype == torch.float32 for gradient in gradients.values())
        errors.append(sum(float((gradients[n] - exact[n]).norm()) for n in exact))
    scale = sum(float(gradient.norm()) for gradient in exact.values())
    assert errors[1] < 1.5 * errors[0] + 0.002 * scale
    assert errors[1] < 0.1 * scale


def test_without_gradients_the_values_are_the_same() -> None:
    decoder = decoder_of({"cell": "gru", "attention": "additive"})
    inputs = Inputs(decoder)
    with_gradient = fast(decoder, inputs.words, inputs.state, None)
    with torch.no_grad():
        without = fast(decoder, inputs.words, inputs.state, None)
    torch.testing.assert_close(without.outputs, with_gradient.outputs)
    torch.testing.assert_close(without.contexts, with_gradient.contexts)
    assert not without.contexts.requires_grad


def test_no_tensors_stay_in_memory_after_the_backward_pass() -> None:
    """No cycle of references that would keep a batch until Python looks for such cycles."""
    decoder = decoder_of({"cell": "lstm", "attention": "general"})

    def num_tensors() -> int:
        return sum(issubclass(type(found), Tensor) for found in gc.get_objects())

    def step() -> None:
        inputs = Inputs(decoder)
        weigh(fast(decoder, inputs.words, inputs.state, mask())).backward()

    step()
    gc.collect()
    gc.disable()
    try:
        before = num_tensors()
        step()
        assert num_tensors() == before
    finally:
        gc.enable()


def test_fixed_weights_get_no_gradient() -> None:
    """As when a part of a network is trained further."""
    network = build(cell="lstm", attention="general", decoder="feed", decoder_layers=1)
    network.decoder.layers.requires_grad_(False)
    inputs = Inputs(network.decoder)
    weigh(fast(network.decoder, inputs.words, inputs.state, None)).backward()
    assert all(p.grad is None for p in network.decoder.layers.parameters())
    assert all(p.grad is not None for p in network.decoder.attention.parameters())
    assert inputs.words.grad is not None
