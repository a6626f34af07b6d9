"""A checkpoint in a second: real tokenizer, small untrained network; deterministic.

    python -m tests.tiny_checkpoint FOLDER

Its translations are nonsense, but always the same nonsense, which is what most tests need.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from model.checkpoint import CheckpointConfig, TokenizerDescription, save_checkpoint
from model.config import ModelConfig, SearchDefaults
from model.network.seq2seq import Seq2Seq
from model.text.tokenizer import TokenizerPair
from training.config import TokenizerConfig
from training.data.fit_tokenizer import fit_tokenizers

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
ZAHLEN = ("eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn")
ENGLISH = [f"We have {a} apples and {b} pears." for a in NUMBERS for b in NUMBERS]
GERMAN = [f"Wir haben {a} Äpfel und {b} Birnen." for a in ZAHLEN for b in ZAHLEN]


def fit_tiny_tokenizers(folder: Path, *, joint: bool = True) -> TokenizerPair:
    """SentencePiece models of a few hundred pieces (256 of them bytes)."""
    return fit_tokenizers(
        lambda: iter(ENGLISH),
        lambda: iter(GERMAN),
        config=TokenizerConfig(vocab_size=320, joint=joint),
        source_language="en",
        target_language="de",
        folder=folder,
        seed=1,
        report=lambda message: None,
    )


def write_tiny_checkpoint(folder: Path, *, seed: int = 1, **choices: Any) -> Path:
    """Writes a whole checkpoint of an untrained network; `choices` go to its architecture."""
    with tempfile.TemporaryDirectory() as scratch:
        tokenizers = fit_tiny_tokenizers(Path(scratch))
    small: dict[str, Any] = {
        "embedding_size": 16,
        "encoder_hidden": 16,
        "decoder_hidden": 32,
        "attention_size": 16,
    }
    config = CheckpointConfig(
        source_language="en",
        target_language="de",
        model=ModelConfig(
            source_vocab_size=tokenizers.source.size,
            target_vocab_size=tokenizers.target.size,
            **{**small, **choices},
        ),
        tokenizer=TokenizerDescription(
            kind="unigram",
            joint=tokenizers.joint,
            source_normalization="nmt_nfkc",
            target_normalization="nmt_nfkc",
        ),
        search=SearchDefaults(beam_size=2),
        max_source_tokens=40,
    )
    torch.manual_seed(seed)
    network = Seq2Seq(config.model)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    save_checkpoint(
        folder,
        config=config,
        weights=dict(network.named_parameters()),
        tokenizers=tokenizers,
        metrics={"examples": ENGLISH[:5]},
        card="# tiny\n\nAn untrained network for tests.\n",
    )
    return folder


if __name__ == "__main__":
    write_tiny_checkpoint(Path(sys.argv[1]))
