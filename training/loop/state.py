"""What a run needs to go on exactly: one safetensors file, numbers and JSON, replaced atomically.

`last` holds everything; a `best` file holds weights to export. The JSON lies in the file's own
metadata, so tensors and place in the data can never be of two different moments.
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


@dataclass
class BestState:
    """One kept state: its file, and how it did on the dev split."""

    file: str
    step: int
    score: float  # higher is better, also when the metric is a loss


@dataclass
class Place:
    """Where a run stands; everything here is saved and taken up again."""

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
    place: Place,
) -> None:
    """Writes all of it, whole or not at all."""
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
    _save(path, tensors, {"place": asdict(place)})


def load_run_state(
    path: Path,
    *,
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    averages: AveragedWeights | None,
) -> Place:
    """Puts everything back into its place; RunError when the file is not of this run."""
    tensors, content = _load(path)
    place = _place(path, content)
    try:
        with torch.no_grad():
            for name, parameter in _parameters(network).items():
                parameter.copy_(tensors[f"network/{name}"])
        for index, parameter in enumerate(_optimized(optimizer)):
            prefix = f"optimizer/{index}/"
            state = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
            # Fused Adam keeps its count of steps beside the moments, where the parameter is; a
            # copy, since what was loaded is a view of the file.
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
        raise RunError(f"{path} does not belong to this run's configuration: {error}") from None
    return place


def load_run_state_place(path: Path) -> Place:
    """Where a run stands, without its tensors."""
    return _place(path, _content(path))


def save_weights(path: Path, network: torch.nn.Module, place: Place, score: float) -> None:
    """The weights alone, to be exported."""
    tensors = {f"network/{name}": t for name, t in _parameters(network).items()}
    _save(path, tensors, {"step": place.step, "score": score})


def load_weights_file(path: Path) -> dict[str, Tensor]:
    """The network's weights by name, from a best or last state."""
    tensors, _ = _load(path)
    prefix = "network/"
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def place_to_json(place: Place) -> str:
    """A place as text, to be sent."""
    return json.dumps(asdict(place))


def place_from_json(text: str) -> Place:
    """The place that `place_to_json` made a text of."""
    content = json.loads(text)
    return Place(**{**content, "best": [BestState(**state) for state in content["best"]]})


def _parameters(network: torch.nn.Module) -> dict[str, Tensor]:
    """Tied ones once, under their first name."""
    return {name: p.detach() for name, p in network.named_parameters()}


def _optimized(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _save(path: Path, tensors: dict[str, Tensor], content: dict[str, Any]) -> None:
    metadata = {"format_version": str(FORMAT_VERSION), "content": json.dumps(content)}
    on_cpu = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    with replaced_file(path) as temporary:
        try:
            save_file(on_cpu, temporary, metadata=metadata)
        except SafetensorError as error:  # its way to say that the disk is full
            raise RunError(f"{path} cannot be written: {error}") from None


def _place(path: Path, content: dict[str, Any]) -> Place:
    try:
        return place_from_json(json.dumps(content["place"]))
    except (KeyError, TypeError) as error:
        raise RunError(f"{path} does not say where its run stands: {error}") from None


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    content = _content(path)
    try:
        return load_file(path), content
    except (SafetensorError, RuntimeError) as error:
        raise RunError(f"run state {path} is damaged: {error}") from None


def _content(path: Path) -> dict[str, Any]:
    """The JSON part of a state."""
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
