"""Tests the settings of training: descriptions, and defaults by the size of the corpus."""

from collections.abc import Iterator

from pydantic import BaseModel

from training.config import CorpusConfig, ResolvedConfig, TrainingConfig
from training.recipe_file import load_config
from training.run.resolve import complete

DATA = {
    "data": {
        "source_language": "en",
        "target_language": "de",
        "train": [{"source": "a.en", "target": "a.de"}],
    }
}


def completed(num_pairs: int, *overrides: str) -> ResolvedConfig:
    config = load_config(None, inline=DATA, overrides=list(overrides))
    return complete(config, num_pairs, threads=1, precision="fp32")


def test_defaults_depend_on_the_size_of_the_corpus() -> None:
    small, large = completed(10_000), completed(10_001)
    assert (small.optimization.batch_tokens, large.optimization.batch_tokens) == (600, 1_200)
    assert small.optimization.max_epochs == 60
    assert small.dropout.embedding == small.dropout.hidden == small.dropout.readout == 0.3
    assert completed(10**9).optimization.max_epochs == 5


def test_settings_of_the_recipe_win_over_defaults_by_size() -> None:
    config = completed(
        100, "dropout.hidden=0", "optimization.max_epochs=2", "optimization.batch_tokens=77"
    )
    assert config.dropout.hidden == 0
    assert config.dropout.embedding == 0.3
    assert config.optimization.max_epochs == 2
    assert config.optimization.batch_tokens == 77


def test_every_setting_has_a_description() -> None:
    def undescribed(section: type[BaseModel], prefix: str) -> Iterator[str]:
        for name, field in section.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from undescribed(field.annotation, f"{prefix}{name}.")
            elif not field.description:
                yield prefix + name

    sections = [*undescribed(TrainingConfig, ""), *undescribed(CorpusConfig, "data.train.")]
    assert sections == []
