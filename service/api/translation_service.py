"""Translates and scores the texts of a request, for every API.

An API parses its own bodies and writes its own answers. This module does the steps that all APIs
share: the choice of the model, limits, charges, deadlines, the cache, and cancelling the work when
a client disconnects.
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
from service.api.deadline import Deadline, Result, gather_or_cancel, unless_disconnected
from service.errors import DeadlineExceeded, ShuttingDown
from service.lifecycle import Lifecycle, Phase
from service.limits import Limits
from service.monitoring.metrics import Metrics
from service.request_context import RequestContext, context_of
from service.serving.cache import TranslationCache
from service.serving.pending import PendingRequest
from service.serving.registry import Registry
from service.serving.route import Route, joined, pivoted_pairs
from service.serving.served_model import ServedModel
from service.settings import Settings
from service.text.languages import ServedPairs


@dataclass(frozen=True)
class Part:
    """The texts of a request that take the same route."""

    route: Route
    texts: Sequence[str]
    searches: Sequence[SearchConfig]  # one for each model of the route
    segmentation: Segmentation
    name_of: Callable[[int], str]  # the field name that errors use for the text at an index


@dataclass(frozen=True)
class TranslationService:
    """Translates and scores texts; raises one of `service.errors` when it cannot."""

    registry: Registry
    settings: Settings
    lifecycle: Lifecycle
    metrics: Metrics
    cache: TranslationCache
    access: AccessControl
    limits: Limits

    def choose(self, *, model: str | None, source: str | None, target: str | None) -> ServedModel:
        """The model for a request that needs one; raises ShuttingDown while the service closes."""
        self._require_open()
        return self.registry.choose(model=model, source=source, target=target)

    def route(self, *, model: str | None, source: str | None, target: str | None) -> Route:
        """The model for a request, or two in turn; raises ShuttingDown while the service closes."""
        self._require_open()
        return self.registry.route(
            model=model, source=source, target=target, pivot=self.settings.pivot
        )

    def served(self) -> ServedPairs:
        """The language pairs that can be translated now, with pivots if the setting allows them."""
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
        """One translation for each text, in order; stops the work when the client disconnects.

        All texts are checked before any is translated: one invalid text refuses the request.
        `name_of` names the text at an index for errors; `segmentation` None: the setting.
        """
        self.admit(request, texts, name_of, model=route.name)
        context = context_of(request.scope)
        context.note_pivots([route.pivot])
        part = Part(route, texts, searches, segmentation or self.settings.segmentation, name_of)
        deadline = Deadline.of(request, self.limits)
        work = self._translate(part, deadline, context.pending, alignments=alignments)
        with route.lease():
            translations = await unless_disconnected(request, work)
        _note_translated(context, translations)
        return translations

    async def translate_parts(
        self, request: Request, parts: Sequence[Part], deadline: Deadline
    ) -> list[list[Translation]]:
        """Each part's translations; if one part fails, the other parts are cancelled.

        Call `admit` first.
        """
        context = context_of(request.scope)
        context.record.model = ",".join(part.route.name for part in parts) or "-"
        context.note_pivots([part.route.pivot for part in parts])
        work = [self._translate(part, deadline, context.pending) for part in parts]
        with contextlib.ExitStack() as leases:
            for part in parts:
                leases.enter_context(part.route.lease())
            translations = await unless_disconnected(request, gather_or_cancel(work))
        _note_translated(context, [each for of_part in translations for each in of_part])
        return translations

    async def in_time(
        self,
        request: Request,
        deadline: Deadline,
        work: Coroutine[Any, Any, Result],
        *,
        stage: str,
    ) -> Result:
        """The result of `work`, which is cancelled at the deadline or when the client disconnects.

        `stage` is its name in traces and metrics.
        """
        started = time.monotonic()
        try:
            async with asyncio.timeout(deadline.left_s):
                result = await unless_disconnected(request, work, stage)
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
        """Notes a request's size, checks it, and charges it to the caller's rate and quota.

        `sent`: the texts as the client counts them, where `texts` are pieces of them.
        Raises RequestTooLarge, KeyRefused, RateLimited or QuotaExceeded.
        """
        context = context_of(request.scope)
        context.note_work(model, len(texts), sum(map(len, texts)))
        self.check_size(texts, name_of)
        counted = texts if sent is None else sent
        num_characters = sum(map(len, counted)) if spends_quota else 0
        self.access.charge(context.caller, len(counted), num_characters)

    def check_size(self, texts: Sequence[str], name_of: Callable[[int], str]) -> None:
        """Raises RequestTooLarge if there are too many texts or characters for one request."""
        num_characters = sum(map(len, texts))
        field = name_of(0).partition("[")[0]
        self.limits.check_texts(len(texts), num_characters, field=field)

    async def score(
        self, request: Request, served_model: ServedModel, pairs: Sequence[tuple[str, str]]
    ) -> list[ForcedScore]:
        """One score for each pair, in order; stops the work when the client disconnects."""
        num_characters = sum(len(source) + len(target) for source, target in pairs)
        context = context_of(request.scope)
        context.note_work(served_model.name, len(pairs), num_characters)
        self.limits.check_texts(len(pairs), num_characters, field="pairs")
        self.access.charge(context.caller, len(pairs), num_characters)
        deadline_s = Deadline.of(request, self.limits).seconds
        work = served_model.score(pairs, deadline_s=deadline_s, pending=context.pending)
        with served_model.lease():
            return await unless_disconnected(request, work)

    def _require_open(self) -> None:
        if self.lifecycle.phase is Phase.CLOSING:
            raise ShuttingDown("the service is shutting down; ask another instance")

    async def _translate(
        self, part: Part, deadline: Deadline, pending: PendingRequest, *, alignments: bool = False
    ) -> list[Translation]:
        """One translation for each text, by the models of the route in turn, within a deadline."""
        try:
            return await self._translate_legs(part, deadline, pending, alignments=alignments)
        except DeadlineExceeded:  # the model's error has only its own time, not the request's
            raise deadline.exceeded() from None

    async def _translate_legs(
        self, part: Part, deadline: Deadline, pending: PendingRequest, *, alignments: bool
    ) -> list[Translation]:
        first, *later = (
            replace(part, route=Route((leg,)), searches=[search])
            for leg, search in zip(part.route.legs, part.searches, strict=True)
        )
        results = await self._translate_leg(first, deadline.left_s, pending, alignments=alignments)
        for leg in later:
            leg_part = replace(leg, texts=[result.text for result in results])
            last = await self._translate_leg(
                leg_part, deadline.left_s, pending, alignments=alignments
            )
            results = [joined(*both) for both in zip(results, last, strict=True)]
        return results

    async def _translate_leg(
        self, part: Part, deadline_s: float, pending: PendingRequest, *, alignments: bool
    ) -> list[Translation]:
        """One model's translations; texts in the cache are not translated again."""
        (served_model,), (search,) = part.route.legs, part.searches
        cached = await self.cache.translate(
            served_model,
            part.texts,
            search,
            alignments=alignments,
            segmentation=part.segmentation,
            deadline_s=deadline_s,
            name_of=part.name_of,
            pending=pending,
        )
        self.metrics.count_cache(hit=cached.num_remembered)
        if cached.answer is not None:
            self.metrics.count_answer(served_model, cached.answer)
        self.metrics.count_texts(served_model, part.texts, cached.translations)
        return cached.translations


def _note_translated(context: RequestContext, translations: Sequence[Translation]) -> None:
    # Warnings go into a response header: only /v1 has a field for them in its bodies.
    context.note_warnings(sign for each in translations for sign in each.warnings)
    context.note_translated()
