"""What a config leaves out, filled in for the size of the corpus.

Small corpora want strong dropout and many epochs; large ones the opposite. The size of the
vocabulary is settled where it is fitted (`fit_tokenizer.py`).
"""

from dataclasses import dataclass

from training.config import TrainingConfig


@dataclass(frozen=True)
class SizeDefaults:
    """Settings for corpora of up to `pairs` sentence pairs."""

    pairs: float
    dropout: float
    batch_tokens: int
    max_epochs: int


BY_SIZE = (
    SizeDefaults(pairs=10_000, dropout=0.3, batch_tokens=600, max_epochs=60),
    SizeDefaults(pairs=60_000, dropout=0.25, batch_tokens=1_200, max_epochs=30),
    SizeDefaults(pairs=500_000, dropout=0.2, batch_tokens=3_000, max_epochs=25),
    SizeDefaults(pairs=5_000_000, dropout=0.1, batch_tokens=8_000, max_epochs=15),
    SizeDefaults(pairs=float("inf"), dropout=0.1, batch_tokens=8_000, max_epochs=5),
)


def fill_defaults(config: TrainingConfig, num_pairs: int) -> TrainingConfig:
    """The config with every None that depends on the number of training pairs replaced."""
    row = _row(num_pairs)
    dropout = config.dropout.model_copy(
        update={
            name: row.dropout
            for name in ("embedding", "hidden", "readout")
            if getattr(config.dropout, name) is None
        }
    )
    fitted = {"batch_tokens": row.batch_tokens, "max_epochs": row.max_epochs}
    optimization = config.optimization.model_copy(
        update={
            name: value
            for name, value in fitted.items()
            if getattr(config.optimization, name) is None
        }
    )
    return config.model_copy(update={"dropout": dropout, "optimization": optimization})


def _row(num_pairs: int) -> SizeDefaults:
    return next(row for row in BY_SIZE if num_pairs <= row.pairs)
