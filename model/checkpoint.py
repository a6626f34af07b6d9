"""Checkpoints: folders that are served, with weights, tokenizer, config, scores and provenance.

Nothing is unpickled. The files:

config.json          format version, languages, architecture, tokenizer kind, search defaults
weights.safetensors  parameters
shortlist.safetensors  target pieces that each source piece may need; optional
*.model              SentencePiece: joint.model, or source.model and target.model
metrics.json         scores with signatures, corpus counts and hashes, training config
README.md            the model card
SHA256SUMS           hashes of all other files; checked before any weight is read
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from model.config import ModelConfig, SearchDefaults
from model.errors import CheckpointError
from model.inference.precision import resolve_device, resolve_precision
from model.inference.products import ProductPrecision
from model.inference.shortlist import Shortlist
from model.network.seq2seq import Seq2Seq
from model.system.atomic_files import replaced_folder
from model.text.tokenizer import TokenizerPair
from model.version import SUMS, version_of

FORMAT_VERSION = 1
CONFIG, WEIGHTS, SHORTLIST, METRICS, CARD = (
    "config.json",
    "weights.safetensors",
    "shortlist.safetensors",
    "metrics.json",
    "README.md",
)


class TokenizerDescription(BaseModel):
    """How the SentencePiece models were made; the models are files beside config.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["unigram", "bpe"]
    joint: bool
    source_normalization: str
    target_normalization: str


class CheckpointConfig(BaseModel):
    """Content of config.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = FORMAT_VERSION
    source_language: str  # BCP 47
    target_language: str
    model: ModelConfig
    tokenizer: TokenizerDescription
    search: SearchDefaults = SearchDefaults()
    max_source_tokens: int = Field(default=200, ge=1)  # pieces, EOS not counted; longer is split


@dataclass(frozen=True)
class CheckpointDescription:
    """All parts of a checkpoint that are read without its weights."""

    config: CheckpointConfig
    metrics: dict[str, Any]
    version: str  # equal content, equal version: see version.py


@dataclass(frozen=True)
class Checkpoint:
    """All parts of a translator, loaded and checked."""

    name: str
    version: str  # equal content, equal version: see version.py
    config: CheckpointConfig
    network: Seq2Seq
    tokenizers: TokenizerPair
    metrics: dict[str, Any]
    precision: ProductPrecision  # for translating; the network's weights are fp32
    shortlist: Shortlist | None = None
    folder: Path | None = None  # None: exists only in memory

    @property
    def device(self) -> torch.device:
        """The device that holds the network."""
        return next(self.network.parameters()).device


def save_checkpoint(
    folder: Path,
    *,
    config: CheckpointConfig,
    weights: dict[str, torch.Tensor],
    tokenizers: TokenizerPair,
    metrics: dict[str, Any],
    card: str,
    shortlist: Shortlist | None = None,
) -> None:
    """Writes the folder whole or not at all; replaces an older checkpoint there.

    CheckpointError when the folder holds anything else.
    """
    check_replaceable(folder)
    with replaced_folder(folder) as temporary:
        _write(temporary / CONFIG, config.model_dump_json(indent=2) + "\n")
        _write(temporary / METRICS, json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")
        _write(temporary / CARD, card)
        try:
            save_file(_without_shared(weights), temporary / WEIGHTS)
            if shortlist is not None:
                save_file(shortlist.tensors(), temporary / SHORTLIST)
        except SafetensorError as error:  # raised when the disk is full
            raise CheckpointError(f"{folder} cannot be written: {error}") from None
        tokenizers.save(temporary)
        files = sorted(path.name for path in temporary.iterdir())
        sums = "".join(f"{file_hash(temporary / name)}  {name}\n" for name in files)
        _write(temporary / SUMS, sums)


def check_replaceable(folder: Path) -> None:
    """Raises CheckpointError when a checkpoint saved here would replace anything else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not all((folder / name).is_file() for name in (CONFIG, SUMS)):
        raise CheckpointError(f"{folder} exists and is no checkpoint; choose another path")
    for path in sorted(folder.iterdir()):
        known = (CONFIG, WEIGHTS, SHORTLIST, METRICS, CARD, SUMS)
        if path.name not in known and path.suffix != ".model":
            raise CheckpointError(
                f"{folder} holds {path.name!r}, which is no part of a checkpoint and would be "
                f"lost; move it away or choose another path"
            )


def load_checkpoint(folder: Path, *, device: str = "cpu", precision: str = "auto") -> Checkpoint:
    """Loads a checkpoint after checking its hashes; CheckpointError when it is damaged."""
    with _permission_errors(folder):
        return _load_checkpoint(folder, device=device, precision=precision)


def _load_checkpoint(folder: Path, *, device: str, precision: str) -> Checkpoint:
    description = read_description(folder)
    config = description.config
    tokenizers = TokenizerPair.load(folder)
    sizes = {
        "source": (config.model.source_vocab_size, tokenizers.source.size),
        "target": (config.model.target_vocab_size, tokenizers.target.size),
    }
    for side, (built_for, size) in sizes.items():
        if built_for != size:
            raise CheckpointError(
                f"{folder}: the network was built for {built_for} {side} pieces, "
                f"but the tokenizer has {size}; export the checkpoint again"
            )
    network = Seq2Seq(config.model).eval()
    try:
        load_weights(network, load_file(folder / WEIGHTS))
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"{folder}: {WEIGHTS} cannot be read: {error}; export the checkpoint again"
        ) from None
    resolved = resolve_device(device)
    return Checkpoint(
        name=folder.resolve().name,
        version=description.version,
        config=config,
        network=network.requires_grad_(False).to(resolved),
        tokenizers=tokenizers,
        metrics=description.metrics,
        precision=resolve_precision(precision, resolved),
        shortlist=_load_shortlist(folder, config.model),
        folder=folder,
    )


