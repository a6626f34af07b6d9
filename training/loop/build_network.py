"""Builds the network of a run, describes it, and makes the config of its checkpoint."""

import numpy as np
import torch

from model.checkpoint import CheckpointConfig, TokenizerDescription
from model.config import ModelConfig
from model.inference.precision import resolve_device
from model.network.dropout import DropoutRates
from model.network.seq2seq import Seq2Seq, count_parameters
from model.text.tokenizer import TokenizerPair
from training.config import ResolvedConfig, TrainingConfig
from training.data.fit_tokenizer import normalizations
from training.data.token_store import TokenStore


def build_network(
    config: ResolvedConfig, tokenizers: TokenizerPair, device: torch.device | None = None
) -> Seq2Seq:
    """Builds a network with random weights from the run's seed, on `device` or the run's own."""
    torch.manual_seed(config.seed)
    architecture = ModelConfig(
        **config.model.model_dump(),
        source_vocab_size=tokenizers.source.size,
        target_vocab_size=tokenizers.target.size,
    )
    rates = DropoutRates(**config.dropout.model_dump())
    return Seq2Seq(architecture, rates).to(device or resolve_device(config.device))


def describe(network: Seq2Seq) -> str:
    """Describes the network in one line."""
    config = network.config
    way = "bidirectional" if config.bidirectional else "one-way"
    return (
        f"{count_parameters(network):,} parameters: {config.encoder_layers}-layer {way} "
        f"{config.cell} encoder of {config.encoder_hidden}, {config.decoder_layers}-layer "
        f"{config.decoder} decoder of {config.decoder_hidden}, {config.attention} attention, "
        f"{config.source_vocab_size:,} source and {config.target_vocab_size:,} target pieces"
    )


def checkpoint_config(
    config: TrainingConfig, network: Seq2Seq, tokenizers: TokenizerPair, store: TokenStore
) -> CheckpointConfig:
    """Returns the config of the checkpoint that this run exports."""
    source_rule, target_rule = normalizations(config.tokenizer, config.data.target_language)
    return CheckpointConfig(
        source_language=config.data.source_language,
        target_language=config.data.target_language,
        model=network.config,
        tokenizer=TokenizerDescription(
            kind=config.tokenizer.kind,
            joint=tokenizers.joint,
            source_normalization=source_rule,
            target_normalization=target_rule,
        ),
        search=config.search,
        max_source_tokens=_max_source_tokens(store),
    )


def _max_source_tokens(store: TokenStore) -> int:
    """Returns the longest source that is translated in one piece, longer ones are split.

    1.5 times the length that 99.9 % of the training sources stay below: the network has seen no
    much longer sentences and translates them better in parts.
    """
    step = max(1, len(store) // 1_000_000)
    longest = float(np.quantile(store.source_lengths[::step], 0.999))
    return max(int(1.5 * longest), 20)
