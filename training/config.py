"""TrainingConfig: everything one run is made from, read from one TOML file.

A default is written once, on its field. A field that is None gets a value for the size of the
corpus (`defaults.py`). Unknown keys are errors. Paths are resolved when the file is read.
"""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from model.config import Architecture, SearchDefaults
from model.errors import ConfigError


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CorpusConfig(_Section):
    """One parallel corpus: two aligned text files, or one .tsv, .jsonl or .tmx file (or .gz)."""

    source: Path | None = None
    target: Path | None = None
    path: Path | None = None
    weight: float = Field(default=1.0, gt=0)  # 2.0: each pair twice an epoch; 0.5: every other
    source_column: int = Field(default=0, ge=0)  # TSV, counted from 0
    target_column: int = Field(default=1, ge=0)
    source_key: str | None = None  # JSON lines; None: the language code, else "source"
    target_key: str | None = None

    @model_validator(mode="after")
    def _one_way_to_name_files(self) -> Self:
        two_files = self.source is not None and self.target is not None
        if two_files == (self.path is not None) or (self.source is None) != (self.target is None):
            raise ValueError("a corpus needs either source and target, or path")
        return self

    def files(self) -> tuple[Path, ...]:
        """The files read, source first."""
        return tuple(p for p in (self.source, self.target, self.path) if p is not None)


class CleaningConfig(_Section):
    """What is thrown out of the training pairs; every rule's victims are counted and reported."""

    max_tokens: int = Field(default=200, ge=1)  # pieces on either side, EOS not counted
    max_length_ratio: float = Field(default=3.0, gt=1)  # longer side / shorter side, in pieces
    drop_identical: bool = True  # source equals target
    drop_duplicates: bool = True  # exact repeats of a pair


class DataConfig(_Section):
    """Languages (BCP 47) and corpora."""

    source_language: str = Field(min_length=2, pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$")
    target_language: str = Field(min_length=2, pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$")
    train: tuple[CorpusConfig, ...] = Field(min_length=1)
    dev: CorpusConfig | None = None  # None: dev_size pairs are held out of train
    test: CorpusConfig | None = None  # None: test_size pairs are held out of train
    dev_size: int = Field(default=1000, ge=1)  # at most a tenth of the corpus is taken
    test_size: int = Field(default=1000, ge=0)
    cleaning: CleaningConfig = CleaningConfig()
    description: str = ""  # for the model card: where the text comes from
    licence: str = ""  # for the model card


class TokenizerConfig(_Section):
    """SentencePiece settings; byte fallback is always on, so nothing is unknown."""

    kind: Literal["unigram", "bpe"] = "unigram"
    vocab_size: int | None = Field(default=None, ge=300)  # None: by corpus size
    joint: bool = True  # one vocabulary for both languages
    character_coverage: float | None = Field(default=None, gt=0, le=1)  # None: by script
    normalization: Literal["auto", "nmt_nfkc", "nfkc", "identity"] = "auto"


class DropoutConfig(_Section):
    """Dropout probabilities; each mask is the same along time (Gal and Ghahramani, 2016)."""

    embedding: float | None = Field(default=None, ge=0, lt=1)  # None: by corpus size
    hidden: float | None = Field(default=None, ge=0, lt=1)  # outputs of recurrent layers
    readout: float | None = Field(default=None, ge=0, lt=1)  # before the output layer
    source_word: float = Field(default=0.0, ge=0, lt=1)  # whole source words zeroed
    target_word: float = Field(default=0.0, ge=0, lt=1)


def _batch_tokens(value: Any) -> Any:
    """Refuses in one sentence what would be two mistakes: no number, and not 'auto' either."""
    is_number = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if value is not None and value != "auto" and not is_number:
        raise ValueError("should be a whole number of at least 1, or 'auto'")
    return value


class OptimizationConfig(_Section):
    """How the loss is brought down, and for how long."""

    optimizer: Literal["adamw", "adam"] = "adamw"
    learning_rate: float = Field(default=2e-3, gt=0)  # the peak, reached after warm-up
    weight_decay: float = Field(default=0.01, ge=0)  # adamw only
    beta2: float = Field(default=0.98, gt=0, lt=1)
    schedule: Literal["inverse_sqrt", "plateau", "constant"] = "inverse_sqrt"
    warmup_steps: int = Field(default=400, ge=0)
    plateau_factor: float = Field(default=0.5, gt=0, lt=1)  # schedule = "plateau"
    plateau_patience: int = Field(default=2, ge=0)  # validations without gain before a cut
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    clip_norm: float = Field(default=1.0, gt=0)  # of the whole gradient
    # Rows x longest side of a batch, padding counted; None: by corpus size; "auto": as many as the
    # device has room for (batch_budget.py).
    batch_tokens: Annotated[int | Literal["auto"] | None, BeforeValidator(_batch_tokens)] = None
    accumulate: int = Field(default=1, ge=1)  # batches summed into one update
    max_epochs: int | None = Field(default=None, ge=1)  # None: by corpus size
    max_steps: int | None = Field(default=None, ge=1)  # updates; None: no limit
    ema_decay: float = Field(default=0.998, ge=0, lt=1)  # 0: off
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: measured on the device


class ValidationConfig(_Section):
    """How a run is judged on the dev split, and when it stops."""

    every_steps: int | None = Field(default=None, ge=1)  # None: once an epoch
    metric: Literal["bleu", "chrf", "loss"] = "bleu"  # greedy translation of dev, or its loss
    patience: int = Field(default=10, ge=1)  # validations without gain before stopping
    keep_best: int = Field(default=3, ge=1)  # best states kept in the run folder
    max_sentences: int = Field(default=2000, ge=1)  # of dev, for BLEU and chrF


class TrainingConfig(_Section):
    """One run, whole."""

    data: DataConfig
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: Architecture = Architecture()
    dropout: DropoutConfig = DropoutConfig()
    optimization: OptimizationConfig = OptimizationConfig()
    validation: ValidationConfig = ValidationConfig()
    search: SearchDefaults = SearchDefaults()
    seed: int = Field(default=1, ge=0, lt=2**32)
    save_every_minutes: float = Field(default=5.0, gt=0)  # besides after every validation
    threads: int | None = Field(default=None, ge=1)  # per worker; None: its share of the cores
    device: str = "auto"  # "cpu", "cuda", "cuda:1"; auto: a GPU, for each worker, if there are any

    @model_validator(mode="after")
    def _three_way_tying_needs_one_vocabulary(self) -> Self:
        if self.model.tied_embeddings == "all" and not self.tokenizer.joint:
            raise ValueError("model.tied_embeddings = 'all' needs tokenizer.joint = true")
        return self


def load_config(
    path: Path | None,
    *,
    data: Path | None = None,
    overrides: list[str] | None = None,
    inline: dict[str, Any] | None = None,
) -> TrainingConfig:
    """A TOML recipe (or `inline` tables), with `key=value` overrides, checked and with whole paths.

    Relative paths of corpora start at `data`, else at the recipe's own folder.
    Raises ConfigError with one line per mistake, naming the key.
    """
    tables: dict[str, Any] = {}
    if path is not None:
        try:
            tables = tomllib.loads(path.read_bytes().decode("utf-8-sig"))  # editors add a BOM
        except FileNotFoundError:
            raise ConfigError(f"there is no recipe {path}; check the path") from None
        except IsADirectoryError:
            raise ConfigError(f"{path} is a folder, not a TOML recipe") from None
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8"
            ) from None
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path} is not valid TOML: {error}") from None
    for section, values in (inline or {}).items():
        old = tables.get(section)
        tables[section] = {**old, **values} if isinstance(old, dict) else values
    for override in overrides or []:
        _apply_override(tables, override)
    try:
        config = TrainingConfig.model_validate(tables)
    except ValidationError as error:
        where = f"{path}: " if path is not None else ""
        raise ConfigError(where + describe_mistakes(error)) from None
    base = data if data is not None else (path.parent if path is not None else Path.cwd())
    return _with_whole_paths(config, base)


