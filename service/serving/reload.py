"""Replaces models while the service runs: adds, replaces and removes them as their folder says.

A replacement loads beside the model of its name, which serves until the replacement has translated
a sentence. Then the registry exchanges them in one step of the event loop. The old model finishes
the requests that hold a lease of it and frees its memory and engines. A replacement that cannot be
loaded changes nothing. One that loads slowly, as from a failing disk, does not delay the others: it
takes its name when it is ready.
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
from typing import Protocol

from model.errors import CheckpointError, DragomanError
from model.system.process import give_back_memory
from service.errors import describe
from service.serving.model_folder import FoundCheckpoint
from service.serving.registry import Registry
from service.serving.served_model import ModelState, ServedModel

logger = logging.getLogger("dragoman.reload")

_TIMEOUT_S = 30.0  # for listing the folder, and for each model
_POLL_S = 0.02  # a model loads in its own thread, which does not notify the event loop


class ModelSource(Protocol):
    """Lists checkpoints and opens models of them; ModelFolder is the one that is not a fake."""

    def look(self, served: Collection[str]) -> list[FoundCheckpoint]: ...

    def served_model(self, found: FoundCheckpoint, num_models: int) -> ServedModel: ...


class ReloadResult(StrEnum):
    """What a reload did with one name. After FAILED and LOADING the former model still serves."""

    ADDED = "added"
    REPLACED = "replaced"
    REMOVED = "removed"
    FAILED = "failed"
    LOADING = "loading"
    UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Change:
    """What a reload did with one name, and why."""

    name: str
    result: ReloadResult
    version: str | None  # of the replacement; of the model where it is unchanged or removed
    previous: str | None = None  # version that the replacement took over from
    reason: str | None = None  # why loading failed, or is not finished


@dataclass(frozen=True)
class ReloadReport:
    """The outcome of one reload."""

    changes: Sequence[Change] = ()
    problem: str | None = None  # why the folder could not be read, so that nothing changed

    @property
    def ok(self) -> bool:
        """True when every checkpoint of the folder is served in its newest version."""
        failed = any(change.result is ReloadResult.FAILED for change in self.changes)
        return self.problem is None and self.done and not failed

    @property
    def done(self) -> bool:
        """False while a model that this reload found is still loading."""
        return all(change.result is not ReloadResult.LOADING for change in self.changes)


class Reloader:
    """Brings a registry up to date with its source, one reload at a time."""

    def __init__(
        self, registry: Registry, source: ModelSource | None, *, drain_s: float = 9.0
    ) -> None:
        """`drain_s`: how long a replaced model may take to finish its requests."""
        self.registry = registry
        self.results: Counter[ReloadResult] = Counter()
        # Called with the name and version of each model that has closed.
        self.when_closed: list[Callable[[str, str | None], None]] = []
        self._source = source
        self._drain_s = drain_s
        self.timeout_s = _TIMEOUT_S
        self._listing: asyncio.Future[list[FoundCheckpoint]] | None = None
        self._loads: dict[str, asyncio.Task[Change]] = {}  # by name
        self._late: set[str] = set()  # names whose load a reload has stopped waiting for
        self._drains: dict[ServedModel, asyncio.Task[None]] = {}
        self._one_at_a_time = asyncio.Lock()
        self._reloads: set[asyncio.Task[ReloadReport]] = set()
        self._stopped = False
        self._next: asyncio.Task[ReloadReport] | None = None  # has not listed the folder yet

    def reload(self) -> asyncio.Task[ReloadReport]:
        """Schedules a reload that lists the folder after this call; returns its task.

        Reloads run one after the other. Calls while one waits for its turn share that one.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._take_turn())
            self._reloads.add(self._next)
            self._next.add_done_callback(self._reloads.discard)
        return self._next

    async def stop(self) -> None:
        """Cancels all reloads; closing the models is the registry's task."""
        self._stopped = True
        tasks = [*self._reloads, *self._loads.values(), *self._drains.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take_turn(self) -> ReloadReport:
        async with self._one_at_a_time:
            self._next = None
            try:
                return await self._reload()
            except Exception as error:  # noqa: BLE001 - no fault of a reload may stop the service
                logger.error("reload failed: %s", describe(error))
                return ReloadReport(
                    problem="the reload failed with an internal error; the log says why"
                )

    async def _reload(self) -> ReloadReport:
        if self._source is None:
            return ReloadReport(problem="the models come from no folder; nothing was changed")
        served = [served_model.name for served_model in self.registry.served_models]
        try:
            found = await self._list(self._source, served)
        except DragomanError as error:
            logger.error("reload: no model was changed: %s", error)
            return ReloadReport(problem=str(error))
        self.registry.was_reloaded = True
        changes: list[Change] = []
        names = {each.name for each in found}
        # A model that disappeared may be about to return under a new name: keep it until the new
        # one has loaded.
        if not names - set(served) and not names & self._new_names():
            changes += self._remove_all_but(names)
        for each in found:
            changes.append(await self._update(each, len(found)))
        still_new = names & self._new_names()
        changes += (
            self._keep_for_now(names, still_new) if still_new else self._remove_all_but(names)
        )
        self.results.update(change.result for change in changes)
        if all(change.result is ReloadResult.UNCHANGED for change in changes):
            logger.info("reload: every model is up to date")
        return ReloadReport(sorted(changes, key=lambda change: change.name))

    async def _list(self, source: ModelSource, served: Collection[str]) -> list[FoundCheckpoint]:
        """The checkpoints of the source; CheckpointError when it cannot list them in time."""
        if self._listing is None or self._listing.done():
            self._listing = _in_thread(lambda: source.look(served))
            await asyncio.wait({self._listing}, timeout=self.timeout_s)
        listing = self._listing
        if not listing.done():
            raise CheckpointError(
                f"the models folder could not be listed within {self.timeout_s:g} s; nothing was "
                "changed; check its disk and reload again"
            )
        return listing.result()

    async def _update(self, found: FoundCheckpoint, num_models: int) -> Change:
        """Loads a checkpoint and serves it under its name, unless that version is served."""
        name = found.name
        if name not in self._loads:
            current = self.registry.get(name)
            if current is not None and not await self._loaded(current):
                return self._still_loading(found)  # the service started with it
            if current is not None and _serves(current, found):
                self.registry.failed_replacements.pop(name, None)
                return Change(name, ReloadResult.UNCHANGED, found.version)
            load = asyncio.create_task(self._replace(found, num_models))
            self._loads[name] = load
            load.add_done_callback(lambda load: self._handle_loaded(name, load))
            await asyncio.wait({load}, timeout=self.timeout_s)
            if load.done():
                return load.result()
        return self._still_loading(found)

    async def _loaded(self, model: ServedModel) -> bool:
        """Waits until a model that the service started with has loaded or failed; False if late."""
        until = time.monotonic() + (0.0 if model.name in self._late else self.timeout_s)
        while model.state is ModelState.LOADING:  # it may be the version that the folder holds now
            if time.monotonic() >= until:
                return False
            await asyncio.sleep(_POLL_S)
        self._late.discard(model.name)
        return True

    def _still_loading(self, found: FoundCheckpoint) -> Change:
        name = found.name
        if name not in self._late:
            self._late.add(name)
            logger.warning(
                "model %s: still loading after %g s; the reload goes on without it",
                name,
                self.timeout_s,
            )
        current = self.registry.get(name)
        return Change(
            name,
            ReloadResult.LOADING,
            found.version,
            None if current is None else _version(current),
            f"still loading after {self.timeout_s:g} s; it takes over when it has loaded; "
            "if its disk has failed, restart the service",
        )

    async def _replace(self, found: FoundCheckpoint, num_models: int) -> Change:
        """Loads a checkpoint and exchanges the model of its name."""
        assert self._source is not None
        name = found.name
        await self._wait_for_retired(name)
        replacement = self._source.served_model(found, num_models)
        current = self.registry.get(name)
        previous = None if current is None else _version(current)
        if not await self._load(replacement, listed=current is None):
            if current is not None and current.state is ModelState.FAILED:
                self.registry.put(replacement)  # its failure is the newer one
            elif current is not None:
                self.registry.failed_replacements[name] = found.version
                logger.warning("model %s: version %s keeps serving", name, previous)
            return Change(name, ReloadResult.FAILED, found.version, previous, replacement.failure)
        version = _version(replacement)
        self.registry.put(replacement)
        self.registry.failed_replacements.pop(name, None)
        if current is None:
            logger.info("model %s: version %s added", name, version)
            return Change(name, ReloadResult.ADDED, version)
        self._retire(current)
        logger.info("model %s: version %s replaced by %s", name, previous, version)
        return Change(name, ReloadResult.REPLACED, version, previous)

    def _handle_loaded(self, name: str, load: asyncio.Task[Change]) -> None:
        """Counts a load that its reload did not wait for, and reloads once more after it."""
        if self._loads.get(name) is load:
            del self._loads[name]
        if load.cancelled() or name not in self._late:
            return
        self._late.discard(name)
        error = load.exception()
        if error is not None:
            logger.error("model %s could not be replaced: %s", name, describe(error))
            return
        result = load.result().result
        self.results[result] += 1
        if result is not ReloadResult.FAILED and not self._stopped:
            self.reload()  # the folder may have changed while this one was loading

    async def _load(self, replacement: ServedModel, *, listed: bool) -> bool:
        """Loads a replacement; False when that failed. `listed`: it is shown while it loads."""
        self.registry.replacements[replacement.name] = replacement
        if listed:
            self.registry.put(replacement)
        try:
            replacement.start()
        except RuntimeError as error:  # no more threads
            replacement.state, replacement.failure = ModelState.FAILED, describe(error)
            logger.error("model %s failed to load: %s", replacement.name, replacement.failure)
        while replacement.state is ModelState.LOADING:
            await asyncio.sleep(_POLL_S)
        del self.registry.replacements[replacement.name]
        return replacement.state is ModelState.READY

    def _new_names(self) -> set[str]:
        """Names whose first model is loading."""
        listed = set(self.registry.served_models)
        replacements = self.registry.replacements.items()
        return {name for name, replacement in replacements if replacement in listed}

    def _remove_all_but(self, names: Collection[str]) -> list[Change]:
        changes = []
        for name in self._loads.keys() - names:  # a load may never end
            self._loads[name].cancel()
            self._late.discard(name)
            replacement = self.registry.replacements.pop(name, None)
            if replacement is not None and self.registry.get(name) is not replacement:
                self._retire(replacement)
        for served_model in self.registry.served_models:
            if served_model.name in names:
                continue
            version = _version(served_model)
            self.registry.drop(served_model)
            self.registry.failed_replacements.pop(served_model.name, None)
            self._late.discard(served_model.name)
            self._retire(served_model)
            logger.info("model %s: version %s removed", served_model.name, version)
            changes.append(Change(served_model.name, ReloadResult.REMOVED, version))
        return changes

    def _keep_for_now(self, names: Collection[str], awaited: Collection[str]) -> list[Change]:
        """Reports models that are gone from the folder and serve until `awaited` have loaded.

        A model may have been renamed: then its new name is among the `awaited`, the names whose
        first model is loading. `names` are those that the folder has.
        """
        reason = f"it is removed when {', '.join(sorted(awaited))} has loaded"
        return [
            Change(served_model.name, ReloadResult.UNCHANGED, _version(served_model), reason=reason)
            for served_model in self.registry.served_models
            if served_model.name not in names
        ]

    async def _wait_for_retired(self, name: str) -> None:
        """Waits until no retired model of this name holds memory: two versions are enough."""
        drains = [task for model, task in self._drains.items() if model.name == name]
        if drains:
            await asyncio.wait(drains)

    def _retire(self, old: ServedModel) -> None:
        self.registry.retired.add(old)
        self._drains[old] = asyncio.create_task(self._drain(old))

    async def _drain(self, old: ServedModel) -> None:
        """Closes a model when no request holds a lease of it, or after the drain timeout."""
        until = time.monotonic() + self._drain_s
        while (old.num_leases or old.queue_limits.num_texts) and time.monotonic() <= until:
            await asyncio.sleep(_POLL_S)
        while not old.close(0.0):
            await asyncio.sleep(_POLL_S)
        name, version = old.name, _version(old)
        self.registry.retired.discard(old)
        del self._drains[old]
        del old  # the last reference to its weights
        for notify in self.when_closed:
            notify(name, version)
        await asyncio.to_thread(give_back_memory)
        logger.info("model %s: version %s closed", name, version)


def _in_thread(
    list_checkpoints: Callable[[], list[FoundCheckpoint]],
) -> asyncio.Future[list[FoundCheckpoint]]:
    """Lists checkpoints in a daemon thread: a listing that hangs does not block the exit."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[list[FoundCheckpoint]] = loop.create_future()
    future.add_done_callback(asyncio.Future.exception)  # the reload may have timed out

    def run() -> None:
        settle: Callable[[], None]
        try:
            settle = partial(future.set_result, list_checkpoints())
        except Exception as error:  # noqa: BLE001 - the reload that waits for it handles it
            settle = partial(future.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle)

    threading.Thread(target=run, name="models folder", daemon=True).start()
    return future


def _version(served_model: ServedModel) -> str | None:
    return None if served_model.known_info is None else served_model.known_info.version


def _serves(current: ServedModel, found: FoundCheckpoint) -> bool:
    return current.state is ModelState.READY and _version(current) == found.version
