"""The encoder: source ids to one state per source token, and one summary of the sentence."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from model.config import ModelConfig
from model.network.batch import SourceBatch
from model.network.dropout import DropoutRates, TimewiseDropout, WordDropout
from model.network.recurrent import RecurrentLayer, reorder, reversed_positions


class Encoder(nn.Module):
    """A stack of recurrent layers, read forwards, backwards or both ways (Schuster, 1997).

    The backward direction reads each sentence from its own last token: positions are reversed
    within the sentence's length, so padding never comes before a real token.
    """

    def __init__(self, config: ModelConfig, embedding: nn.Embedding, rates: DropoutRates) -> None:
        super().__init__()
        self.residual = config.residual
        self.embedding = embedding
        self.drop_words = WordDropout(rates.source_word)
        self.drop_embedding = TimewiseDropout(rates.embedding)
        self.drop_hidden = TimewiseDropout(rates.hidden)
        self.forwards = config.bidirectional or not config.reverse_source
        self.backwards = config.bidirectional or config.reverse_source
        sizes = [config.embedding_size] + [config.encoder_size] * (config.encoder_layers - 1)

        def stack() -> nn.ModuleList:
            return nn.ModuleList(
                RecurrentLayer(config.cell, s, config.encoder_hidden) for s in sizes
            )

        self.forward_layers = stack() if self.forwards else nn.ModuleList()
        self.backward_layers = stack() if self.backwards else nn.ModuleList()
        self.norms = nn.ModuleList(
            nn.LayerNorm(config.encoder_size) if config.layer_norm else nn.Identity() for _ in sizes
        )

    def forward(
        self, source: SourceBatch
    ) -> tuple[Float[Tensor, "batch src_len enc"], Float[Tensor, "batch enc"]]:
        """Returns states in the order of the source, and the summary."""
        positions = reversed_positions(source.lengths, source.token_ids.shape[1])
        states = self.drop_embedding(self.drop_words(self.embedding(source.token_ids)))
        for layer, norm in enumerate(self.norms):
            outputs = norm(self._both_ways(layer, states, positions))
            states = states + outputs if self.residual and layer > 0 else outputs
            states = self.drop_hidden(states)
        return states, self.summary(states, source)

    def _both_ways(self, layer: int, states: Tensor, positions: Tensor) -> Tensor:
        directions = []
        if self.forwards:
            directions.append(self.forward_layers[layer](states))
        if self.backwards:
            mirrored = self.backward_layers[layer](reorder(states, positions))
            directions.append(reorder(mirrored, positions))
        return torch.cat(directions, dim=-1)

    def summary(
        self, states: Float[Tensor, "batch src_len enc"], source: SourceBatch
    ) -> Float[Tensor, "batch enc"]:
        """Returns the last state of each direction, side by side."""
        last = (source.lengths - 1)[:, None, None].expand(-1, 1, states.shape[-1])
        at_end = states.gather(1, last).squeeze(1)
        at_start = states[:, 0]
        if self.forwards and self.backwards:
            half = states.shape[-1] // 2
            return torch.cat([at_end[:, :half], at_start[:, half:]], dim=-1)
        return at_end if self.forwards else at_start
