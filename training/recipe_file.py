"""Reads a recipe: the TOML file of a run's settings, with those given on the command line.

Mistakes are described in one line, with key and value.
"""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from model.errors import ConfigError
from training.config import CorpusConfig, TrainingConfig


def load_config(
    path: Path | None,
    *,
    data: Path | None = None,
    overrides: list[str] | None = None,
    inline: dict[str, Any] | None = None,
) -> TrainingConfig:
    """Reads and checks a TOML recipe (or `inline` tables), with `key=value` overrides applied.

    Relative paths of corpora start at `data`, else at the recipe's own folder, and become absolute.
    Raises ConfigError with one line that names every wrong key.
    """
    tables: dict[str, Any] = {}
    if path is not None:
        try:
            tables = tomllib.loads(path.read_bytes().decode("utf-8-sig"))  # editors add a BOM
        except FileNotFoundError:
            raise ConfigError(f"recipe {path} does not exist; check the path") from None
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
    return _with_absolute_paths(config, base)


def describe_mistakes(error: ValidationError) -> str:
    """Describes all mistakes of a pydantic error in one line: key, what is wrong, the value."""
    parts = []
    for mistake in error.errors(include_url=False):
        key = ".".join(str(step) for step in mistake["loc"]) or "config"
        if mistake["type"] == "extra_forbidden":
            parts.append(f"{key}: unknown setting")
        elif mistake["type"] == "missing":
            parts.append(f"{key}: required, but missing")
        else:
            message = mistake["msg"].removeprefix("Value error, ")
            value = mistake.get("input")
            shown = f" (got {value!r})" if isinstance(value, str | int | float | bool) else ""
            parts.append(f"{key}: {message}{shown}")
    return "; ".join(parts)


def differences(before: Any, now: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yields each key in which two JSON values differ, with a text that shows both values."""
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
            raise ConfigError(f"--set {key}: {step} is one setting, not a table of settings")
    table[steps[-1]] = value


def _with_absolute_paths(config: TrainingConfig, base: Path) -> TrainingConfig:
    def absolute(corpus: CorpusConfig | None) -> CorpusConfig | None:
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
            "train": tuple(absolute(corpus) for corpus in config.data.train),
            "dev": absolute(config.data.dev),
            "test": absolute(config.data.test),
        }
    )
    return config.model_copy(update={"data": data})
