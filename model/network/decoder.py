"""The decoder as trained, over whole targets; packed_network.py has its steps for translating.

There are two families. `parallel`: the bottom layer reads only the target words, so in training
every layer runs over the whole target at once and attention is one batched product. `feed`: the
bottom layer also reads the previous context (input feeding, Luong et al., 2015), which needs a loop
over words in training. The bottom layer's outputs are the queries of attention; the upper layers
and the readout read states and contexts.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from model.config import ModelConfig
from model.network.attention import EncodedSource, build_attention
from model.network.dropout import DropoutRates, TimewiseDropout, WordDropout
from model.network.input_feeding import feed_contexts
from model.network.recurrent import RecurrentLayer, RecurrentState


@dataclass(frozen=True)
class DecoderState:
    """State of the decoder between two words; its size does not depend on the number of words.

    rows = sentences x beam, the beams of one sentence adjacent; `source` has a row per sentence.
    """

    hidden: tuple[Float[Tensor, "rows hidden"], ...]  # one per layer
    cell: tuple[Float[Tensor, "rows hidden"], ...]  # LSTM memories, else empty
    context: Float[Tensor, "rows enc"] | None  # feed decoder: the previous context
    source: EncodedSource

    def layer(self, index: int) -> RecurrentState:
        """Returns the state of one recurrent layer."""
        return RecurrentState(self.hidden[index], self.cell[index] if self.cell else None)

    def select(self, rows: Int[Tensor, " new_rows"]) -> "DecoderState":
        """Returns the state of these rows, in this order (repeats allowed); same sources."""
        return replace(
            self,
            hidden=tuple(h.index_select(0, rows) for h in self.hidden),
            cell=tuple(c.index_select(0, rows) for c in self.cell),
            context=None if self.context is None else self.context.index_select(0, rows),
        )

    def select_sentences(self, sentences: Int[Tensor, " new_batch"]) -> "DecoderState":
        """Returns the state with the sources of these sentences; the caller selects the rows."""
        return replace(self, source=self.source.select(sentences))


class Decoder(nn.Module):
    """Recurrent layers with attention between the first and the second, and a readout."""

    def __init__(self, config: ModelConfig, embedding: nn.Embedding, rates: DropoutRates) -> None:
        super().__init__()
        self.residual = config.residual
        self.feeds_context = config.decoder == "feed"
        # Without attention the context never changes, and the bottom layer can read it.
        self.bottom_reads_context = self.feeds_context or config.attention == "none"
        self.embedding = embedding
        self.drop_words = WordDropout(rates.target_word)
        self.drop_embedding = TimewiseDropout(rates.embedding)
        self.drop_hidden = TimewiseDropout(rates.hidden)
        self.drop_readout = TimewiseDropout(rates.readout)
        hidden, enc = config.decoder_hidden, config.encoder_size
        bottom_size = config.embedding_size + (enc if self.bottom_reads_context else 0)
        sizes = [bottom_size] + [hidden + enc] * (config.decoder_layers - 1)
        self.layers = nn.ModuleList(RecurrentLayer(config.cell, size, hidden) for size in sizes)
        self.norms = nn.ModuleList(
            nn.LayerNorm(hidden) if config.layer_norm else nn.Identity() for _ in sizes
        )
        self.attention = build_attention(config)
        self.initial_hidden = nn.ModuleList(nn.Linear(enc, hidden) for _ in sizes)
        self.initial_cell = nn.ModuleList(
            nn.Linear(enc, hidden) for _ in (sizes if config.cell == "lstm" else [])
        )
        self.readout = nn.Linear(hidden + enc + config.embedding_size, config.embedding_size)

    def initial_state(self, source: EncodedSource) -> DecoderState:
        """Returns the state before the first word, made of the summary; one row per sentence."""
        summary = source.summary
        return DecoderState(
            hidden=tuple(torch.tanh(start(summary)) for start in self.initial_hidden),
            cell=tuple(start(summary) for start in self.initial_cell),
            context=torch.zeros_like(summary) if self.feeds_context else None,
            source=source,
        )

    def forward(
        self, target_input: Int[Tensor, "batch tgt_len"], state: DecoderState
    ) -> Float[Tensor, "batch tgt_len emb"]:
        """Returns teacher-forced readouts of whole targets, which start with BOS."""
        embedded = self.drop_embedding(self.drop_words(self.embedding(target_input)))
        if self.feeds_context:
            outputs, context = self._feed(embedded, state)
        else:
            inputs = embedded
            if self.bottom_reads_context:
                summary = state.source.summary.unsqueeze(1).expand(-1, embedded.shape[1], -1)
                inputs = torch.cat([embedded, summary], dim=-1)
            outputs = self.drop_hidden(self.norms[0](self.layers[0](inputs, state.layer(0))))
            context = self.attention(outputs, state.source).context
        for index in range(1, len(self.layers)):
            inputs = torch.cat([outputs, context], dim=-1)
            above = self.norms[index](self.layers[index](inputs, state.layer(index)))
            outputs = self.drop_hidden(outputs + above if self.residual else above)
        return self._read(outputs, context, embedded)

    def _feed(
        self, embedded: Tensor, state: DecoderState
    ) -> tuple[Float[Tensor, "batch tgt_len hidden"], Float[Tensor, "batch tgt_len enc"]]:
        """Runs the bottom layer of the feed family; each word reads the previous context."""
        assert state.context is not None  # initial_state gives the feed family one
        bottom = self.layers[0]
        assert isinstance(bottom, RecurrentLayer)
        fed = feed_contexts(
            embedded,
            state.context,
            state.layer(0),
            state.source,
            layer=bottom,
            norm=self.norms[0],
            attention=self.attention,
            dropped=self.drop_hidden.mask(state.hidden[0]),
        )
        return fed.outputs, fed.contexts

    def _read(self, outputs: Tensor, context: Tensor, embedded: Tensor) -> Tensor:
        readouts = torch.tanh(self.readout(torch.cat([outputs, context, embedded], dim=-1)))
        dropped: Tensor = self.drop_readout(readouts)
        return dropped