def describe_mistakes(error: ValidationError) -> str:
    """All mistakes of a pydantic error in one line: key, what is wrong, the value."""
    parts = []
    for mistake in error.errors(include_url=False):
        key = ".".join(str(step) for step in mistake["loc"]) or "config"
        if mistake["type"] == "extra_forbidden":
            parts.append(f"{key}: there is no such setting")
        elif mistake["type"] == "missing":
            parts.append(f"{key}: missing")
        else:
            message = mistake["msg"].removeprefix("Value error, ")
            value = mistake.get("input")
            shown = f" (got {value!r})" if isinstance(value, str | int | float | bool) else ""
            parts.append(f"{key}: {message}{shown}")
    return "; ".join(parts)


def differences(before: Any, now: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """The keys of two JSON values that differ, each with a sentence part that shows both."""
    if isinstance(before, dict) and isinstance(now, dict):
        pairs = [(name, before.get(name), now.get(name)) for name in {**before, **now}]
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = [(str(place), *both) for place, both in enumerate(zip(before, now, strict=True))]
    else:
        if before != now:
            yield key, f"{key} was {before!r} and is now {now!r}"
        return
    for name, old, new in pairs:
        yield from differences(old, new, f"{key}.{name}" if key else name)


def _apply_override(tables: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    steps = key.strip().split(".")
    if not equals or not all(steps):
        raise ConfigError(f"--set takes key=value (for example model.cell=lstm), not {override!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # a bare word is a string: model.cell=lstm
    table = tables
    for step in steps[:-1]:
        table = table.setdefault(step, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {key}: {step} is not a table of settings")
    table[steps[-1]] = value


def _with_whole_paths(config: TrainingConfig, base: Path) -> TrainingConfig:
    def whole(corpus: CorpusConfig | None) -> CorpusConfig | None:
        if corpus is None:
            return None
        paths = {
            name: (base / value).resolve()
            for name in ("source", "target", "path")
            if (value := getattr(corpus, name)) is not None
        }
        return corpus.model_copy(update=paths)

    data = config.data.model_copy(
        update={
            "train": tuple(whole(corpus) for corpus in config.data.train),
            "dev": whole(config.data.dev),
            "test": whole(config.data.test),
        }
    )
    return config.model_copy(update={"data": data})
