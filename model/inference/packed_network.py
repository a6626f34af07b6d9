"""The network for translating: weights packed for one precision, decoded one step at a time.

It computes the same function as `Seq2Seq`, the network for training, with less work; tests compare
the two:

- The parts of the bottom layer's gates and of the readout that depend on the target word alone are
  computed in advance for the whole vocabulary: a step looks them up.
- All gates of a layer come from one product, and so do all starting states.
- Products run in the chosen precision (products.py); everything between them is fp32.

On a CPU a sentence gets bit-identical results in any batch. No part calls torch's `linear`,
`matmul`, `bmm` or `einsum`, which may use MKL. Each part is batch-invariant for its own reason:

- products of the encoder, cells, attention's queries and keys, starting states, input feeding,
  readout and full output layer: `Product`, packed for oneDNN, with tested row counts (products.py,
  row_counts.py). The table of target words is such a product too, computed once.
- attention's scores and contexts: sums in a fixed order, by embedding_bag or over the last
  dimension (packed_attention.py)
- the narrowed output layer: packed for oneDNN, with tested row counts and widths; in int8, sums of
  integers (output_layer.py)
- forced scoring: the same steps (forced_scoring.py)
- elementwise functions: torch's vectorised ones do not depend on an element's position, except
  sigmoid, which pointwise.py replaces
- softmax, layer normalisation, the sum over the vocabulary: computed for each row separately

`exact` tests the whole network (self_check.py) and says whether this holds on this machine.

On a GPU the encoder is the one for training, with cuDNN's layers; everything else uses torch's own
products.
"""

import copy
import functools
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from model.inference.cells import Cell
from model.inference.output_layer import Narrowing, OutputLayer
from model.inference.packed_attention import PackedAttention
from model.inference.packed_encoder import (
    PackedEncoder,
    frozen_norm,
    norm_bound,
    recurrent,
    sum_bound,
)
from model.inference.products import FloatProduct, Product, ProductPrecision, pack
from model.inference.self_check import is_batch_invariant
from model.network.attention import AdditiveAttention, Attention, EncodedSource
from model.network.batch import SourceBatch
from model.network.decoder import DecoderState
from model.network.encoder import Encoder
from model.network.pointwise import tanh_of_half_
from model.network.seq2seq import Seq2Seq

_WORDS_PER_CALL = 512  # words of the vocabulary whose parts are computed in one product


@dataclass(frozen=True)
class PackedStep:
    """The result of a decoding step: scores of the next piece, the new state, attention weights."""

    logits: Float[Tensor, "rows columns"]  # of all pieces, or of the narrowing's pieces
    state: DecoderState
    attention_weights: Float[Tensor, "rows src_len"]


class PackedNetwork:
    """A network for translating; its weights are copies, which later training does not change."""

    def __init__(self, network: Seq2Seq, precision: ProductPrecision) -> None:
        self.config = network.config
        self.precision = precision
        self.device = next(network.parameters()).device
        with torch.no_grad():
            self._encoder: _GpuEncoder | PackedEncoder
            if self.device.type == "cuda":
                self._encoder = _GpuEncoder(network.encoder, precision)
            else:
                self._encoder = PackedEncoder(network.encoder, precision)
            self._decoder = _PackedDecoder(network, precision, self._encoder.bound)
            self._output = OutputLayer(network.output, precision)

    @functools.cached_property
    def exact(self) -> bool:
        """Whether a sentence gets bit-identical results in any batch; tested on first use."""
        products = [*self._encoder.products, *self._decoder.products, *self._output.products]
        return (
            all(product.exact for product in products)
            and self._output.narrows_exactly
            and is_batch_invariant(self)
        )

    def encode(self, source: SourceBatch) -> DecoderState:
        """Encodes the sources; returns the state before the first target word, one row each."""
        values, summary = self._encoder(source)
        keys = self._decoder.keys(values)
        return self._decoder.start(EncodedSource(keys, values, source.mask, summary))

    def step(
        self,
        previous_ids: Int[Tensor, " rows"],
        state: DecoderState,
        narrowing: Narrowing | None = None,
    ) -> PackedStep:
        """Decodes one more piece for every row; the first `previous_ids` of a search are BOS."""
        readouts, state, weights = self._decoder.step(previous_ids, state)
        if narrowing is None:
            logits = self._output(readouts)
        else:
            logits = self._output.narrow(readouts, narrowing)
        return PackedStep(logits, state, weights)

    def narrowing(self, piece_ids: Int[Tensor, "batch columns"]) -> Narrowing:
        """An output layer of each sentence's own pieces, padded with PAD."""
        return self._output.narrowing(piece_ids)


class _GpuEncoder:
    """A copy of the encoder for training, run in the precision of translating."""

    def __init__(self, encoder: Encoder, precision: ProductPrecision) -> None:
        self._encoder = copy.deepcopy(encoder).eval().requires_grad_(False)
        self._dtype = torch.float32 if precision == "fp32" else torch.bfloat16
        self.bound = 1.0  # only int8 uses it, which is not available on a GPU
        self.products: list[Product] = []

    def __call__(self, source: SourceBatch) -> tuple[Tensor, Tensor]:
        with torch.autocast("cuda", self._dtype, enabled=self._dtype != torch.float32):
            values, summary = self._encoder(source)
        return values.float(), summary.float()


