"""The same translation is never computed twice: remembered results, and results under way.

A translation depends on nothing but the text, the search settings and the weights, so the model's
version is part of the key and an entry only leaves for lack of space. Requests that ask for the
same texts at the same time share one computation (request coalescing).
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cachetools import LRUCache

from model.decoding.search_config import SearchConfig
from model.quality import unsure_below
from model.text.segmenter import Segmentation
from model.translation import Translation
from service.errors import QueueFull
from service.limits import deadline_exceeded
from service.serving.jobs import ItemFailure
from service.serving.pending import PendingRequest
from service.serving.served_model import Answer, ServedModel
from service.text.quality_warnings import warnings_of

_ENTRY_CHARACTERS = 100  # what an entry costs beside its texts: numbers, objects of the pieces


@dataclass(frozen=True)
class TranslationKey:
    """Everything that a translation depends on."""

    version: str  # of the checkpoint
    precision: str  # another precision may choose another word
    search: SearchConfig
    segmentation: Segmentation
    text: str


@dataclass(frozen=True)
class CachedTranslations:
    """Translations of some texts, and where they came from."""

    translations: list[Translation]  # one a text, in order
    num_remembered: int  # texts that needed no computation
    answer: Answer | None  # the model's answer to the other texts; None where there were none


@dataclass(eq=False)
class _InFlight:
    """A computation that requests share."""

    task: asyncio.Task[Answer]
    num_waiting: int = 0


class TranslationCache:
    """Remembered and shared translations of all models. Belongs to the event loop."""

    def __init__(self, max_characters: int) -> None:
        """Remembers the most recently used translations of this many characters; 0: none."""
        self._remembered: LRUCache[TranslationKey, Translation] = LRUCache(max_characters, _size)
        self._in_flight: dict[object, _InFlight] = {}  # by all that was asked

    @property
    def num_characters(self) -> int:
        """Size of the remembered translations, as `max_characters` counts it."""
        return int(self._remembered.currsize)

    def get(self, key: TranslationKey) -> Translation | None:
        """The remembered translation of a text."""
        return self._remembered.get(key)

    def put(self, key: TranslationKey, translation: Translation) -> None:
        """Remembers a translation, unless it would fill more than a quarter of the space."""
        if _size(translation) <= self._remembered.maxsize // 4:
            self._remembered[key] = translation

    async def translate(
        self,
        model: ServedModel,
        texts: Sequence[str],
        search: SearchConfig,
        *,
        alignments: bool,
        segmentation: Segmentation,
        deadline_s: float,
        name_of: Callable[[int], str],
        pending: PendingRequest | None = None,
    ) -> CachedTranslations:
        """One translation a text, in order; equal texts are translated once.

        `name_of` names the text at an index for error messages. `pending` ends when the request's
        texts are in the queue. Translations with alignments are
        not remembered: their matrices are far larger than the texts.
        Raises QueueFull, DeadlineExceeded after `deadline_s`, InvalidRequest for a text that the
        model cannot translate, TranslationFailed when the network failed on one.
        """
        info = model.info
        keys = {
            text: TranslationKey(info.version, info.precision, search, segmentation, text)
            for text in texts
        }
        translations: dict[str, Translation] = {}
        if not alignments:
            known = ((text, self.get(key)) for text, key in keys.items())
            translations = {text: each for text, each in known if each is not None}
        missing = [text for text in keys if text not in translations]
        answer = None
        if missing:
            answer = await self._compute(
                model,
                missing,
                search,
                alignments=alignments,
                segmentation=segmentation,
                deadline_s=deadline_s,
                name_of=lambda index: name_of(texts.index(missing[index])),
                pending=pending,
            )
            bound = unsure_below(info.metrics)
            for text, translation in zip(missing, answer.translations, strict=True):
                # Before they are remembered, so that no text is checked twice.
                warnings = warnings_of(text, translation, unsure_below=bound)
                translations[text] = replace(translation, warnings=warnings)
                if not alignments:
                    self.put(keys[text], translations[text])
        return CachedTranslations(
            [translations[text] for text in texts], len(texts) - len(missing), answer
        )

    async def _compute(
        self,
        model: ServedModel,
        texts: Sequence[str],
        search: SearchConfig,
        *,
        alignments: bool,
        segmentation: Segmentation,
        deadline_s: float,
        name_of: Callable[[int], str],
        pending: PendingRequest | None,
    ) -> Answer:
        """The model's answer, shared with a request in flight that asked for the same."""
        asked = (model, tuple(texts), search, alignments, segmentation)
        until = time.monotonic() + deadline_s

        def begin() -> Coroutine[Any, Any, Answer]:
            return model.translate(
                texts,
                search,
                alignments=alignments,
                segmentation=segmentation,
                deadline_s=max(until - time.monotonic(), 0.0),
                pending=pending,
            )

        try:
            async with asyncio.timeout(deadline_s):
                if (in_flight := self._in_flight.get(asked)) is not None:
                    if pending is not None:  # its texts are in the queue already
                        pending.end()
                    with contextlib.suppress(QueueFull):  # the first request may have had less time
                        return replace(await self._join(asked, in_flight), shared=True)
                in_flight = self._in_flight[asked] = _InFlight(asyncio.create_task(begin()))
                return await self._join(asked, in_flight)
        except ItemFailure as failure:
            raise failure.error(name_of(failure.index)) from None
        except TimeoutError:
            raise deadline_exceeded(deadline_s) from None

    async def _join(self, asked: object, in_flight: _InFlight) -> Answer:
        """The answer; cancels the computation when the last request that waits has left."""
        in_flight.num_waiting += 1
        try:
            return await asyncio.shield(in_flight.task)
        finally:
            in_flight.num_waiting -= 1
            if in_flight.num_waiting == 0:
                in_flight.task.cancel()
            over = in_flight.task.done() or in_flight.num_waiting == 0
            if over and self._in_flight.get(asked) is in_flight:
                del self._in_flight[asked]


def _size(translation: Translation) -> int:
    """Characters of the source, the translation, its pieces and the alternatives."""
    segments = sum(len(each.source) + len(each.text) for each in translation.segments)
    others = sum(len(other.text) for other in translation.alternatives)
    return _ENTRY_CHARACTERS + len(translation.text) + 2 * segments + others
