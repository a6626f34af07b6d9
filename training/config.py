"""TrainingConfig: all settings of one training run; recipe_file.py reads them from a TOML file.

Every field carries its default and its description; docs/training.md is generated from them. Fields
that are None or "auto" are filled in by `training/run/resolve.py`, which returns a ResolvedConfig.
Unknown keys are errors. Paths become absolute when the file is read.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from model.config import Architecture, SearchDefaults

DevMetric = Literal["bleu", "chrf", "loss"]

_LANGUAGE = r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CorpusConfig(_Section):
    """One corpus of sentence pairs: two aligned text files, or one .tsv, .jsonl or .tmx file.

    Each of them may be compressed with gzip.
    """

    source: Path | None = Field(
        default=None, description="source text, one sentence per line; needs `target`"
    )
    target: Path | None = Field(
        default=None, description="target text; line n is the translation of line n of `source`"
    )
    path: Path | None = Field(
        default=None,
        description="one file with both sides, instead of `source` and `target`: `.tsv`, `.jsonl` "
        "or `.tmx`, each also with `.gz`",
    )
    weight: float = Field(
        default=1.0,
        gt=0,
        description="how often each pair is trained on per epoch, on average: 2 means twice, 0.5 "
        "every second epoch. Only in `data.train`",
    )
    source_column: int = Field(
        default=0, ge=0, description="column of the source text in a `.tsv` file, counted from 0"
    )
    target_column: int = Field(
        default=1, ge=0, description="column of the target text in a `.tsv` file, counted from 0"
    )
    source_key: str | None = Field(
        default=None,
        description="key of the source text in a `.jsonl` file; unset: the language code, then "
        "its first part (`zh` of `zh-Hans`), then `source`",
    )
    target_key: str | None = Field(
        default=None,
        description="key of the target text in a `.jsonl` file; unset: the language code, then "
        "its first part, then `target`",
    )

    @model_validator(mode="after")
    def _one_way_to_name_files(self) -> Self:
        two_files = self.source is not None and self.target is not None
        if two_files == (self.path is not None) or (self.source is None) != (self.target is None):
            raise ValueError("a corpus needs either source and target, or path")
        return self

    def files(self) -> tuple[Path, ...]:
        """Returns the files of the corpus, source first."""
        return tuple(p for p in (self.source, self.target, self.path) if p is not None)


class CleaningConfig(_Section):
    """Rules that remove pairs from the training corpora; the report counts what each removed."""

    max_tokens: int = Field(
        default=200,
        ge=1,
        description="longest training sentence, in pieces; a pair with a longer side is removed",
    )
    max_length_ratio: float = Field(
        default=3.0,
        gt=1,
        description="largest ratio of the longer side to the shorter side, in pieces; applies to "
        "pairs with more than 10 pieces on one side",
    )
    drop_identical: bool = Field(
        default=True, description="remove pairs whose source equals their target"
    )
    drop_duplicates: bool = Field(default=True, description="remove exact repeats of a pair")


class DataConfig(_Section):
    """Languages and corpora of a run."""

    source_language: str = Field(
        min_length=2, pattern=_LANGUAGE, description="BCP 47 code such as `en` or `zh-Hans`"
    )
    target_language: str = Field(
        min_length=2, pattern=_LANGUAGE, description="BCP 47 code such as `de` or `pt-BR`"
    )
    train: tuple[CorpusConfig, ...] = Field(
        min_length=1, description="training corpora, one `[[data.train]]` table each"
    )
    dev: CorpusConfig | None = Field(
        default=None,
        description="pairs that choose the best state of the network, never cleaned; unset: "
        "`dev_size` pairs are held out of `train`",
    )
    test: CorpusConfig | None = Field(
        default=None,
        description="pairs that score the exported checkpoint, never cleaned; unset: `test_size` "
        "pairs are held out of `train`",
    )
    dev_size: int = Field(
        default=1000,
        ge=1,
        description="pairs to hold out as dev, at most a tenth of the different pairs",
    )
    test_size: int = Field(
        default=1000,
        ge=0,
        description="pairs to hold out as test, at most a tenth of the different pairs; 0: no test",
    )
    cleaning: CleaningConfig = CleaningConfig()
    description: str = Field(
        default="", description="where the text comes from, for the model card"
    )
    licence: str = Field(default="", description="licence of the text, for the model card")


class TokenizerConfig(_Section):
    """SentencePiece settings. Byte fallback is always on: rare characters are spelt in bytes."""

    kind: Literal["unigram", "bpe"] = Field(
        default="unigram", description="algorithm that learns the pieces"
    )
    vocab_size: int | None = Field(
        default=None,
        ge=300,
        description="pieces per vocabulary; unset: 2,000 to 32,000 by corpus size. Small corpora "
        "need small vocabularies, or most pieces are too rare to be learnt",
    )
    joint: bool = Field(
        default=True,
        description="one vocabulary for both languages; false suits languages with different "
        "scripts",
    )
    character_coverage: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="share of the characters that become pieces, the rest is spelt in bytes; "
        "unset: 0.9995 for Chinese, Japanese and Korean, else 1",
    )
    normalization: Literal["auto", "nmt_nfkc", "nfkc", "identity"] = Field(
        default="auto",
        description="SentencePiece's normalisation of the text; auto: `identity` if the target is "
        "Chinese, Japanese, Korean, Thai or Lao, else `nmt_nfkc`",
    )


class DropoutConfig(_Section):
    """Dropout probabilities; a mask stays the same along time (Gal and Ghahramani, 2016)."""

    embedding: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="on word embeddings; unset: 0.3 to 0.1 by corpus size",
    )
    hidden: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="on outputs of recurrent layers; unset: 0.3 to 0.1 by corpus size",
    )
    readout: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="before the output layer; unset: 0.3 to 0.1 by corpus size",
    )
    source_word: float = Field(
        default=0.0, ge=0, lt=1, description="probability to zero a whole source word"
    )
    target_word: float = Field(
        default=0.0, ge=0, lt=1, description="probability to zero a whole target word"
    )


def _batch_tokens(value: Any) -> Any:
    """Checks the value here, so that a wrong one gets one message and not one per allowed type."""
    is_number = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if value is not None and value != "auto" and not is_number:
        raise ValueError("should be a whole number of at least 1, or 'auto'")
    return value


class OptimizationConfig(_Section):
    """How the weights are updated, and for how long."""

    optimizer: Literal["adamw", "adam"] = Field(default="adamw", description="optimizer")
    learning_rate: float = Field(
        default=2e-3,
        gt=0,
        description="highest learning rate, reached after warm-up; halve it if the loss is "
        "unsteady or not a number",
    )
    weight_decay: float = Field(
        default=0.01, ge=0, description="weight decay of matrices; only with `adamw`"
    )
    beta2: float = Field(
        default=0.98, gt=0, lt=1, description="decay of Adam's average of squared gradients"
    )
    schedule: Literal["inverse_sqrt", "plateau", "constant"] = Field(
        default="inverse_sqrt",
        description="learning rate after warm-up: falls with the square root of the update number, "
        "is multiplied by `plateau_factor` whenever the dev score stops rising, or stays constant",
    )
    warmup_steps: int = Field(
        default=400, ge=0, description="updates in which the learning rate rises from 0 to its peak"
    )
    plateau_factor: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="factor of the learning rate at each cut; only with `plateau`",
    )
    plateau_patience: int = Field(
        default=2,
        ge=0,
        description="validations without a better score before a cut; only with `plateau`",
    )
    label_smoothing: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="probability mass that the loss spreads evenly over all pieces",
    )
    clip_norm: float = Field(
        default=1.0, gt=0, description="largest norm of the whole gradient; longer ones are scaled"
    )
    batch_tokens: Annotated[int | Literal["auto"] | None, BeforeValidator(_batch_tokens)] = Field(
        default=None,
        description="size of a batch: rows × longest side in pieces, padding counted. Larger "
        "batches need more memory and make fewer updates. Unset: 600 to 8,000 by corpus size; "
        "auto: measured, the largest that fits into the memory of the device",
    )
    accumulate: int = Field(
        default=1,
        ge=1,
        description="batches per update; their gradients are summed, so that a small device can "
        "make updates of large batches",
    )
    max_epochs: int | None = Field(
        default=None,
        ge=1,
        description="passes over the training corpora after which training stops; unset: 60 to 5 "
        "by corpus size",
    )
    max_steps: int | None = Field(
        default=None, ge=1, description="updates after which training stops; unset: no limit"
    )
    ema_decay: float = Field(
        default=0.998,
        ge=0,
        lt=1,
        description="decay of the moving average of the weights, which is validated and exported; "
        "0: no average",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description="number format of products, weights stay fp32; auto: bf16 if the device "
        "multiplies clearly faster in it",
    )


class ValidationConfig(_Section):
    """How a run is judged on the dev split, and when it stops early."""

    every_steps: int | None = Field(
        default=None, ge=1, description="updates between two validations; unset: once per epoch"
    )
    metric: DevMetric = Field(
        default="bleu",
        description="score that decides which state is best: BLEU or chrF of greedy translations, "
        "or the loss",
    )
    patience: int = Field(
        default=10, ge=1, description="validations without a better score before training stops"
    )
    keep_best: int = Field(
        default=3,
        ge=1,
        description="best states to keep in the run folder; `export --which average` averages them",
    )
    max_sentences: int = Field(
        default=2000,
        ge=1,
        description="how many sentences from the start of dev each validation translates for BLEU "
        "and chrF; the loss is measured on all of dev",
    )


class TrainingConfig(_Section):
    """All settings of one run, as asked for."""

    data: DataConfig
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: Architecture = Architecture()
    dropout: DropoutConfig = DropoutConfig()
    optimization: OptimizationConfig = OptimizationConfig()
    validation: ValidationConfig = ValidationConfig()
    search: SearchDefaults = SearchDefaults()
    seed: int = Field(
        default=1,
        ge=0,
        lt=2**32,
        description="seed of initial weights, dropout and batch order; the same seed on the same "
        "machine gives the same weights",
    )
    save_every_minutes: float = Field(
        default=5.0,
        gt=0,
        description="minutes between two saved run states; every validation saves one too",
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        description="CPU threads per worker; unset: the cores divided by the workers on this "
        "machine",
    )
    device: str = Field(
        default="auto",
        description="`cpu`, `cuda` or `cuda:1`; auto: a GPU per worker if there is one, else the "
        "CPU",
    )

    @model_validator(mode="after")
    def _three_way_tying_needs_one_vocabulary(self) -> Self:
        if self.model.tied_embeddings == "all" and not self.tokenizer.joint:
            raise ValueError("model.tied_embeddings = 'all' needs tokenizer.joint = true")
        return self


class ResolvedDropout(DropoutConfig):
    """Dropout probabilities after the defaults by corpus size were filled in."""

    embedding: float = Field(ge=0, lt=1)
    hidden: float = Field(ge=0, lt=1)
    readout: float = Field(ge=0, lt=1)


class ResolvedOptimization(OptimizationConfig):
    """Optimization settings after defaults and measured values were filled in."""

    batch_tokens: int = Field(ge=1)
    max_epochs: int = Field(ge=1)
    precision: Literal["fp32", "bf16"]


class ResolvedConfig(TrainingConfig):
    """All settings of one run, with a value for everything; `training/run/resolve.py` makes it."""

    dropout: ResolvedDropout
    optimization: ResolvedOptimization
    threads: int = Field(ge=1)
