"""The network as translating uses it: weights packed for one precision, one step at a time.

`Seq2Seq` is what trains, and what the tests hold this against; here the same function is computed
with less work:

- What the decoder makes of a target word alone (its part of the bottom layer's gates and of the
  readout) is computed for every word of the vocabulary beforehand: a step looks it up.
- All gates of a layer, and all starting states, come out of one product.
- Products run in the precision asked for (products.py); all between them is fp32.

On a CPU a sentence gets the same numbers in any batch, to the last bit. Nothing on the way calls
torch's own `linear`, `matmul`, `bmm` or `einsum`, which may reach MKL; what each part rests on:

- the products of encoder, cells, attention's queries and keys, starting states, input feeding,
  readout and whole output layer: Product, packed for oneDNN, in row counts that were found to agree
  (products.py, row_counts.py); the table of target words, too, made once
- attention's scores and contexts: sums in a fixed order, by embedding_bag or over the last
  dimension (packed_attention.py)
- the narrowed output layer: oneDNN likewise, with widths that were found to agree as well, in int8
  whole numbers (output_layer.py)
- forced scoring: these same steps (forced_scoring.py)
- what is computed number by number: torch's vectorised functions; sigmoid apart (pointwise.py) they
  do not depend on the place
- softmax, layer normalisation, the sum over the vocabulary: each row by itself

`exact` tries the whole (self_check.py) and says whether it is so on this machine.

On a GPU the encoder stays the one that trains, with cuDNN's layers, and the rest is torch's own.
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

_WORDS_TOGETHER = 512  # multiplied beforehand


@dataclass(frozen=True)
class PackedStep:
    """Scores of every next piece, the state after this one, and where the decoder looked."""

    logits: Float[Tensor, "rows columns"]  # of all pieces, or of the narrowing's
    state: DecoderState
    attention_weights: Float[Tensor, "rows src_len"]


class PackedNetwork:
    """A network that translates. Its weights are copies: later training does not change it."""

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
        """Whether a sentence gets the same numbers in any batch here; tried when first asked."""
        products = [*self._encoder.products, *self._decoder.products, *self._output.products]
        return (
            all(product.exact for product in products)
            and self._output.narrows_exactly
            and is_batch_invariant(self)
        )

    def encode(self, source: SourceBatch) -> DecoderState:
        """Reads the sources once; the state before their first target word, one row each."""
        values, summary = self._encoder(source)
        keys = self._decoder.keys(values)
        return self._decoder.start(EncodedSource(keys, values, source.mask, summary))

    def step(
        self,
        previous_ids: Int[Tensor, " rows"],
        state: DecoderState,
        narrowing: Narrowing | None = None,
    ) -> PackedStep:
        """One more word for every row; a search starts with BOS."""
        readouts, state, weights = self._decoder.step(previous_ids, state)
        if narrowing is None:
            logits = self._output(readouts)
        else:
            logits = self._output.narrow(readouts, narrowing)
        return PackedStep(logits, state, weights)

    def narrowing(self, piece_ids: Int[Tensor, "batch columns"]) -> Narrowing:
        """An output layer of these pieces alone, by sentence; PAD fills up."""
        return self._output.narrowing(piece_ids)


class _GpuEncoder:
    """The encoder that trains, in the precision of translating."""

    def __init__(self, encoder: Encoder, precision: ProductPrecision) -> None:
        self._encoder = copy.deepcopy(encoder).eval().requires_grad_(False)
        self._dtype = torch.float32 if precision == "fp32" else torch.bfloat16
        self.bound = 1.0  # only int8 asks, and a GPU has none
        self.products: list[Product] = []

    def __call__(self, source: SourceBatch) -> tuple[Tensor, Tensor]:
        with torch.autocast("cuda", self._dtype, enabled=self._dtype != torch.float32):
            values, summary = self._encoder(source)
        return values.float(), summary.float()


class _PackedDecoder:
    """`Decoder`, with the target embedding multiplied out."""

    def __init__(self, network: Seq2Seq, precision: ProductPrecision, values_bound: float) -> None:
        """`values_bound`: the largest number among the encoder's states."""
        decoder = network.decoder
        self._precision = precision
        self._clip = network.config.layer_norm or network.config.residual
        self._residual = decoder.residual
        self._feeds_context = decoder.feeds_context
        self._norms = [frozen_norm(norm) for norm in decoder.norms]
        self._cells = [Cell(recurrent(layer), precision) for layer in decoder.layers]
        bottom, *upper = self._cells
        bounds = [norm_bound(norm) for norm in decoder.norms]  # of what each layer gives on
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
        # Doubled for the tanh of the readout.
        states_readout, word_readout = (2 * decoder.readout.weight).tensor_split([-size], dim=1)
        self._readout_product = self._pack(states_readout, None, max(bounds[-1], values_bound))
        word_product = FloatProduct(
            torch.cat([word_gates, word_readout]),
            torch.cat([bottom.input_bias, 2 * decoder.readout.bias]),
            torch.float32,
        )
        # Half as wide is half as much to read at every step.
        dtype = torch.float32 if precision == "fp32" else torch.bfloat16
        self._word_table = torch.cat(
            [word_product(words).to(dtype) for words in embedding.split(_WORDS_TOGETHER)]
        )
        self._num_gates = word_gates.shape[0]

        attention = copy.deepcopy(decoder.attention).requires_grad_(False)
        additive = isinstance(attention, AdditiveAttention)
        self._attention: Attention | PackedAttention = attention
        factor = 1
        if embedding.device.type == "cpu":
            self._attention = PackedAttention(attention)
            factor = 2 if additive else 1  # PackedAttention says why
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
        """All that a translation may need."""
        some = (self._context_product, self._query_product, self._key_product)
        return [
            *(cell.hidden_product for cell in self._cells),
            *(product for product in some if product is not None),
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
        """What queries are compared with."""
        if self._key_product is None:
            keys: Tensor = self._attention.keys(values)
            return keys
        projected = self._key_product(values.flatten(0, 1))
        return projected.view(*values.shape[:2], -1)

    def start(self, source: EncodedSource) -> DecoderState:
        """The state before the first word; one row per sentence."""
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
        """Readouts, the next state, and where the decoder looked."""
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
