"""Models exchanged while the service runs: added, replaced and removed as their folder says.

A replacement loads beside the model whose name it wants, which serves until the replacement has
translated a sentence; then the name changes hands in one step of the event loop. The old one
finishes what it accepted and gives back its memory and its engines. A replacement that cannot be
loaded changes nothing. One that takes too long, as on a disk that has failed, goes on loading
beside the others, and takes its name when it is done.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Protocol

from model.errors import CheckpointError, DragomanError
from model.system.process import give_back_memory
from service.errors import describe
from service.serving.served_model import ModelState, ServedModel

if TYPE_CHECKING:
    from service.serving.model_folder import Found
    from service.serving.registry import Registry

logger = logging.getLogger("dragoman.reload")

_PATIENCE_S = 30.0  # with the folder, and with each model in turn
_POLL_S = 0.02  # models say how far they are from threads of their own, not to the event loop


class ModelSource(Protocol):
    """Where models come from: see ModelFolder."""

    def look(self, served: Collection[str]) -> "list[Found]": ...

    def served_model(self, found: "Found", num_models: int) -> ServedModel: ...


class Result(StrEnum):
    """What became of a name. FAILED, and as yet LOADING: what was there before is there still."""

    ADDED = "added"
    REPLACED = "replaced"
    REMOVED = "removed"
    FAILED = "failed"
    LOADING = "loading"
    UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Change:
    """One name's part in a reload."""

    name: str
    result: Result
    version: str | None  # the replacement's; of what is unchanged or removed its own
    previous: str | None = None  # version that had the name before
    reason: str | None = None  # why it failed, or is not done


@dataclass(frozen=True)
class Report:
    """What a reload came to."""

    changes: Sequence[Change] = ()
    problem: str | None = None  # why the folder could not be read, and nothing was changed

    @property
    def ok(self) -> bool:
        """True when what the folder holds is what is served."""
        failed = any(change.result is Result.FAILED for change in self.changes)
        return self.problem is None and self.done and not failed

    @property
    def done(self) -> bool:
        """False while something that it began goes on."""
        return all(change.result is not Result.LOADING for change in self.changes)


