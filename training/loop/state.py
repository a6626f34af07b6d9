"""Saves and loads run states: all that training needs to resume exactly, in one safetensors file.

The `last` state holds weights, optimizer, averages, random state and progress. A `best` state holds
weights to export. The progress is JSON in the metadata of the same file, so that it always belongs
to the tensors. Files are replaced atomically.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.system.atomic_files import replaced_file
from training.errors import RunError
from training.loop.optimization import AveragedWeights

FORMAT_VERSION = 1
LAST = "last.safetensors"

_PROGRESS_KEY = "place"  # in files of format version 1


@dataclass
class BestState:
    """A kept state: its file and its score on the dev split."""

    file: str
    step: int
    score: float  # higher is better, also when the metric is a loss


@dataclass
class RunProgress:
    """Progress of a run: saved with every state and restored on resume."""

    step: int = 0  # updates made
    epoch: int = 0  # counted from 0
    batch: int = 0  # next batch of the epoch
    target_tokens: int = 0  # seen so far
    seconds: float = 0.0  # spent training and validating
    clipped: int = 0  # updates whose gradient was clipped, since the last report
    since_best: int = 0  # validations without gain
    plateau_cuts: int = 0
    plateau_wait: int = 0
    best: list[BestState] = field(default_factory=list)  # best first
    finished: str = ""  # why training ended; empty while it has not


def save_run_state(
    path: Path,
    *,
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    averages: AveragedWeights | None,
    progress: RunProgress,
) -> None:
    """Writes a run state, whole or not at all."""
    tensors = {f"network/{name}": t for name, t in _parameters(network).items()}
    for index, parameter in enumerate(_optimized(optimizer)):
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{index}/{key}"] = value
    if averages is not None:
        tensors |= {f"average/{name}": t for name, t in averages.state().items()}
    tensors["random/cpu"] = torch.get_rng_state()
    device = next(network.parameters()).device
    if device.type == "cuda":
        tensors["random/cuda"] = torch.cuda.get_rng_state(device)
    _save(path, tensors, {_PROGRESS_KEY: asdict(progress)})


def load_run_state(
    path: Path,
    *,
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    averages: AveragedWeights | None,
) -> RunProgress:
    """Restores network, optimizer, averages and random state from a file; returns the progress.

    Raises RunError when the file does not fit this run.
    """
    tensors, content = _load(path)
    progress = _progress(path, content)
    try:
        with torch.no_grad():
            for name, parameter in _parameters(network).items():
                parameter.copy_(tensors[f"network/{name}"])
        for index, parameter in enumerate(_optimized(optimizer)):
            prefix = f"optimizer/{index}/"
            state = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
            # Fused Adam keeps its step count beside the moments, on the device of the parameter.
            # A copy, because the loaded tensor is a view of the file.
            optimizer.state[parameter] = {
                key: t.to(parameter.device, copy=True) for key, t in state.items()
            }
        if averages is not None:
            prefix = "average/"
            averages.load(
                {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
            )
        torch.set_rng_state(tensors["random/cpu"])
        device = next(network.parameters()).device
        if device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random/cuda"], device)
    except (KeyError, RuntimeError) as error:
        raise RunError(f"run state {path} does not fit the config of this run: {error}") from None
    return progress


def load_progress(path: Path) -> RunProgress:
    """Reads the progress of a run state without its tensors."""
    return _progress(path, _content(path))


def save_weights(path: Path, network: torch.nn.Module, progress: RunProgress, score: float) -> None:
    """Writes a state that holds only weights, for export."""
    tensors = {f"network/{name}": t for name, t in _parameters(network).items()}
    _save(path, tensors, {"step": progress.step, "score": score})


def load_weights_file(path: Path) -> dict[str, Tensor]:
    """Returns the network's weights by name, from a best or last state."""
    tensors, _ = _load(path)
    prefix = "network/"
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def progress_to_json(progress: RunProgress) -> str:
    """Encodes progress as JSON text, to send it to other workers."""
    return json.dumps(asdict(progress))


def progress_from_json(text: str) -> RunProgress:
    """Decodes the text that `progress_to_json` returned."""
    content = json.loads(text)
    return RunProgress(**{**content, "best": [BestState(**state) for state in content["best"]]})


def _parameters(network: torch.nn.Module) -> dict[str, Tensor]:
    """Returns all parameters by name; tied ones once, under their first name."""
    return {name: p.detach() for name, p in network.named_parameters()}


def _optimized(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _save(path: Path, tensors: dict[str, Tensor], content: dict[str, Any]) -> None:
    metadata = {"format_version": str(FORMAT_VERSION), "content": json.dumps(content)}
    on_cpu = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    with replaced_file(path) as temporary:
        try:
            save_file(on_cpu, temporary, metadata=metadata)
        except SafetensorError as error:  # raised when the disk is full
            raise RunError(f"{path} cannot be written: {error}") from None


def _progress(path: Path, content: dict[str, Any]) -> RunProgress:
    try:
        return progress_from_json(json.dumps(content[_PROGRESS_KEY]))
    except (KeyError, TypeError) as error:
        raise RunError(
            f"run state {path} holds no valid progress: {error}; start a new run"
        ) from None


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    content = _content(path)
    try:
        return load_file(path), content
    except (SafetensorError, RuntimeError) as error:
        raise RunError(f"run state {path} is damaged: {error}") from None


def _content(path: Path) -> dict[str, Any]:
    """Returns the JSON part of a state."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        if metadata.get("format_version") != str(FORMAT_VERSION):
            raise RunError(f"{path} was not written by this version of Dragoman; start a new run")
        content: dict[str, Any] = json.loads(metadata["content"])
    except FileNotFoundError:
        raise RunError(f"there is no run state {path}; start the run without --resume") from None
    except (SafetensorError, RuntimeError, KeyError, ValueError) as error:
        raise RunError(f"run state {path} is damaged: {error}") from None
    return content
