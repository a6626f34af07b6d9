"""What every face of the service passes through on its way to an engine.

The native face is one; faces that other clients speak stand beside it. Each parses its own
bodies and writes its own answers; choosing the model, the limits, the deadline, what is remembered
and the client that hangs up are settled here, once.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastapi import Request

from model.decoding.search_config import SearchConfig
from model.text.segmenter import Segmentation
from model.translation import ForcedScore, Translation
from service.access.control import AccessControl
from service.api.deadline import (
    _SECONDS,
    DEADLINE_HEADER,
    Deadline,
    Result,
    _together,
    _unless_disconnected,
)
from service.errors import (
    DeadlineExceeded,
    InvalidRequest,
    RequestTooLarge,
    ShuttingDown,
)
from service.lifecycle import Lifecycle, Phase
from service.monitoring.metrics import Metrics
from service.request_record import note, note_cut, note_model, note_pivots, note_translated
from service.serving.cache import TranslationCache
from service.serving.registry import Registry
from service.serving.route import Route, joined, pivoted_pairs
from service.serving.served_model import ServedModel
from service.settings import Settings
from service.text.languages import ServedPairs


@dataclass(frozen=True)
class Part:
    """The texts of a request that go the same way."""

    route: Route
    texts: Sequence[str]
    searches: Sequence[SearchConfig]  # one a model of the route
    segmentation: Segmentation
    name_of: Callable[[int], str]  # what an error calls the text at an index


@dataclass(frozen=True)
class TranslationService:
    """Lets a request's texts through to a model, or raises one of `service.errors`."""

    registry: Registry
    settings: Settings
    lifecycle: Lifecycle
    metrics: Metrics
    cache: TranslationCache
    access: AccessControl

    def choose(self, *, model: str | None, source: str | None, target: str | None) -> ServedModel:
        """The one model that will do the work; raises while the service is closing."""
        self._require_open()
        return self.registry.choose(model=model, source=source, target=target)

    def route(self, *, model: str | None, source: str | None, target: str | None) -> Route:
        """The model that will do the work, or the two; raises while the service is closing."""
        self._require_open()
        return self.registry.route(
            model=model, source=source, target=target, pivot=self.settings.pivot
        )

    def served(self) -> ServedPairs:
        """What can be translated at this moment, through a third language too where that is on."""
        direct = tuple(dict.fromkeys(self.registry.pairs))
        pivoted = pivoted_pairs(direct) if self.settings.pivot else ()
        return ServedPairs(direct + pivoted, frozenset(pivoted))

    async def translate(
        self,
        request: Request,
        route: Route,
        texts: Sequence[str],
        searches: Sequence[SearchConfig],
        *,
        alignments: bool = False,
        segmentation: Segmentation | None = None,
        name_of: Callable[[int], str],
    ) -> list[Translation]:
        """One translation a text, in order; stops the work when the client hangs up.

        All texts are looked at before any is translated: one that cannot be refuses the request.
        `name_of` gives an error its name for the text at an index; without `segmentation` the
        setting counts.
        """
        self.admit(request, texts, name_of, model=route.name)
        note_pivots(request.scope, [route.pivot])
        cut = segmentation or self.settings.segmentation
        part = Part(route, texts, searches, cut, name_of)
        work = self._translate(part, alignments=alignments, deadline=self.deadline(request))
        with route.lease():
            translations = await _unless_disconnected(request, work)
        _note_cuts(request, translations)
        note_translated(request.scope)
        return translations

    async def translate_parts(
        self, request: Request, parts: Sequence[Part], deadline: Deadline
    ) -> list[list[Translation]]:
        """Each part's translations; one that fails ends the others. Wants `admit` before it."""
        note_model(request.scope, ",".join(part.route.name for part in parts) or "-")
        note_pivots(request.scope, [part.route.pivot for part in parts])
        work = [self._translate(part, alignments=False, deadline=deadline) for part in parts]
        with contextlib.ExitStack() as leases:
            for part in parts:
                leases.enter_context(part.route.lease())
            translations = await _unless_disconnected(request, _together(work))
        for of_part in translations:
            _note_cuts(request, of_part)
        note_translated(request.scope)
        return translations

    async def in_time(
        self,
        request: Request,
        deadline: Deadline,
        work: Coroutine[Any, Any, Result],
        *,
        stage: str,
    ) -> Result:
        """The result of `work`, which is cancelled at the deadline, or when the client goes first.

        `stage` is its name in traces and metrics.
        """
        started = time.monotonic()
        try:
            async with asyncio.timeout(deadline.left_s):
                result = await _unless_disconnected(request, work, stage)
        except TimeoutError:
            raise deadline.exceeded() from None
        self.metrics.count_stage(stage, time.monotonic() - started)
        return result

    def admit(
        self,
        request: Request,
        texts: Sequence[str],
        name_of: Callable[[int], str],
        *,
        model: str,
        sent: Sequence[str] | None = None,
        spends_quota: bool = True,
    ) -> None:
        """Notes a request's size for the log; raises past its limits and past its sender's.

        `sent` are the texts as the client counts them, where `texts` are pieces of them.
        """
        note(request.scope, model, len(texts), sum(map(len, texts)))
        self.check_size(texts, name_of)
        counted = texts if sent is None else sent
        num_characters = sum(map(len, counted)) if spends_quota else 0
        self.access.charge(request, len(counted), num_characters)

    def check_size(self, texts: Sequence[str], name_of: Callable[[int], str]) -> None:
        """Raises RequestTooLarge for more texts or characters than one request may have."""
        num_characters = sum(map(len, texts))
        self._check_size(len(texts), num_characters, field=name_of(0).partition("[")[0])

    async def score(
        self, request: Request, served_model: ServedModel, pairs: Sequence[tuple[str, str]]
    ) -> list[ForcedScore]:
        """One score a pair, in order; stops the work when the client hangs up."""
        num_characters = sum(len(source) + len(target) for source, target in pairs)
        note(request.scope, served_model.name, len(pairs), num_characters)
        self._check_size(len(pairs), num_characters, field="pairs")
        self.access.charge(request, len(pairs), num_characters)
        work = served_model.score(pairs, deadline_s=self.deadline(request).seconds)
        with served_model.lease():
            return await _unless_disconnected(request, work)

    def _require_open(self) -> None:
        if self.lifecycle.phase is Phase.CLOSING:
            raise ShuttingDown("the service is shutting down; ask another instance")

    async def _translate(
        self, part: Part, *, alignments: bool, deadline: Deadline
    ) -> list[Translation]:
        """One translation a text, by one model after the other, all before one deadline."""
        try:
            return await self._translate_legs(part, alignments=alignments, deadline=deadline)
        except DeadlineExceeded:  # a model knows only of the time that was left
            raise deadline.exceeded() from None

    async def _translate_legs(
        self, part: Part, *, alignments: bool, deadline: Deadline
    ) -> list[Translation]:
        first, *others = (
            replace(part, route=Route((leg,)), searches=[search])
            for leg, search in zip(part.route.legs, part.searches, strict=True)
        )
        results = await self._translate_leg(
            first, alignments=alignments, deadline_s=deadline.left_s
        )
        for leg in others:
            leg_part = replace(leg, texts=[result.text for result in results])
            last = await self._translate_leg(
                leg_part, alignments=alignments, deadline_s=deadline.left_s
            )
            results = [joined(*both) for both in zip(results, last, strict=True)]
        return results

    async def _translate_leg(
        self, part: Part, *, alignments: bool, deadline_s: float
    ) -> list[Translation]:
        """One model's translations, from the cache where it has them."""
        (served_model,), (search,) = part.route.legs, part.searches
        cached = await self.cache.translate(
            served_model,
            part.texts,
            search,
            alignments=alignments,
            segmentation=part.segmentation,
            deadline_s=deadline_s,
            name_of=part.name_of,
        )
        self.metrics.count_cache(hit=cached.num_remembered)
        if cached.answer is not None:
            self.metrics.count_answer(served_model, cached.answer)
        self.metrics.count_texts(served_model, part.texts, cached.translations)
        return cached.translations

    def deadline(self, request: Request) -> Deadline:
        """Counts from now what the service allows, or less where the client asks for less."""
        seconds = self._deadline_s(request)
        return Deadline(seconds, time.monotonic() + seconds)

    def _deadline_s(self, request: Request) -> float:
        asked = request.headers.get(DEADLINE_HEADER)
        if asked is None:
            return self.settings.deadline_s
        if not _SECONDS.fullmatch(asked) or float(asked) == 0:
            raise InvalidRequest(
                f"{DEADLINE_HEADER} is no number of seconds above 0; send one such as 2.5",
                field=DEADLINE_HEADER,
            )
        return min(float(asked), self.settings.deadline_s)

    def _check_size(self, num_items: int, num_characters: int, *, field: str) -> None:
        settings = self.settings
        if num_items > settings.max_texts:
            raise RequestTooLarge(
                f"{field} holds {num_items} items, the limit is {settings.max_texts} (max_texts); "
                "send them in several requests",
                field=field,
            )
        if num_characters > settings.max_characters:
            raise RequestTooLarge(
                f"{field} has {num_characters} characters, the limit is "
                f"{settings.max_characters} (max_characters); send it in several requests",
                field=field,
            )


def _note_cuts(request: Request, translations: Sequence[Translation]) -> None:
    # No client's API but our own has a place for it in its bodies.
    if any(translation.truncated for translation in translations):
        note_cut(request.scope)
