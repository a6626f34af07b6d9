"""The whole network as trained: encoder, decoder and output layer."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from model.config import ModelConfig
from model.network.attention import EncodedSource
from model.network.batch import SourceBatch
from model.network.decoder import Decoder, DecoderState
from model.network.dropout import DropoutRates
from model.network.encoder import Encoder
from model.text.tokenizer import PAD


class Seq2Seq(nn.Module):
    """An encoder-decoder built from `config`; `rates` are for training, default: no dropout."""

    def __init__(self, config: ModelConfig, rates: DropoutRates | None = None) -> None:
        super().__init__()
        rates = rates or DropoutRates()
        self.config = config
        target_embedding = _embedding(config.target_vocab_size, config.embedding_size)
        source_embedding = (
            target_embedding
            if config.tied_embeddings == "all"
            else _embedding(config.source_vocab_size, config.embedding_size)
        )
        self.encoder = Encoder(config, source_embedding, rates)
        self.decoder = Decoder(config, target_embedding, rates)
        self.output = nn.Linear(config.embedding_size, config.target_vocab_size)
        nn.init.zeros_(self.output.bias)
        if config.tied_embeddings != "none":
            self.output.weight = target_embedding.weight

    def encode(self, source: SourceBatch) -> DecoderState:
        """Encodes sources; returns the state before their first target word, one row each."""
        values, summary = self.encoder(source)
        keys = self.decoder.attention.keys(values)
        return self.decoder.initial_state(EncodedSource(keys, values, source.mask, summary))

    def readouts(
        self, source: SourceBatch, target_input: Int[Tensor, "batch tgt_len"]
    ) -> Float[Tensor, "batch tgt_len emb"]:
        """Returns teacher-forced outputs before the output layer; targets start with BOS."""
        readouts: Tensor = self.decoder(target_input, self.encode(source))
        return readouts

    def forward(
        self, source: SourceBatch, target_input: Int[Tensor, "batch tgt_len"]
    ) -> Float[Tensor, "batch tgt_len vocab"]:
        """Returns teacher-forced logits: place t scores what follows target_input[:, : t + 1]."""
        logits: Tensor = self.output(self.readouts(source, target_input))
        return logits


def count_parameters(network: nn.Module) -> int:
    """Returns the number of trained parameters; tied ones count once."""
    return sum(parameter.numel() for parameter in network.parameters())


def _embedding(vocab_size: int, size: int) -> nn.Embedding:
    embedding = nn.Embedding(vocab_size, size, padding_idx=PAD)
    # Small enough that a tied output layer starts near the uniform distribution.
    nn.init.normal_(embedding.weight, std=size**-0.5)
    with torch.no_grad():
        embedding.weight[PAD].zero_()
    return embedding
