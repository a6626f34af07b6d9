"""Small checkpoints for tests, and the content of their folders."""

from pathlib import Path
from typing import Any

import torch

from model.checkpoint import (
    CARD,
    CONFIG,
    METRICS,
    WEIGHTS,
    Checkpoint,
    CheckpointConfig,
    TokenizerDescription,
    save_checkpoint,
)
from model.config import ModelConfig, SearchDefaults
from model.inference.shortlist import Shortlist
from model.network.batch import SourceBatch
from model.network.seq2seq import Seq2Seq
from model.text.tokenizer import BOS, EOS, JOINT_FILE, TokenizerPair

FILES = (CONFIG, WEIGHTS, METRICS, CARD, JOINT_FILE)
METRICS_OF_OLD: dict[str, Any] = {"dev": {"bleu": 41.5}, "examples": ["Grüße, 你好"]}


def small_config(tokenizers: TokenizerPair, **choices: Any) -> CheckpointConfig:
    return CheckpointConfig(
        source_language="en",
        target_language="de",
        model=ModelConfig(
            source_vocab_size=tokenizers.source.size,
            target_vocab_size=tokenizers.target.size,
            embedding_size=6,
            encoder_hidden=4,
            decoder_hidden=8,
            attention_size=8,
            **choices,
        ),
        tokenizer=TokenizerDescription(
            kind="unigram",
            joint=tokenizers.joint,
            source_normalization="nmt_nfkc",
            target_normalization="nmt_nfkc",
        ),
        search=SearchDefaults(beam_size=3, length_penalty=0.6),
        max_source_tokens=77,
    )


def save(
    folder: Path,
    network: Seq2Seq,
    tokenizers: TokenizerPair,
    *,
    config: CheckpointConfig | None = None,
    weights: dict[str, torch.Tensor] | None = None,
    card: str = "# old\n",
    shortlist: Shortlist | None = None,
) -> Path:
    save_checkpoint(
        folder,
        config=config or small_config(tokenizers),
        weights=dict(network.named_parameters()) if weights is None else weights,
        tokenizers=tokenizers,
        metrics=METRICS_OF_OLD,
        card=card,
        shortlist=shortlist,
    )
    return folder


def build(config: CheckpointConfig) -> Seq2Seq:
    torch.manual_seed(0)
    # torch takes another kernel while gradients are asked for, and its last bit may differ
    return Seq2Seq(config.model).eval().requires_grad_(False)


def log_probs(network: Seq2Seq) -> torch.Tensor:
    with torch.no_grad():
        targets = torch.tensor([[BOS, 17, 18], [BOS, 19, 20]])
        logits: torch.Tensor = network(SourceBatch.from_ids([[5, 6, 7, EOS], [8, EOS]]), targets)
        return logits.log_softmax(-1)


def saved_again(folder: Path, loaded: Checkpoint, card: str = "# new\n", **more: Any) -> None:
    save(folder, loaded.network, loaded.tokenizers, config=loaded.config, card=card, **more)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
