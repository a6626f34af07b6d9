"""The models folder: which checkpoints it holds at this moment, and how one of them is loaded."""

import logging
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from model.errors import CheckpointError, DragomanError
from model.system.process import num_cores
from model.version import read_version
from service.serving.served_model import LoadedModel, ModelInfo, ServedModel
from service.settings import Settings

logger = logging.getLogger("dragoman.models")

_LOOKS = 3  # at a folder that changes while it is loaded


@dataclass(frozen=True)
class FoundCheckpoint:
    """A checkpoint as it lies there now."""

    name: str  # the folder's, also where that is a link to a dated one
    folder: Path  # behind all links, which may lead elsewhere a moment later
    version: str | None  # None: it does not say


class ModelFolder:
    """A folder of checkpoints, or the one that it is."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path = path
        self._settings = settings
        self._told: set[str] = set()  # names of folders that are no checkpoints

    def look(self, served: Collection[str] = ()) -> list[FoundCheckpoint]:
        """What is there, by name; CheckpointError when there is nothing or it cannot be read.

        `served` names are told of as long as there is anything of the name: what is damaged or
        half removed is not meant to be gone. The log tells once what other folders there are.
        """
        self._tell_others(served)
        return [
            FoundCheckpoint(
                # As the folder lists it: a link `en-de` to a dated checkpoint serves as en-de.
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
        """A model that is not loading yet, with its share of the cores among so many."""
        engines = Engines.of(self._settings, num_cores(), num_models)
        return ServedModel(
            found.name, _loader(found.folder, self._settings, engines), self._settings
        )


@dataclass(frozen=True)
class Engines:
    """Of one model."""

    count: int
    apart: bool  # in processes of their own; one alone may be in that of the service

    @classmethod
    def of(cls, settings: Settings, num_cores: int, num_models: int) -> "Engines":
        """A model's share of the cores, unless the settings say how many engines it has.

        The event loop needs this process' interpreter: with two models on two cores, 64 clients got
        250 answers a second from engines apart, and 190 from engines in here. But a process takes
        200 MB, which is spent only where it brings a core with it, and not where one is asked for.
        """
        count = settings.threads_per_model or max(1, num_cores // num_models)
        has_core = settings.threads_per_model is None and num_cores >= max(2, num_models)
        return cls(count, apart=count > 1 or has_core)


def checkpoint_folders(models: Path, served: Collection[str] = ()) -> list[Path]:
    """Those of a models folder, or the one that it is; CheckpointError when there is none."""
    try:
        if not models.is_dir():
            raise CheckpointError(f"there is no models folder {models}; check the path")
        if _is_checkpoint(models):
            return [models]
        folders = [
            folder for folder in _visible(models) if folder.name in served or _is_checkpoint(folder)
        ]
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CheckpointError(f"{models} cannot be read: {reason}; check its owner") from None
    if not any(_is_checkpoint(folder) for folder in folders):
        raise CheckpointError(
            f"{models} holds no checkpoint; put one there with `dragoman export RUN {models}/NAME`"
        )
    return folders


def other_folders(models: Path) -> list[Path]:
    """Folders in a models folder that are no checkpoints; none where it is one or unreadable."""
    try:
        if _is_checkpoint(models):
            return []
        return [
            each
            for each in _visible(models)
            if (each.is_dir() and not _is_checkpoint(each)) or _leads_nowhere(each)
        ]
    except OSError:  # told of by whoever looks for checkpoints
        return []


def why_not_served(folder: Path) -> str:
    """What to say of a folder that is no checkpoint."""
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

    Those that every machine has are not looked at: importing torch takes a second.
    """
    if settings.device == "cpu" and settings.precision != "int8":
        return
    from model.inference.precision import resolve_device, resolve_precision

    resolve_precision(settings.precision, resolve_device(settings.device))


def _visible(models: Path) -> list[Path]:
    """What lies in the folder, but for checkpoints that are just being written (hidden names)."""
    # A disk's own folder, which nobody but root may look into.
    return [
        each
        for each in sorted(models.iterdir())
        if not each.name.startswith(".") and each.name != "lost+found"
    ]


def _is_checkpoint(folder: Path) -> bool:
    # Either file is enough: a checkpoint that lost one of them is to be reported, not overlooked.
    return any((folder / name).is_file() for name in ("config.json", "SHA256SUMS"))


def _loader(folder: Path, settings: Settings, engines: Engines) -> Callable[[], LoadedModel]:
    """How a model's thread loads it; torch is imported there, while the loop already answers."""

    def load() -> LoadedModel:
        for _ in range(_LOOKS):
            before = read_version(folder)
            try:
                loaded = _load(folder, settings, engines)
            except DragomanError:
                if read_version(folder) == before:
                    raise
                continue  # a newer checkpoint took its place: files of both were read
            if read_version(folder) == loaded.info.version:
                return loaded
            loaded.translator.close()
        raise CheckpointError(f"{folder} was exchanged again and again while it was loaded")

    return load


def _load(folder: Path, settings: Settings, engines: Engines) -> LoadedModel:
    import torch

    from model.translator import Translator

    torch.set_num_threads(engines.count)  # counts for the calling thread, which is the model's own
    translator = Translator.load(
        folder,
        device=settings.device,
        precision=settings.precision,
        shortlist=settings.shortlist,
        max_slots=settings.max_slots,
        num_engines=engines.count,
        own_engine=not engines.apart,
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
        max_source_tokens=checkpoint.config.max_source_tokens,
        search=translator.search,
        metrics=checkpoint.metrics,
    )
    return LoadedModel(translator, info)
