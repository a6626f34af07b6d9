"""The slow obvious version of one step: the trained modules, one word at a time."""

import torch
from torch import Tensor

from model.inference.packed_network import PackedStep
from model.network.decoder import Decoder, DecoderState
from model.network.recurrent import RecurrentLayer, RecurrentState
from model.network.seq2seq import Seq2Seq


def slow_step(network: Seq2Seq, previous_ids: Tensor, state: DecoderState) -> PackedStep:
    """One more word for every row, as `PackedNetwork.step` does it."""
    decoder = network.decoder
    embedded = decoder.embedding(previous_ids)
    beam = embedded.shape[0] // state.source.mask.shape[0]
    inputs = embedded
    if state.context is not None:
        inputs = torch.cat([embedded, state.context], dim=-1)
    elif decoder.bottom_reads_context:
        summary = state.source.summary.repeat_interleave(beam, dim=0)
        inputs = torch.cat([embedded, summary], dim=-1)
    states = [slow_cell(_layer(decoder, 0), inputs, state.layer(0))]
    outputs = decoder.norms[0](states[0].hidden)
    attended = decoder.attention(outputs.unflatten(0, (-1, beam)), state.source)
    context = attended.context.flatten(0, 1)
    for index in range(1, len(decoder.layers)):
        inputs = torch.cat([outputs, context], dim=-1)
        states.append(slow_cell(_layer(decoder, index), inputs, state.layer(index)))
        above = decoder.norms[index](states[index].hidden)
        outputs = outputs + above if decoder.residual else above
    readouts = torch.tanh(decoder.readout(torch.cat([outputs, context, embedded], dim=-1)))
    following = DecoderState(
        hidden=tuple(s.hidden for s in states),
        cell=tuple(s.cell for s in states if s.cell is not None),
        context=context if decoder.feeds_context else None,
        source=state.source,
    )
    return PackedStep(network.output(readouts), following, attended.weights.flatten(0, 1))


def slow_cell(layer: RecurrentLayer, inputs: Tensor, state: RecurrentState) -> RecurrentState:
    """The state of one layer after one more input, by torch's own cells."""
    weights = layer.rnn.all_weights[0]
    if state.cell is not None:
        return RecurrentState(*torch.lstm_cell(inputs, (state.hidden, state.cell), *weights))
    cell = torch.gru_cell if layer.kind == "gru" else torch.rnn_tanh_cell
    return RecurrentState(cell(inputs, state.hidden, *weights), None)


def _layer(decoder: Decoder, index: int) -> RecurrentLayer:
    layer = decoder.layers[index]
    assert isinstance(layer, RecurrentLayer)
    return layer