class _PackedDecoder:
    """`Decoder` with packed products and precomputed parts for each target word."""

    def __init__(self, network: Seq2Seq, precision: ProductPrecision, values_bound: float) -> None:
        """`values_bound`: the largest magnitude in the encoder's states."""
        decoder = network.decoder
        self._precision = precision
        self._clip = network.config.layer_norm or network.config.residual
        self._residual = decoder.residual
        self._feeds_context = decoder.feeds_context
        self._norms = [frozen_norm(norm) for norm in decoder.norms]
        self._cells = [Cell(recurrent(layer), precision) for layer in decoder.layers]
        bottom, *upper = self._cells
        bounds = [norm_bound(norm) for norm in decoder.norms]  # of each layer's outputs
        if self._residual:
            bounds = [sum_bound(bounds[: index + 1]) for index in range(len(bounds))]

        embedding = decoder.embedding.weight.detach()
        size = embedding.shape[1]
        word_gates, context_gates = bottom.input_weight.tensor_split([size], dim=1)
        self._context_product = (
            self._pack(context_gates, None, values_bound) if decoder.bottom_reads_context else None
        )
        self._upper_products = [
            self._pack(cell.input_weight, cell.input_bias, max(bound, values_bound))
            for cell, bound in zip(upper, bounds[:-1], strict=True)
        ]
        # Doubled because `step` takes the tanh of half the readout.
        states_readout, word_readout = (2 * decoder.readout.weight).tensor_split([-size], dim=1)
        self._readout_product = self._pack(states_readout, None, max(bounds[-1], values_bound))
        word_product = FloatProduct(
            torch.cat([word_gates, word_readout]),
            torch.cat([bottom.input_bias, 2 * decoder.readout.bias]),
            torch.float32,
        )
        # bf16 halves the bytes that every step reads.
        dtype = torch.float32 if precision == "fp32" else torch.bfloat16
        self._word_table = torch.cat(
            [word_product(words).to(dtype) for words in embedding.split(_WORDS_PER_CALL)]
        )
        self._num_gates = word_gates.shape[0]

        attention = copy.deepcopy(decoder.attention).requires_grad_(False)
        additive = isinstance(attention, AdditiveAttention)
        self._attention: Attention | PackedAttention = attention
        factor = 1
        if embedding.device.type == "cpu":
            self._attention = PackedAttention(attention)
            factor = 2 if additive else 1  # PackedAttention expects doubled queries and keys
        query = attention.query
        self._query_product: Product | None = None
        if isinstance(query, nn.Linear):
            self._query_product = self._pack(factor * query.weight, None, bounds[0])
        self._key_product: Product | None = None
        if isinstance(attention, AdditiveAttention):
            key = attention.key
            self._key_product = self._pack(factor * key.weight, factor * key.bias, values_bound)

        starts = [*decoder.initial_hidden, *decoder.initial_cell]
        self._start_product = self._pack(
            torch.cat([start.weight for start in starts]),
            torch.cat([start.bias for start in starts]),
            values_bound,
        )

    @property
    def products(self) -> list[Product]:
        """All products that a translation may use."""
        optional = (self._context_product, self._query_product, self._key_product)
        return [
            *(cell.hidden_product for cell in self._cells),
            *(product for product in optional if product is not None),
            *self._upper_products,
            self._readout_product,
            self._start_product,
        ]

    def _pack(self, weight: Tensor, bias: Tensor | None, bound: float) -> Product:
        bias = None if bias is None else bias.detach()
        return pack(weight.detach(), bias, self._precision, bound=bound, clip=self._clip)

    def keys(
        self, values: Float[Tensor, "batch src_len enc"]
    ) -> Float[Tensor, "batch src_len key"]:
        """The attention keys of the encoder's states."""
        if self._key_product is None:
            keys: Tensor = self._attention.keys(values)
            return keys
        projected = self._key_product(values.flatten(0, 1))
        return projected.view(*values.shape[:2], -1)

    def start(self, source: EncodedSource) -> DecoderState:
        """The decoder's state before the first word; one row for each sentence."""
        layers = len(self._cells)
        starts = self._start_product(source.summary).split(self._cells[0].size, dim=1)
        return DecoderState(
            hidden=tuple(torch.tanh(start) for start in starts[:layers]),
            cell=tuple(start.contiguous() for start in starts[layers:]),
            context=torch.zeros_like(source.summary) if self._feeds_context else None,
            source=source,
        )

    def step(
        self, previous_ids: Int[Tensor, " rows"], state: DecoderState
    ) -> tuple[Float[Tensor, "rows size"], DecoderState, Float[Tensor, "rows src_len"]]:
        """Returns the readouts, the next state and the attention weights."""
        beam = previous_ids.shape[0] // state.source.mask.shape[0]
        words = self._word_table.index_select(0, previous_ids)
        gates, word_readout = words.tensor_split([self._num_gates], dim=1)
        if self._context_product is not None:
            context = state.context
            if context is None:
                context = state.source.summary.repeat_interleave(beam, dim=0)
            gates = self._context_product(context).add_(gates)
        states = [self._cells[0].step(gates, state.layer(0))]
        outputs = self._norms[0](states[0].hidden)
        queries = outputs if self._query_product is None else self._query_product(outputs)
        attended = self._attention.attend(queries.unflatten(0, (-1, beam)), state.source)
        context = attended.context.flatten(0, 1)
        for index, product in enumerate(self._upper_products, start=1):
            gates = product(torch.cat([outputs, context], dim=1))
            states.append(self._cells[index].step(gates, state.layer(index)))
            above = self._norms[index](states[index].hidden)
            outputs = outputs + above if self._residual else above
        readouts = self._readout_product(torch.cat([outputs, context], dim=1)).add_(word_readout)
        following = DecoderState(
            hidden=tuple(s.hidden for s in states),
            cell=tuple(s.cell for s in states if s.cell is not None),
            context=context if self._feeds_context else None,
            source=state.source,
        )
        return tanh_of_half_(readouts), following, attended.weights.flatten(0, 1)
