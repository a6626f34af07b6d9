"""The models that are served, each with its own thread, chosen by name or by language pair.

How they are exchanged while the service runs stands in `reload.py`.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from service.errors import InvalidRequest, ModelLoading, UnknownLanguagePair, UnknownModel
from service.serving.in_flight import InFlightRequests
from service.serving.model_folder import ModelFolder
from service.serving.reload import ModelSource, Reloader
from service.serving.route import Route, through_third
from service.serving.served_model import ModelInfo, ModelState, ServedModel
from service.settings import Settings
from service.text.languages import wider_codes, wider_pairs


class Registry:
    """All models of the service. A list in name order; where two serve one pair, the first does.

    Changed by the event loop only, a whole list at a time.
    """

    def __init__(
        self,
        served_models: Sequence[ServedModel],
        source: ModelSource | None = None,
        *,
        drain_s: float = 9.0,
    ) -> None:
        """`source`: where models come from later; a replaced one gets `drain_s` to finish."""
        self.served_models = _in_order(served_models)
        self.visits = InFlightRequests()
        self.reloader = Reloader(self, source, drain_s)

    def start(self) -> None:
        """Begins loading all models, each in its own thread."""
        for served_model in self.served_models:
            served_model.start()

    def close(self, timeout_s: float) -> bool:
        """Ends all threads; False when one of them is still busy after `timeout_s` in all."""
        deadline = time.monotonic() + timeout_s
        closed = [
            served_model.close(max(deadline - time.monotonic(), 0.01))
            for served_model in {*self.served_models, *self.reloader.served_models}
        ]
        return all(closed)

    def get(self, name: str) -> ServedModel | None:
        """The model of this name, in any state."""
        return next((each for each in self.served_models if each.name == name), None)

    def put(self, served_model: ServedModel) -> ServedModel | None:
        """Gives its name to a model, in one step; the one that had it."""
        old = self.get(served_model.name)
        self.served_models = _in_order(
            [*(each for each in self.served_models if each is not old), served_model]
        )
        return old

    def drop(self, served_model: ServedModel) -> None:
        """Takes a model off the list; whoever has chosen it may still use it."""
        self.served_models = [each for each in self.served_models if each is not served_model]

    @property
    def loading(self) -> bool:
        """True until the last model is ready or has failed."""
        return any(model.state is ModelState.LOADING for model in self.served_models)

    @property
    def ready(self) -> bool:
        """True when every model that could be loaded has translated a sentence, and still can.

        One that is added to others does not turn this red while it loads.
        """
        replacements = set(self.reloader.replacements.values())
        states = {model.state for model in self.served_models if model not in replacements}
        return states - {ModelState.FAILED} == {ModelState.READY}

    @property
    def none_loads(self) -> bool:
        """True when all models failed to load at the start: there is nothing to serve."""
        states = {model.state for model in self.served_models}
        return states == {ModelState.FAILED} and not self.reloader.has_begun

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Source and target of every model that is ready, as its checkpoint writes them."""
        infos = [model.known_info for model in self._ready]
        return [(info.source_language, info.target_language) for info in infos if info]

    def choose(self, *, model: str | None, source: str | None, target: str | None) -> ServedModel:
        """The model asked for by name, by languages, or by both when they agree.

        Codes match in any case, and a narrower one falls back to the wider: en-US to en.
        """
        if model is None:
            if source is None or target is None:
                raise InvalidRequest("no model is chosen; give source and target, or model")
            return self._by_languages(source, target)
        named = [served_model for served_model in self.served_models if served_model.name == model]
        if not named:
            names = ", ".join(served_model.name for served_model in self.served_models)
            raise UnknownModel(f"no model has this name; there are: {names}", field="model")
        info = named[0].info
        if source and target and not _matches(info, source, target):
            raise UnknownLanguagePair(
                f"model {named[0].name} translates {_pair(info)}, not what source and target say",
                field="model",
            )
        return named[0]

    def route(
        self, *, model: str | None, source: str | None, target: str | None, pivot: bool
    ) -> Route:
        """The model that `choose` finds; where there is none, with `pivot`, two of them.

        A model that is asked for by name always works alone.
        """
        if pivot and model is None and source is not None and target is not None:
            found = None
            if self._direct(source, target) is None:
                found = through_third(self._ready, source, target)
            if found is not None:
                return found
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
        found = self._direct(source, target)
        if found is not None:
            return found
        if self.loading:
            raise ModelLoading("models are still loading; try again soon")
        pairs = ", ".join(sorted({_pair(model.info) for model in self._ready})) or "none"
        raise UnknownLanguagePair(
            f"no model translates between these languages; there are: {pairs}", field="target"
        )


def open_models(models: Path, settings: Settings) -> Registry:
    """The registry of a models folder (or of one checkpoint), not yet loading.

    Raises CheckpointError when there is nothing to load.
    """
    folder = ModelFolder(models, settings)
    found = folder.look()
    return Registry(
        [folder.served_model(each, len(found)) for each in found],
        folder,
        # No request may hold a model for longer; what is rendered then has a moment more.
        drain_s=settings.deadline_s + 1.0,
    )


def _in_order(served_models: Sequence[ServedModel]) -> list[ServedModel]:
    return sorted(served_models, key=lambda served_model: served_model.name)


def _languages(info: ModelInfo) -> tuple[str, str]:
    return wider_codes(info.source_language)[0], wider_codes(info.target_language)[0]


def _matches(info: ModelInfo, source: str, target: str) -> bool:
    return _languages(info) in wider_pairs(source, target)


def _pair(info: ModelInfo) -> str:
    return f"{info.source_language} to {info.target_language}"
