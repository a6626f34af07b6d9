"""`dragoman inspect`: a checkpoint's languages, origin, size and scores; reads no weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from model.checkpoint import WEIGHTS, CheckpointConfig, read_description
from model.errors import CheckpointError
from model.text.tokenizer import TokenizerPair

_INDENT = "  "
_LABEL_WIDTH = 22
_LONGEST_LIST = 5  # items of a list in metrics.json that are shown; --json shows all
_LEFT_OUT = {"config", "corpora"}  # in metrics.json: the whole training config, every corpus alone


@dataclass(frozen=True)
class Inspection:
    """Everything `dragoman inspect` shows."""

    name: str
    version: str
    config: CheckpointConfig
    metrics: dict[str, Any]
    num_parameters: int
    weight_types: tuple[str, ...]  # as safetensors names them: F32, BF16, I8
    file_bytes: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "parameters": self.num_parameters,
            "weight_types": list(self.weight_types),
            "files": self.file_bytes,
            "config": self.config.model_dump(),
            "metrics": self.metrics,
        }

    def lines(self) -> list[str]:
        """Lines for a terminal, in sections; `to_json` has all the details."""
        config = self.config
        described = config.model_dump()
        notes = {key: value for key, value in self.metrics.items() if not isinstance(value, dict)}
        sections: dict[str, dict[str, Any]] = {
            f"{self.name}: {config.source_language} → {config.target_language}": {
                "version": self.version,
                "parameters": f"{self.num_parameters:,} ({', '.join(self.weight_types)})",
                "size": f"{sum(self.file_bytes.values()) / 1e6:.1f} MB",
                "longest source": f"{config.max_source_tokens} pieces; longer is split",
                "format": config.format_version,
                **notes,
            },
            **{
                title: {key: value for key, value in content.items() if key not in _LEFT_OUT}
                for title, content in self.metrics.items()
                if isinstance(content, dict) and title not in _LEFT_OUT
            },
            "network": described["model"],
            "tokenizer": described["tokenizer"],
            "search defaults": described["search"],
        }
        lines: list[str] = []
        for title, fields in sections.items():
            lines += ["", title] if lines else [title]
            lines += _rows(fields, _INDENT)
        return lines


def inspect(checkpoint: Path) -> Inspection:
    """Checks the folder's hashes and reads its description. Raises CheckpointError."""
    description = read_description(checkpoint)
    TokenizerPair.load(checkpoint)  # raises for a file that is not a SentencePiece model
    num_parameters, types = 0, set()
    try:
        with safe_open(checkpoint / WEIGHTS, framework="np") as weights:
            for name in weights.keys():  # noqa: SIM118 - not a dict
                part = weights.get_slice(name)
                size = 1
                for length in part.get_shape():
                    size *= length
                num_parameters += size
                types.add(str(part.get_dtype()))
    except SafetensorError as error:
        raise CheckpointError(
            f"{checkpoint}: {WEIGHTS} cannot be read: {error}; export the checkpoint again"
        ) from None
    sizes = {path.name: path.stat().st_size for path in sorted(checkpoint.iterdir())}
    return Inspection(
        checkpoint.resolve().name,
        description.version,
        description.config,
        description.metrics,
        num_parameters,
        tuple(sorted(types)),
        sizes,
    )


def _rows(fields: dict[str, Any], indent: str) -> list[str]:
    rows: list[str] = []
    for key, value in fields.items():
        label = f"{indent}{key.replace('_', ' ')}"
        if isinstance(value, dict) and value.keys() == {"score", "signature"}:
            rows += [f"{label:<{_LABEL_WIDTH}}  {value['score']:6.2f}  {value['signature']}"]
        elif isinstance(value, dict):
            rows += [label, *_rows(value, indent + _INDENT)]
        elif isinstance(value, list):
            rows += [f"{label} ({len(value)})"]
            rows += [f"{indent}{_INDENT}{_shown(item)}" for item in value[:_LONGEST_LIST]]
        elif value not in (None, ""):
            rows += [f"{label:<{_LABEL_WIDTH}}  {_shown(value)}"]
    return rows


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "  ".join(_shown(part) for part in value.values())
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return " ".join(str(value).split())
