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
    """Shape of one encoder-decoder without its vocabularies; refuses impossible combinations."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell: CellKind = "gru"
    embedding_size: int = Field(default=256, ge=1)
    encoder_layers: int = Field(default=1, ge=1)
    encoder_hidden: int = Field(default=256, ge=1)  # per direction
    bidirectional: bool = True
    reverse_source: bool = False  # one-way encoders only: read the source from its end
    decoder: DecoderFamily = "parallel"
    decoder_layers: int = Field(default=2, ge=1)
    decoder_hidden: int = Field(default=256, ge=1)
    attention: AttentionKind = "additive"
    attention_size: int = Field(default=256, ge=1)  # additive attention, all heads
    attention_heads: int = Field(default=1, ge=1)
    residual: bool = False  # from the second layer of each stack on
    layer_norm: bool = False  # on the output of every recurrent layer
    tied_embeddings: Tying = "target"  # "target": input and output; "all": source too

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
    """Search settings of requests that choose none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    beam_size: int = Field(default=5, ge=1)
    length_penalty: float = Field(default=1.0, ge=0, allow_inf_nan=False)
