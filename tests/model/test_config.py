"""The architecture in recipes and checkpoints; test_network.py tests refusals too."""

from typing import Any

import pytest
from pydantic import ValidationError

from model.config import Architecture, ModelConfig, SearchDefaults
from tests.networks import SMALL


def test_an_architecture_needs_no_choice_at_all() -> None:
    architecture = Architecture()
    assert architecture.encoder_size == 2 * architecture.encoder_hidden
    ModelConfig(source_vocab_size=5, target_vocab_size=5)


@pytest.mark.parametrize(("bidirectional", "size"), [(True, 8), (False, 4)])
def test_the_encoder_is_as_wide_as_its_directions(bidirectional: bool, size: int) -> None:
    config = ModelConfig(**{**SMALL, "bidirectional": bidirectional})
    assert config.encoder_size == size


@pytest.mark.parametrize("attention", ["additive", "dot", "general", "none"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_json_keeps_every_choice(cell: str, attention: str) -> None:
    choices: dict[str, Any] = {
        "cell": cell,
        "attention": attention,
        "bidirectional": False,
        "reverse_source": True,
        "encoder_hidden": 8,
        "encoder_layers": 2,
        "residual": True,
        "layer_norm": True,
        "tied_embeddings": "all",
    }
    config = ModelConfig(**{**SMALL, **choices})
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    "name",
    [
        "embedding_size",
        "encoder_layers",
        "encoder_hidden",
        "decoder_layers",
        "decoder_hidden",
        "attention_size",
        "attention_heads",
        "source_vocab_size",
        "target_vocab_size",
    ],
)
@pytest.mark.parametrize("value", [0, -1, 1.5, "many"])
def test_sizes_are_positive_whole_numbers(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        ModelConfig(**{**SMALL, name: value})


@pytest.mark.parametrize(
    ("choices", "culprits"),
    [
        # (what cannot work together, the names and values the message must hold)
        (
            {"attention": "general", "encoder_hidden": 5, "attention_heads": 4},
            ("encoder's width", "10", "4", "attention_heads"),
        ),
        (
            {"encoder_hidden": 3, "attention_heads": 4},
            ("encoder's width", "6", "4", "attention_heads"),
        ),
        (
            {"attention": "dot", "bidirectional": False},
            ("decoder_hidden", "8", "4", "general"),
        ),
        ({"bidirectional": "up"}, ("bidirectional",)),
        ({"decoder": "transformer"}, ("decoder", "parallel", "feed")),
        ({"tied_embeddings": True}, ("tied_embeddings", "none", "target", "all")),
    ],
)
def test_a_refusal_names_the_choice_and_its_value(
    choices: dict[str, Any], culprits: tuple[str, ...]
) -> None:
    with pytest.raises(ValidationError) as refusal:
        ModelConfig(**{**SMALL, **choices})
    for culprit in culprits:
        assert culprit in str(refusal.value)


def test_heads_must_only_divide_the_width_of_the_chosen_attention() -> None:
    # attention_size belongs to additive attention alone, so others do not care about it
    ModelConfig(**{**SMALL, "attention": "dot", "attention_size": 7, "attention_heads": 4})


def test_a_missing_vocabulary_is_named() -> None:
    with pytest.raises(ValidationError, match="target_vocab_size"):
        ModelConfig.model_validate({"source_vocab_size": 20})


def test_a_configuration_cannot_be_changed() -> None:
    config = ModelConfig(**SMALL)
    with pytest.raises(ValidationError, match="frozen"):
        config.cell = "lstm"  # type: ignore[misc]


@pytest.mark.parametrize(
    "settings",
    [
        {"beam_size": 0},
        {"length_penalty": -0.1},
        {"length_penalty": float("nan")},
        {"length_penalty": float("inf")},
        {"beams": 5},
    ],
)
def test_search_defaults_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(settings))):
        SearchDefaults(**settings)
