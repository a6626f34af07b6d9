"""The models folder: lists its checkpoints and makes served models of them."""

import logging
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from model.decoding.engine_process import start_engine_processes
from model.errors import CheckpointError, DragomanError
from model.system.process import num_cores
from model.version import read_version
from service.serving.served_model import LoadedModel, ModelInfo, ServedModel
from service.settings import Settings

logger = logging.getLogger("dragoman.models")

_LOOKS = 3  # attempts to load a folder that changes meanwhile


@dataclass(frozen=True)
class FoundCheckpoint:
    """A checkpoint in the models folder at the time of listing."""

    name: str  # of the folder, or of the link to it
    folder: Path  # with all links resolved, since a link may change later
    version: str | None  # None: unreadable


class ModelFolder:
    """A folder of checkpoints, or a single checkpoint."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path = path
        self._settings = settings
        self._told: set[str] = set()  # names of logged folders that are not checkpoints

    def look(self, served: Collection[str] = ()) -> list[FoundCheckpoint]:
        """The checkpoints of the folder, by name; CheckpointError when there is none.

        A name of `served` is listed as long as anything of that name exists: a damaged or half
        copied checkpoint is an error to report, not a removal. Other folders are logged once.
        """
        self._tell_others(served)
        return [
            FoundCheckpoint(
                # A link `en-de` to a dated checkpoint is served as en-de.
                Path(os.path.abspath(folder)).name,
                Path(os.path.realpath(folder)),
                read_version(folder),
            )
            for folder in checkpoint_folders(self.path, served)
        ]

    def _tell_others(self, served: Collection[str]) -> None:
        others = {each.name: each for each in other_folders(self.path) if each.name not in served}
        for name in sorted(others.keys() - self._told):
            logger.warning("%s", why_not_served(others[name]))
        self._told = set(others)

    def served_model(self, found: FoundCheckpoint, num_models: int) -> ServedModel:
        """A served model, not loading yet, with its share of the cores among `num_models`."""
        num_processes = num_engine_processes(self._settings, num_cores(), num_models)
        return ServedModel(
            found.name, _loader(found.folder, self._settings, num_processes), self._settings
        )


def num_engine_processes(settings: Settings, num_cores: int, num_models: int) -> int:
    """Returns how many engine processes a model gets; 0: one engine inside the service's process.

    Unless `threads_per_model` is set, a model gets its share of the cores. The event loop needs the
    service's interpreter: with two models on two cores, 64 clients got 250 answers a second from
    engine processes, and 190 from engines inside the service. But a process takes 200 MB. It is
    therefore not used where one engine is asked for, or where a model has less than a core.
    """
    num_engines = settings.threads_per_model or max(1, num_cores // num_models)
    has_core = settings.threads_per_model is None and num_cores >= max(2, num_models)
    return num_engines if num_engines > 1 or has_core else 0


def checkpoint_folders(models: Path, served: Collection[str] = ()) -> list[Path]:
    """Checkpoint folders in `models`, or `models` itself; CheckpointError when there is none."""
    try:
        if not models.is_dir():
            raise CheckpointError(f"models folder {models} does not exist; check the path")
        if _is_checkpoint(models):
            return [models]
        folders = [
            folder for folder in _visible(models) if folder.name in served or _is_checkpoint(folder)
        ]
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CheckpointError(
            f"models folder {models} cannot be read: {reason}; check its owner and mode"
        ) from None
    if not any(_is_checkpoint(folder) for folder in folders):
        raise CheckpointError(
            f"{models} holds no checkpoint; put one there with `dragoman export RUN {models}/NAME`"
        )
    return folders


def other_folders(models: Path) -> list[Path]:
    """Folders in `models` that are not checkpoints; none if it is a checkpoint or unreadable."""
    try:
        if _is_checkpoint(models):
            return []
        return [
            each
            for each in _visible(models)
            if (each.is_dir() and not _is_checkpoint(each)) or _leads_nowhere(each)
        ]
    except OSError:  # `checkpoint_folders` reports it
        return []


def why_not_served(folder: Path) -> str:
    """The reason why a folder is not served, for the log and `dragoman doctor`."""
    if _leads_nowhere(folder):
        return f"{folder} is not served: it is a link that leads nowhere; mend it, or remove it"
    return (
        f"{folder} is not served: it holds no config.json, so it is no checkpoint; if it shall "
        f"be one, put it there whole with `dragoman export RUN {folder}`, else move it elsewhere"
    )


def _leads_nowhere(path: Path) -> bool:
    return path.is_symlink() and not path.exists()


def check_hardware(settings: Settings) -> None:
    """Raises ConfigError for a device or a precision that this machine does not have.

    A device and precision that every machine has are not checked: importing torch takes a second.
    """
    if settings.device == "cpu" and settings.precision != "int8":
        return
    from model.inference.precision import resolve_device, resolve_precision

    resolve_precision(settings.precision, resolve_device(settings.device))


def _visible(models: Path) -> list[Path]:
    """Entries of the folder except hidden ones, which are checkpoints being written."""
    # The file system's own folder, which only root may read.
    return [
        each
        for each in sorted(models.iterdir())
        if not each.name.startswith(".") and each.name != "lost+found"
    ]


def _is_checkpoint(folder: Path) -> bool:
    # Either file is enough: a checkpoint that lost one of them is to be reported, not overlooked.
    return any((folder / name).is_file() for name in ("config.json", "SHA256SUMS"))


def _loader(folder: Path, settings: Settings, num_processes: int) -> Callable[[], LoadedModel]:
    """Returns the function that loads a model in its own thread, which also imports torch."""

    def load() -> LoadedModel:
        for _ in range(_LOOKS):
            before = read_version(folder)
            try:
                loaded = _load(folder, settings, num_processes)
            except DragomanError:
                if read_version(folder) == before:
                    raise
                continue  # a newer checkpoint replaced it meanwhile: files of both were read
            if read_version(folder) == loaded.info.version:
                return loaded
            loaded.translator.close()
        raise CheckpointError(f"{folder} changed {_LOOKS} times while it was loaded; reload again")

    return load


def _load(folder: Path, settings: Settings, num_processes: int) -> LoadedModel:
    processes = None
    if num_processes > 0:  # they import torch at the same time as this process
        processes = start_engine_processes(num_processes, settings.device)
    import torch

    from model.translator import Translator

    # Holds for the calling thread, which is the model's own: it translates, or it scores.
    torch.set_num_threads(max(1, num_processes))
    translator = Translator.load(
        folder,
        device=settings.device,
        precision=settings.precision,
        shortlist=settings.shortlist,
        max_slots=settings.max_slots,
        processes=processes,
    )
    try:
        translator.start()
    except BaseException:
        translator.close()
        raise
    checkpoint = translator.checkpoint
    info = ModelInfo(
        source_language=checkpoint.config.source_language,
        target_language=checkpoint.config.target_language,
        version=checkpoint.version,
        precision=checkpoint.precision,
        exact=translator.exact,
        max_source_tokens=checkpoint.config.max_source_tokens,
        search=translator.search,
        metrics=checkpoint.metrics,
    )
    return LoadedModel(translator, info)
