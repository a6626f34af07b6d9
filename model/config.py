"""The architecture of a network, as saved in a checkpoint.

Settings that only training needs (dropout, label smoothing, learning rates) are not here.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

CellKind = Literal["lstm", "gru", "rnn"]
AttentionKind = Literal["additive", "dot", "general", "none"]
DecoderFamily = Literal["parallel", "feed"]
Tying = Literal["none", "target", "all"]


class Architecture(BaseModel):
    """Architecture of the network; combinations of settings that make no sense are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell: CellKind = Field(default="gru", description="recurrent cell of encoder and decoder")
    embedding_size: int = Field(default=256, ge=1, description="width of word embeddings")
    encoder_layers: int = Field(default=1, ge=1, description="layers of the encoder")
    encoder_hidden: int = Field(
        default=256, ge=1, description="width of an encoder layer, per direction"
    )
    bidirectional: bool = Field(
        default=True, description="whether the encoder reads the source in both directions"
    )
    reverse_source: bool = Field(
        default=False,
        description="read the source from its end; only with `bidirectional = false`",
    )
    decoder: DecoderFamily = Field(
        default="parallel",
        description="`parallel` trains all target positions at once; `feed` (attention inside the "
        "recurrence) trains more slowly, sometimes with a better score on small corpora",
    )
    decoder_layers: int = Field(default=2, ge=1, description="layers of the decoder")
    decoder_hidden: int = Field(default=256, ge=1, description="width of a decoder layer")
    attention: AttentionKind = Field(
        default="additive",
        description="how source words are weighted; `none` uses one vector for the whole source",
    )
    attention_size: int = Field(
        default=256, ge=1, description="width of additive attention, all heads together"
    )
    attention_heads: int = Field(default=1, ge=1, description="heads of the attention")
    residual: bool = Field(
        default=False, description="residual connections from the second layer of each stack on"
    )
    layer_norm: bool = Field(
        default=False, description="layer normalisation of every recurrent layer's output"
    )
    tied_embeddings: Tying = Field(
        default="target",
        description="which matrices share weights: `target` ties target embeddings to the output "
        "layer, `all` ties source embeddings too (needs a joint vocabulary)",
    )

    @property
    def encoder_size(self) -> int:
        """Width of one encoder state: both directions side by side."""
        return self.encoder_hidden * (2 if self.bidirectional else 1)

    @model_validator(mode="after")
    def _refuse_impossible_combinations(self) -> "Architecture":
        if self.reverse_source and self.bidirectional:
            raise ValueError(
                "reverse_source changes nothing when bidirectional is true (both directions are "
                "read anyway); leave one of the two out"
            )
        if self.attention == "dot" and self.encoder_size != self.decoder_hidden:
            raise ValueError(
                f"attention = 'dot' compares states directly, so decoder_hidden "
                f"({self.decoder_hidden}) must equal the encoder's width ({self.encoder_size}); "
                f"or use 'general'"
            )
        if self.attention == "none" and self.attention_heads != 1:
            raise ValueError("attention = 'none' has no heads; leave attention_heads out")
        if self.attention == "none" and self.decoder == "feed":
            raise ValueError(
                "decoder = 'feed' feeds the attention's context back and attention = 'none' has "
                "none; use decoder = 'parallel'"
            )
        widths = {"attention_size": self.attention_size} if self.attention == "additive" else {}
        if self.attention != "none":
            widths["the encoder's width"] = self.encoder_size
        for name, width in widths.items():
            if width % self.attention_heads:
                raise ValueError(
                    f"{name} ({width}) cannot be shared by {self.attention_heads} heads; "
                    f"make it a multiple of attention_heads"
                )
        return self


class ModelConfig(Architecture):
    """An architecture and the vocabularies it was built for."""

    source_vocab_size: int = Field(ge=5)
    target_vocab_size: int = Field(ge=5)

    @model_validator(mode="after")
    def _refuse_tying_two_vocabularies(self) -> "ModelConfig":
        if self.tied_embeddings == "all" and self.source_vocab_size != self.target_vocab_size:
            raise ValueError(
                f"tied_embeddings = 'all' needs one joint vocabulary, but the sizes are "
                f"{self.source_vocab_size} and {self.target_vocab_size}; "
                f"use 'target' or a joint tokenizer"
            )
        return self


class SearchDefaults(BaseModel):
    """Search settings of the exported checkpoint, for requests that set none of their own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    beam_size: int = Field(
        default=5, ge=1, description="hypotheses per sentence; more are slower, 1 is greedy search"
    )
    length_penalty: float = Field(
        default=1.0,
        ge=0,
        allow_inf_nan=False,
        description="exponent of the length penalty; larger values favour longer translations, "
        "0 turns it off",
    )
