"""The models of a folder, each with its own thread, chosen by name or by language pair."""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from model.errors import CheckpointError
from model.process import num_cores
from service.dispatcher import Dispatcher, LoadedModel, ModelInfo, ModelState
from service.errors import InvalidRequest, ModelLoading, UnknownLanguagePair, UnknownModel
from service.languages import wider_codes
from service.settings import Settings

logger = logging.getLogger("dragoman.registry")


class Registry:
    """All models of the service. A list in name order; where two serve one pair, the first does."""

    def __init__(self, dispatchers: Sequence[Dispatcher]) -> None:
        self.dispatchers = sorted(dispatchers, key=lambda dispatcher: dispatcher.name)

    def start(self) -> None:
        """Begins loading all models, each in its own thread."""
        for dispatcher in self.dispatchers:
            dispatcher.start()

    def close(self, timeout_s: float) -> bool:
        """Ends all threads; False when one of them is still busy after `timeout_s` in all."""
        deadline = time.monotonic() + timeout_s
        closed = [
            dispatcher.close(max(deadline - time.monotonic(), 0.01))
            for dispatcher in self.dispatchers
        ]
        return all(closed)

    @property
    def loading(self) -> bool:
        """True until the last model is ready or has failed."""
        return any(model.state is ModelState.LOADING for model in self.dispatchers)

    @property
    def ready(self) -> bool:
        """True when every model that could be loaded has translated a sentence, and still can."""
        states = {model.state for model in self.dispatchers} - {ModelState.FAILED}
        return states == {ModelState.READY}

    @property
    def none_loads(self) -> bool:
        """True when all models failed to load: there is nothing to serve."""
        return all(model.state is ModelState.FAILED for model in self.dispatchers)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Source and target of every model that is ready, as its checkpoint writes them."""
        ready = [model for model in self.dispatchers if model.state is ModelState.READY]
        infos = [model.known_info for model in ready]
        return [(info.source_language, info.target_language) for info in infos if info]

    def choose(self, *, model: str | None, source: str | None, target: str | None) -> Dispatcher:
        """The model asked for by name, by languages, or by both when they agree.

        Codes match in any case, and a narrower one falls back to the wider: en-US to en.
        """
        if model is None:
            if source is None or target is None:
                raise InvalidRequest("no model is chosen; give source and target, or model")
            return self._by_languages(source, target)
        named = [dispatcher for dispatcher in self.dispatchers if dispatcher.name == model]
        if not named:
            names = ", ".join(dispatcher.name for dispatcher in self.dispatchers)
            raise UnknownModel(f"no model has this name; there are: {names}", field="model")
        info = named[0].info
        if source and target and not _matches(info, source, target):
            raise UnknownLanguagePair(
                f"model {named[0].name} translates {_pair(info)}, not what source and target say",
                field="model",
            )
        return named[0]

    def _by_languages(self, source: str, target: str) -> Dispatcher:
        ready = [model for model in self.dispatchers if model.state is ModelState.READY]
        for pair in _wider_pairs(source, target):
            for dispatcher in ready:
                if _languages(dispatcher.info) == pair:
                    return dispatcher
        if self.loading:
            raise ModelLoading("models are still loading; try again soon")
        pairs = ", ".join(sorted({_pair(dispatcher.info) for dispatcher in ready})) or "none"
        raise UnknownLanguagePair(
            f"no model translates between these languages; there are: {pairs}", field="target"
        )


def open_models(models: Path, settings: Settings) -> Registry:
    """The registry of a models folder (or of one checkpoint), not yet loading.

    Raises CheckpointError when there is nothing to load.
    """
    folders = checkpoint_folders(models)
    threads = settings.threads_per_model or max(1, num_cores() // len(folders))
    return Registry(
        [
            # As the folder lists it: a link `en-de` to a dated checkpoint serves as en-de.
            Dispatcher(
                Path(os.path.abspath(folder)).name, _loader(folder, settings, threads), settings
            )
            for folder in folders
        ]
    )


def checkpoint_folders(models: Path) -> list[Path]:
    """Those of a models folder, or the one that it is; CheckpointError when there is none."""
    if not models.is_dir():
        raise CheckpointError(f"there is no models folder {models}; check the path")
    if _is_checkpoint(models):
        return [models]
    # Hidden names are checkpoints that are just being written.
    folders = [
        folder
        for folder in sorted(models.iterdir())
        if not folder.name.startswith(".") and _is_checkpoint(folder)
    ]
    if not folders:
        raise CheckpointError(
            f"{models} holds no checkpoint; put one there with `dragoman export RUN {models}/NAME`"
        )
    return folders


def _is_checkpoint(folder: Path) -> bool:
    # Either file is enough: a checkpoint that lost one of them is to be reported, not overlooked.
    return any((folder / name).is_file() for name in ("config.json", "SHA256SUMS"))


def _loader(folder: Path, settings: Settings, threads: int) -> Callable[[], LoadedModel]:
    """How a model's thread loads it; torch is imported there, while the loop already answers."""

    def load() -> LoadedModel:
        import torch

        from model.translator import Translator

        torch.set_num_threads(threads)  # counts for the calling thread, which is the model's own
        translator = Translator.load(
            folder,
            device=settings.device,
            precision=settings.precision,
            shortlist=settings.shortlist,
            max_slots=settings.max_slots,
            num_engines=threads,
            # Several are all apart: the event loop needs this process' interpreter.
            own_engine=threads == 1,
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

    return load


def _wider_pairs(source: str, target: str) -> Iterator[tuple[str, str]]:
    """The pair, then with the target widened, then with the source widened: nearest first."""
    for wider_source in wider_codes(source):
        for wider_target in wider_codes(target):
            yield wider_source, wider_target


def _languages(info: ModelInfo) -> tuple[str, str]:
    return wider_codes(info.source_language)[0], wider_codes(info.target_language)[0]


def _matches(info: ModelInfo, source: str, target: str) -> bool:
    return _languages(info) in _wider_pairs(source, target)


def _pair(info: ModelInfo) -> str:
    return f"{info.source_language} to {info.target_language}"