class Reloader:
    """Brings a registry up to date with its source, one reload at a time."""

    def __init__(self, registry: "Registry", source: ModelSource | None, drain_s: float) -> None:
        self.has_begun = False  # ever
        self.replacements: dict[str, ServedModel] = {}  # that are loading, by name
        self.failed_versions: dict[str, str | None] = {}  # of failed replacements
        self.results: Counter[Result] = Counter()
        # Told the name and version of each model that has closed.
        self.when_closed: list[Callable[[str, str | None], None]] = []
        self._registry = registry
        self._source = source
        self._drain_s = drain_s
        self.patience_s = _PATIENCE_S
        self._looking: asyncio.Future[list[Found]] | None = None
        self._arrivals: dict[str, asyncio.Task[Change]] = {}  # of replacements
        self._late: set[str] = set()  # names that a reload has stopped to wait for
        self._leaving: dict[ServedModel, asyncio.Task[None]] = {}
        self._one_at_a_time = asyncio.Lock()
        self._reloads: set[asyncio.Task[Report]] = set()
        self._ended = False
        self._next: asyncio.Task[Report] | None = None  # has not looked at the source yet

    @property
    def served_models(self) -> list[ServedModel]:
        """Models that are on their way in or out."""
        return [*self.replacements.values(), *self._leaving]

    def reload(self) -> asyncio.Task[Report]:
        """Has the source looked at after this moment, behind a reload that is under way.

        Whoever asks while one waits for its turn is given that one: the last wish is in it.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._take_turn())
            self._reloads.add(self._next)
            self._next.add_done_callback(self._reloads.discard)
        return self._next

    async def stop(self) -> None:
        """Leaves everything as it is now; the models are closed by others."""
        self._ended = True
        tasks = [*self._reloads, *self._arrivals.values(), *self._leaving.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take_turn(self) -> Report:
        async with self._one_at_a_time:
            self._next = None
            try:
                return await self._reload()
            except Exception as error:  # noqa: BLE001 - whatever it is, what is served goes on
                logger.error("models could not be exchanged: %s", describe(error))
                return Report(problem="the service failed on this; the log says why")

    async def _reload(self) -> Report:
        if self._source is None:
            return Report(problem="these models come from no folder; nothing was changed")
        served = [served_model.name for served_model in self._registry.served_models]
        try:
            found = await self._look(self._source, served)
        except DragomanError as error:
            logger.error("no model was exchanged: %s", error)
            return Report(problem=str(error))
        self.has_begun = True
        changes: list[Change] = []
        names = {each.name for each in found}
        # Under a new name may come what shall do the work of one that goes.
        if not names - set(served) and not names & self._new_names():
            changes += self._remove_all_but(names)
        for each in found:
            changes.append(await self._bring(each, len(found)))
        still_new = names & self._new_names()
        changes += self._keep(names, still_new) if still_new else self._remove_all_but(names)
        self.results.update(change.result for change in changes)
        if all(change.result is Result.UNCHANGED for change in changes):
            logger.info("looked for other models: nothing has changed")
        return Report(sorted(changes, key=lambda change: change.name))

    async def _look(self, source: ModelSource, served: Collection[str]) -> "list[Found]":
        """What the source holds; CheckpointError when it cannot say, or not soon enough."""
        if self._looking is None or self._looking.done():
            self._looking = _in_thread(lambda: source.look(served))
            await asyncio.wait({self._looking}, timeout=self.patience_s)
        looking = self._looking
        if not looking.done():  # it may be ready one day, with what is old news by then
            raise CheckpointError(
                f"the models folder has not answered within {self.patience_s:g} s; nothing was "
                "changed; look at its disk, and reload again"
            )
        return looking.result()

    async def _bring(self, found: "Found", num_models: int) -> Change:
        """Has the name serve what was found under it, unless it does already."""
        name = found.name
        if name not in self._arrivals:
            current = self._registry.get(name)
            if current is not None and not await self._loaded(current):
                return self._still_loading(found)  # since the start of the service
            if current is not None and _serves(current, found):
                self.failed_versions.pop(name, None)
                return Change(name, Result.UNCHANGED, found.version)
            arrival = asyncio.create_task(self._arrive(found, num_models))
            self._arrivals[name] = arrival
            arrival.add_done_callback(lambda arrival: self._has_arrived(name, arrival))
            await asyncio.wait({arrival}, timeout=self.patience_s)
            if arrival.done():
                return arrival.result()
        return self._still_loading(found)

    async def _loaded(self, model: ServedModel) -> bool:
        """Whether a model of the start has loaded or failed; one that has is waited for once."""
        until = time.monotonic() + (0.0 if model.name in self._late else self.patience_s)
        while model.state is ModelState.LOADING:  # what was asked for at the start may be the same
            if time.monotonic() >= until:
                return False
            await asyncio.sleep(_POLL_S)
        self._late.discard(model.name)
        return True

    def _still_loading(self, found: "Found") -> Change:
        name = found.name
        if name not in self._late:
            self._late.add(name)
            told = "model %s: not loaded after %g s; it goes on beside the others"
            logger.warning(told, name, self.patience_s)
        current = self._registry.get(name)
        return Change(
            name,
            Result.LOADING,
            found.version,
            None if current is None else _version(current),
            f"it has been loading for more than {self.patience_s:g} s and takes over once it is "
            "done; if its disk has failed, restart the service",
        )

    async def _arrive(self, found: "Found", num_models: int) -> Change:
        """Loads what was found and gives it the name."""
        assert self._source is not None
        name = found.name
        await self._wait_for_the_last(name)
        replacement = self._source.served_model(found, num_models)
        current = self._registry.get(name)
        previous = None if current is None else _version(current)
        if not await self._load(replacement, listed=current is None):
            if current is not None and current.state is ModelState.FAILED:
                self._registry.put(replacement)  # it knows the latest reason
            elif current is not None:
                self.failed_versions[name] = found.version
                logger.warning("model %s: version %s goes on", name, previous)
            return Change(name, Result.FAILED, found.version, previous, replacement.failure)
        version = _version(replacement)
        self._registry.put(replacement)
        self.failed_versions.pop(name, None)
        if current is None:
            logger.info("model %s: version %s added", name, version)
            return Change(name, Result.ADDED, version)
        self._let_go(current)
        logger.info("model %s: version %s replaced by %s", name, previous, version)
        return Change(name, Result.REPLACED, version, previous)

    def _has_arrived(self, name: str, arrival: "asyncio.Task[Change]") -> None:
        """Settles what a reload that did not wait for it has left."""
        if self._arrivals.get(name) is arrival:
            del self._arrivals[name]
        if arrival.cancelled() or name not in self._late:
            return
        self._late.discard(name)
        error = arrival.exception()
        if error is not None:
            logger.error("model %s could not be exchanged: %s", name, describe(error))
            return
        result = arrival.result().result
        self.results[result] += 1
        if result is not Result.FAILED and not self._ended:
            self.reload()  # there may be newer ones by now, and some to be removed

    async def _load(self, replacement: ServedModel, *, listed: bool) -> bool:
        """False when it could not be loaded. `listed`: it is shown while it loads."""
        self.replacements[replacement.name] = replacement
        if listed:
            self._registry.put(replacement)
        try:
            replacement.start()
        except RuntimeError as error:  # no more threads
            replacement.state, replacement.failure = ModelState.FAILED, describe(error)
            logger.error("model %s failed to load: %s", replacement.name, replacement.failure)
        while replacement.state is ModelState.LOADING:
            await asyncio.sleep(_POLL_S)
        del self.replacements[replacement.name]
        return replacement.state is ModelState.READY

    def _new_names(self) -> set[str]:
        """Those whose first model is loading."""
        listed = set(self._registry.served_models)
        return {name for name, replacement in self.replacements.items() if replacement in listed}

    def _remove_all_but(self, names: Collection[str]) -> list[Change]:
        changes = []
        for name in self._arrivals.keys() - names:  # which may never be done
            self._arrivals[name].cancel()
            self._late.discard(name)
            replacement = self.replacements.pop(name, None)
            if replacement is not None and self._registry.get(name) is not replacement:
                self._let_go(replacement)
        for served_model in self._registry.served_models:
            if served_model.name in names:
                continue
            version = _version(served_model)
            self._registry.drop(served_model)
            self.failed_versions.pop(served_model.name, None)
            self._late.discard(served_model.name)
            self._let_go(served_model)
            logger.info("model %s: version %s removed", served_model.name, version)
            changes.append(Change(served_model.name, Result.REMOVED, version))
        return changes

    def _keep(self, names: Collection[str], awaited: Collection[str]) -> list[Change]:
        """What is said of those to be removed while others, which may replace them, still load."""
        reason = f"it goes when {', '.join(sorted(awaited))} has loaded"
        return [
            Change(served_model.name, Result.UNCHANGED, _version(served_model), reason=reason)
            for served_model in self._registry.served_models
            if served_model.name not in names
        ]

    async def _wait_for_the_last(self, name: str) -> None:
        """Until no older model of this name holds memory: two versions are enough at a time."""
        leaving = [
            task for served_model, task in self._leaving.items() if served_model.name == name
        ]
        if leaving:
            await asyncio.wait(leaving)

    def _let_go(self, old: ServedModel) -> None:
        age = self._registry.visits.end_age()
        self._leaving[old] = asyncio.create_task(self._drain(old, age))

    async def _drain(self, old: ServedModel, age: int) -> None:
        """Closes a model when no request that may have chosen it is left."""
        until = time.monotonic() + self._drain_s
        while old.queue_limits.num_texts or not self._registry.visits.over(age):
            if time.monotonic() > until:
                break
            await asyncio.sleep(_POLL_S)
        while not old.close(0.0):
            await asyncio.sleep(_POLL_S)
        name, version = old.name, _version(old)
        del self._leaving[old]
        del old  # the last that holds its weights
        for tell in self.when_closed:
            tell(name, version)
        await asyncio.to_thread(give_back_memory)
        logger.info("model %s: version %s closed", name, version)


def _in_thread(look: "Callable[[], list[Found]]") -> "asyncio.Future[list[Found]]":
    """What a look finds, in a thread that does not keep the process from ending if it hangs."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[list[Found]] = loop.create_future()
    future.add_done_callback(asyncio.Future.exception)  # maybe nobody waits for it any more

    def run() -> None:
        settle: Callable[[], None]
        try:
            settle = partial(future.set_result, look())
        except Exception as error:  # noqa: BLE001 - whoever waits is to judge it
            settle = partial(future.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle)

    threading.Thread(target=run, name="models folder", daemon=True).start()
    return future


def _version(served_model: ServedModel) -> str | None:
    return None if served_model.known_info is None else served_model.known_info.version


def _serves(current: ServedModel, found: "Found") -> bool:
    return current.state is ModelState.READY and _version(current) == found.version