def read_description(folder: Path) -> CheckpointDescription:
    """Reads a checkpoint without its weights; CheckpointError when a hash is wrong."""
    with _permission_errors(folder):
        return _read_description(folder)


@contextmanager
def _permission_errors(folder: Path) -> Iterator[None]:
    """Turns a file that this user may not read into a CheckpointError that says what to do."""
    try:
        yield
    except PermissionError as error:
        raise CheckpointError(
            f"{error.filename or folder} cannot be read by this user (user id {os.geteuid()}); "
            f"make the checkpoint readable: chmod -R a+rX {folder}"
        ) from None


def _read_description(folder: Path) -> CheckpointDescription:
    if not folder.is_dir():
        raise CheckpointError(f"there is no checkpoint folder {folder}; check the path")
    for name in (SUMS, CONFIG):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder} is no checkpoint: it has no {name}; "
                f"a run becomes a checkpoint with `dragoman export`"
            )
    _check_format_version(folder)
    version = _check_hashes(folder)
    try:
        config = CheckpointConfig.model_validate_json((folder / CONFIG).read_bytes())
        metrics = json.loads((folder / METRICS).read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(step) for step in first["loc"])
        raise CheckpointError(f"{folder}: {CONFIG} is not valid: {key}: {first['msg']}") from None
    except (ValueError, RecursionError):
        raise CheckpointError(f"{folder}: {METRICS} is not valid JSON; export it again") from None
    if not isinstance(metrics, dict):
        raise CheckpointError(f"{folder}: {METRICS} is not a JSON object; export it again")
    return CheckpointDescription(config, metrics, version)


def _load_shortlist(folder: Path, config: ModelConfig) -> Shortlist | None:
    if not (folder / SHORTLIST).is_file():
        return None
    try:
        return Shortlist.from_tensors(
            load_file(folder / SHORTLIST),
            source_vocab_size=config.source_vocab_size,
            target_vocab_size=config.target_vocab_size,
        )
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"{folder}: {SHORTLIST} cannot be read: {error}; export the checkpoint again"
        ) from None


def load_weights(network: Seq2Seq, weights: dict[str, torch.Tensor]) -> None:
    """Copies weights by name into a network; ValueError when one is missing, misshapen or NaN.

    A tied matrix is in the file once, under its first name.
    """
    expected = network.state_dict()
    first_name: dict[int, str] = {}
    for name, tensor in expected.items():
        first_name.setdefault(tensor.data_ptr(), name)
    wanted = {name: expected[name] for name in first_name.values()}
    if missing := sorted(wanted.keys() - weights.keys()):
        raise ValueError(f"parameter {missing[0]} is missing")
    if unknown := sorted(weights.keys() - wanted.keys()):
        raise ValueError(f"parameter {unknown[0]} does not belong to this architecture")
    with torch.no_grad():
        for name, tensor in wanted.items():
            if tensor.shape != weights[name].shape:
                raise ValueError(
                    f"parameter {name} has shape {tuple(weights[name].shape)}, "
                    f"the architecture needs {tuple(tensor.shape)}"
                )
            tensor.copy_(weights[name])
            if not tensor.isfinite().all():
                raise ValueError(f"parameter {name} holds NaN or infinite numbers")


def file_hash(path: Path) -> str:
    """Returns the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _without_shared(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    kept: dict[int, tuple[str, torch.Tensor]] = {}
    for name, tensor in weights.items():
        kept.setdefault(tensor.data_ptr(), (name, tensor.detach().cpu().contiguous()))
    return dict(kept.values())


def _check_format_version(folder: Path) -> None:
    damaged = CheckpointError(f"{folder}: {CONFIG} is damaged or not a Dragoman config")
    try:
        version = json.loads((folder / CONFIG).read_bytes())["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise damaged from None
    if not isinstance(version, int):
        raise damaged
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} has format version {version}, but this Dragoman reads {FORMAT_VERSION}; "
            f"upgrade Dragoman to the version that wrote it"
        )
    if version < FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} has format version {version}, but this Dragoman reads {FORMAT_VERSION}; "
            f"export its run again, or use the Dragoman that wrote it"
        )


def _check_hashes(folder: Path) -> str:
    content = (folder / SUMS).read_bytes()
    try:
        lines = content.decode("utf-8").removesuffix("\n").split("\n")
        sums = {name: expected for expected, name in (line.split("  ", 1) for line in lines)}
    except ValueError:
        raise CheckpointError(f"{folder}: {SUMS} is damaged; copy the checkpoint again") from None
    tokenizers = sorted(path.name for path in folder.glob("*.model"))
    for name in (CONFIG, WEIGHTS, METRICS, CARD, *tokenizers):
        if name not in sums:
            raise CheckpointError(
                f"{folder}: {SUMS} does not list {name}; copy the checkpoint again"
            )
    for name, expected in sums.items():
        if Path(name).name != name or name in ("", "..") or not name.isprintable():
            raise CheckpointError(
                f"{folder}: {SUMS} lists {name!r}, which is no plain file name; "
                f"export the checkpoint again"
            )
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder}: {name} is missing; copy the checkpoint again")
        if file_hash(folder / name) != expected:
            raise CheckpointError(
                f"{folder}: {name} does not match {SUMS}: it is damaged or was changed; "
                f"copy the checkpoint again"
            )
    return version_of(content)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
