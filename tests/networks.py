"""Small networks for the tests: every combination of choices that the configuration allows."""

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from pydantic import ValidationError

from model.config import ModelConfig
from model.network.dropout import DropoutRates
from model.network.seq2seq import Seq2Seq

VOCAB = 13
SMALL: dict[str, Any] = {
    "source_vocab_size": VOCAB,
    "target_vocab_size": VOCAB,
    "embedding_size": 6,
    "encoder_hidden": 4,
    "decoder_hidden": 8,
    "attention_size": 8,
}


def build(*, seed: int = 0, rates: DropoutRates | None = None, **choices: Any) -> Seq2Seq:
    """A small network with random weights, large enough that mistakes show; evaluation mode."""
    torch.manual_seed(seed)
    network = Seq2Seq(ModelConfig(**{**SMALL, **choices}), rates)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return network.eval()


ENCODERS = ((True, False), (False, False), (False, True))  # bidirectional, reverse_source


def combinations() -> Iterator[dict[str, Any]]:
    """Every cell x decoder x attention that is not refused, each with every encoder, with one and
    two heads, and in depth (residual and normalised). What cannot meet is not multiplied out:
    heads know nothing of the encoder's direction.
    """
    shapes = [(encoder, 1, 1) for encoder in ENCODERS]
    shapes += [(ENCODERS[0], 2, 1), (ENCODERS[0], 1, 3)]
    for cell, decoder, attention, ((bidirectional, reverse), heads, layers) in itertools.product(
        ("lstm", "gru", "rnn"),
        ("parallel", "feed"),
        ("additive", "dot", "general", "none"),
        shapes,
    ):
        choices: dict[str, Any] = {
            "cell": cell,
            "decoder": decoder,
            "attention": attention,
            "encoder_layers": layers,
            "decoder_layers": layers,
            "bidirectional": bidirectional,
            "reverse_source": reverse,
            "attention_heads": heads,
            "residual": layers == 3,
            "layer_norm": layers == 3,
            "encoder_hidden": 4 if bidirectional else 8,
        }
        try:
            ModelConfig(**{**SMALL, **choices})
        except ValidationError:
            continue
        yield choices


def name(choices: dict[str, Any]) -> str:
    """A readable test id."""
    return "-".join(f"{value}" for value in choices.values())
