"""The models that are served, chosen by name or by language pair.

`reload.py` replaces them while the service runs.
"""

import time
from collections.abc import Sequence

from service.errors import InvalidRequest, ModelLoading, UnknownLanguagePair, UnknownModel
from service.serving.model_folder import ModelFolder
from service.serving.route import Route, through_third
from service.serving.served_model import ModelInfo, ModelState, ServedModel
from service.text.languages import wider_codes, wider_pairs


class Registry:
    """All models of the service, in name order; of two for one language pair the first is chosen.

    Belongs to the event loop.
    """

    def __init__(self, served_models: Sequence[ServedModel]) -> None:
        self.served_models = _in_order(served_models)
        self.replacements: dict[str, ServedModel] = {}  # loading, by name
        self.failed_replacements: dict[str, str | None] = {}  # version, by name
        self.retired: set[ServedModel] = set()  # finish the requests that hold a lease of them
        self.was_reloaded = False

    def start(self) -> None:
        """Begins loading all models, each in its own thread."""
        for served_model in self.served_models:
            served_model.start()

    def close(self, timeout_s: float) -> bool:
        """Ends the threads of all models; False when one is still busy after `timeout_s` in all."""
        deadline = time.monotonic() + timeout_s
        closed = [
            served_model.close(max(deadline - time.monotonic(), 0.01))
            for served_model in {
                *self.served_models,
                *self.replacements.values(),
                *self.retired,
            }
        ]
        return all(closed)

    @property
    def num_leases(self) -> int:
        """Leases that requests in flight hold of models."""
        return sum(model.num_leases for model in {*self.served_models, *self.retired})

    def get(self, name: str) -> ServedModel | None:
        """The model of this name, in any state."""
        return next((each for each in self.served_models if each.name == name), None)

    def put(self, served_model: ServedModel) -> ServedModel | None:
        """Lists a model under its name; returns the model that it replaces, if any."""
        old = self.get(served_model.name)
        self.served_models = _in_order(
            [*(each for each in self.served_models if each is not old), served_model]
        )
        return old

    def drop(self, served_model: ServedModel) -> None:
        """Removes a model from the list; requests that hold a lease of it may still use it."""
        self.served_models = [each for each in self.served_models if each is not served_model]

    @property
    def loading(self) -> bool:
        """True while a model is neither ready nor failed."""
        return any(model.state is ModelState.LOADING for model in self.served_models)

    @property
    def ready(self) -> bool:
        """True when every model that did not fail to load has translated a sentence and still can.

        Models that a reload is adding do not count until they have loaded.
        """
        replacements = set(self.replacements.values())
        states = {model.state for model in self.served_models if model not in replacements}
        return states - {ModelState.FAILED} == {ModelState.READY}

    @property
    def none_loads(self) -> bool:
        """True when all models failed to load at the start, so that there is nothing to serve."""
        states = {model.state for model in self.served_models}
        return states == {ModelState.FAILED} and not self.was_reloaded

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Source and target language of every ready model, as its checkpoint writes them."""
        infos = [model.known_info for model in self._ready]
        return [(info.source_language, info.target_language) for info in infos if info]

    def choose(self, *, model: str | None, source: str | None, target: str | None) -> ServedModel:
        """The model of this name, of these languages, or of both when they agree.

        Language codes match in any case; a narrower code falls back to a wider one: en-US to en.
        Raises InvalidRequest, UnknownModel, UnknownLanguagePair or ModelLoading.
        """
        if model is None:
            if source is None or target is None:
                raise InvalidRequest("no model is chosen; send source and target, or model")
            return self._by_languages(source, target)
        named = [served_model for served_model in self.served_models if served_model.name == model]
        if not named:
            names = ", ".join(served_model.name for served_model in self.served_models)
            raise UnknownModel(f"no model has this name; use one of: {names}", field="model")
        info = named[0].info
        if source and target and not _matches(info, source, target):
            raise UnknownLanguagePair(
                f"model {named[0].name} translates {_pair(info)}, which differs from source and "
                "target; leave them out or choose another model",
                field="model",
            )
        return named[0]

    def route(
        self, *, model: str | None, source: str | None, target: str | None, pivot: bool
    ) -> Route:
        """The model that `choose` returns; with `pivot`, where there is none, two models in turn.

        A model that is chosen by name always works alone.
        """
        if pivot and model is None and source is not None and target is not None:
            pivoted = None
            if self._direct(source, target) is None:
                pivoted = through_third(self._ready, source, target)
            if pivoted is not None:
                return pivoted
        return Route((self.choose(model=model, source=source, target=target),))

    @property
    def _ready(self) -> list[ServedModel]:
        return [model for model in self.served_models if model.state is ModelState.READY]

    def _direct(self, source: str, target: str) -> ServedModel | None:
        ready = self._ready
        for pair in wider_pairs(source, target):
            for served_model in ready:
                if _languages(served_model.info) == pair:
                    return served_model
        return None

    def _by_languages(self, source: str, target: str) -> ServedModel:
        model = self._direct(source, target)
        if model is not None:
            return model
        if self.loading:
            raise ModelLoading("models are still loading; retry after a few seconds")
        pairs = ", ".join(sorted({_pair(model.info) for model in self._ready})) or "none"
        raise UnknownLanguagePair(
            f"no model translates between these languages; served: {pairs}", field="target"
        )


def open_models(folder: ModelFolder) -> Registry:
    """The registry of a models folder (or of one checkpoint), not yet loading.

    Raises CheckpointError when there is nothing to load.
    """
    checkpoints = folder.look()
    return Registry([folder.served_model(each, len(checkpoints)) for each in checkpoints])


def _in_order(served_models: Sequence[ServedModel]) -> list[ServedModel]:
    return sorted(served_models, key=lambda served_model: served_model.name)


def _languages(info: ModelInfo) -> tuple[str, str]:
    return wider_codes(info.source_language)[0], wider_codes(info.target_language)[0]


def _matches(info: ModelInfo, source: str, target: str) -> bool:
    return _languages(info) in wider_pairs(source, target)


def _pair(info: ModelInfo) -> str:
    return f"{info.source_language} to {info.target_language}"
