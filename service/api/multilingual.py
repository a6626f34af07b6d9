"""Detects the language of each text and translates it, for the compatible APIs.

Their clients may send `auto` or no source language, where /v1 requires a pair of languages. Each
model gets the texts in its source language. The results keep the order of the texts.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from fastapi import Request

from model.decoding.search_config import SearchConfig
from model.text.segmenter import Segmentation
from model.translation import Translation
from service.api.deadline import Deadline
from service.api.translation_service import Part, TranslationService
from service.errors import ModelLoading
from service.text.detection import Detector, Guess
from service.text.languages import ServedPairs, base_code, match_code
from service.text.markup import Document, plain_document

# Separates the pieces of a text to translate from its tags; stops after the given number of pieces.
Reader = Callable[[str, int], Document]

_READ_AT_ONCE = 10_000  # characters; longer texts take milliseconds and are read in a thread


@dataclass(frozen=True)
class Interpretation:
    """The translation of one text, and the language that it was translated from."""

    text: str
    source: str
    confidence: float | None  # of the detection, 0 to 1; None when the client named the language
    alternatives: tuple[str, ...] = ()


@dataclass(frozen=True)
class Order:
    """Texts with one source and one target language, as a client sent them."""

    texts: Sequence[str]
    source: str | None  # None: to be detected, for each text
    target: str
    name_of: Callable[[int], str]  # what an error calls the text at an index
    num_alternatives: int = 0
    suggested: str | None = None  # the source of a text whose language cannot be detected
    read: Reader = plain_document
    segmentation: Segmentation | None = None  # None: the setting's


# Minimum confidence to accept a detected language that no model reads. High, because a wrong guess
# leaves the text untranslated.
_SURE = 0.9


@dataclass(frozen=True)
class MultilingualTranslator:
    """Detects languages and translates, for all compatible APIs."""

    translation_service: TranslationService
    detector: Detector

    def served(self) -> ServedPairs:
        """The language pairs that are served; raises ModelLoading while no model has loaded yet."""
        served = self.translation_service.served()
        if not served.pairs and self.translation_service.registry.loading:
            raise ModelLoading("models are still loading; retry after a few seconds")
        return served

    async def detect(
        self, request: Request, texts: Sequence[str], name_of: Callable[[int], str]
    ) -> list[list[Guess]]:
        """The possible languages of each text, most likely first; the list may be empty.

        A language that no model reads is listed only where it is certain. Detection is not charged
        to a quota: a translation of the same text usually follows, and is charged.
        """
        deadline = Deadline.of(request, self.translation_service.limits)
        self.translation_service.admit(request, texts, name_of, model="-", spends_quota=False)
        return await self._detect(request, deadline, texts, self.served())

    async def translate(self, request: Request, order: Order) -> list[Interpretation]:
        """One interpretation for each text, in order.

        A text that is already in the target language is returned unchanged.
        """
        (results,) = await self.translate_all(request, [order])
        return results

    async def translate_all(
        self, request: Request, orders: Sequence[Order]
    ) -> list[list[Interpretation]]:
        """The interpretations of each order; all orders (at least one) are of one request."""
        deadline = Deadline.of(request, self.translation_service.limits)
        documents = await self._documents(request, orders)
        served = self.served()
        plans = [
            self._plan(
                served, order, ours, await self._sources(request, deadline, served, order, ours)
            )
            for order, ours in zip(orders, documents, strict=True)
        ]
        parts = [part for plan in plans for part in plan.parts]
        translated = iter(await self.translation_service.translate_parts(request, parts, deadline))
        return [plan.filled(translated) for plan in plans]

    async def _documents(self, request: Request, orders: Sequence[Order]) -> list[list[Document]]:
        """Each order's texts as documents; raises RequestTooLarge for too many pieces."""
        limits = self.translation_service.limits
        for order in orders:
            for index, text in enumerate(order.texts):
                limits.check_document(len(text), field=order.name_of(index))
        tagged = [order for order in orders if order.read is not plain_document]
        if sum(len(text) for order in tagged for text in order.texts) > _READ_AT_ONCE:
            documents = await asyncio.to_thread(self._read, orders)
        else:
            documents = self._read(orders)
        pieces = [text for ours in documents for document in ours for text in document.texts]
        sent = [text for order in orders for text in order.texts]
        self.translation_service.admit(request, pieces, orders[0].name_of, model="-", sent=sent)
        return documents

    def _read(self, orders: Sequence[Order]) -> list[list[Document]]:
        read: dict[tuple[Reader, str], Document] = {}
        documents: list[list[Document]] = []
        # Every piece that a model translates counts, so one text with a hundred tags counts like a
        # hundred texts.
        limits = self.translation_service.limits
        num_pieces, max_pieces = 0, limits.settings.max_texts
        for order in orders:
            ours: list[Document] = []
            for index, text in enumerate(order.texts):
                if (order.read, text) not in read:  # the same text may go into many languages
                    read[order.read, text] = order.read(text, max_pieces)
                document = read[order.read, text]
                limits.check_pieces(len(document.texts), field=order.name_of(index))
                num_pieces += len(document.texts)
                ours.append(document)
            documents.append(ours)
            if num_pieces > max_pieces:
                pieces = [text for each in documents for one in each for text in one.texts]
                self.translation_service.check_size(pieces, orders[0].name_of)
        return documents

    def _plan(
        self,
        served: ServedPairs,
        order: Order,
        documents: Sequence[Document],
        sources: Sequence[Guess],
    ) -> "_Plan":
        unchanged = [
            Interpretation(text, guess.language, None if order.source else guess.confidence)
            for text, guess in zip(order.texts, sources, strict=True)
        ]
        groups = _group(served, order, sources)
        parts = [self._part(order, documents, pair, indices) for pair, indices in groups.items()]
        return _Plan(unchanged, documents, list(groups.values()), parts)

    async def _detect(
        self, request: Request, deadline: Deadline, texts: Sequence[str], served: ServedPairs
    ) -> list[list[Guess]]:
        work = self.detector.detect(texts, tuple(served.by_language))
        guesses = await self.translation_service.in_time(request, deadline, work, stage="detect")
        return [
            [
                each
                for each in of_text
                if each.confidence >= _SURE or each.language in served.sources
            ]
            for of_text in guesses
        ]

    async def _sources(
        self,
        request: Request,
        deadline: Deadline,
        served: ServedPairs,
        order: Order,
        documents: Sequence[Document],
    ) -> list[Guess]:
        """The source language of each document."""
        if order.source is not None:
            return [Guess(served.match_source(order.source), 1.0)] * len(documents)
        texts = [" ".join(document.texts) for document in documents]
        guesses = await self._detect(request, deadline, texts, served)
        return [_likeliest(served, order, of_text) for of_text in guesses]

    def _part(
        self,
        order: Order,
        documents: Sequence[Document],
        pair: tuple[str, str],
        indices: Sequence[int],
    ) -> Part:
        """The pieces of the documents at `indices`, which all go between the same languages."""
        source, target = pair
        route = self.translation_service.route(model=None, source=source, target=target)
        # The text in the pivot language needs no alternatives.
        wanted = [0] * (len(route.legs) - 1) + [order.num_alternatives]
        owners = [index for index in indices for _ in documents[index].texts]
        return Part(
            route,
            [text for index in indices for text in documents[index].texts],
            [
                self._search(leg.info.search, num_alternatives)
                for leg, num_alternatives in zip(route.legs, wanted, strict=True)
            ],
            order.segmentation or self.translation_service.settings.segmentation,
            lambda position: order.name_of(owners[position]),
        )

    def _search(self, defaults: SearchConfig, num_alternatives: int) -> SearchConfig:
        """The model's own settings, with a beam wide enough for the alternatives."""
        self.translation_service.limits.check_alternatives(num_alternatives)
        num_best = num_alternatives + 1
        return replace(defaults, beam_size=max(defaults.beam_size, num_best), n_best=num_best)


@dataclass(frozen=True)
class _Plan:
    """The texts of one order by model, and how their results are put together."""

    unchanged: Sequence[Interpretation]  # for each text, the result without a translation
    documents: Sequence[Document]
    groups: Sequence[Sequence[int]]  # indices of the texts between the same two languages
    parts: Sequence[Part]  # one a group

    def filled(self, translated: Iterator[Sequence[Translation]]) -> list[Interpretation]:
        """The order's interpretations; takes the translations of as many parts as it has."""
        results = list(self.unchanged)
        for indices in self.groups:
            translations = iter(next(translated))
            for index in indices:
                document = self.documents[index]
                pieces = list(islice(translations, len(document.texts)))
                results[index] = _filled(results[index], document, pieces)
        return results


def _filled(
    result: Interpretation, document: Document, translations: Sequence[Translation]
) -> Interpretation:
    """The result with its document translated.

    The document's n-th alternative is made of the n-th alternative of every piece.
    """
    # Not strict: a piece of a word or two may have fewer alternatives than others.
    ranks = zip(*(translation.alternatives for translation in translations), strict=False)
    return replace(
        result,
        text=document.filled([translation.text for translation in translations]),
        alternatives=tuple(document.filled([piece.text for piece in rank]) for rank in ranks),
    )


def _likeliest(served: ServedPairs, order: Order, guesses: Sequence[Guess]) -> Guess:
    """The first guess; for a text without letters the suggested language, or any served one."""
    if guesses and guesses[0].confidence > 0:
        return guesses[0]
    if order.suggested is not None:
        return Guess(served.match_source(order.suggested), 0.0)
    for guess in guesses:
        if match_code(order.target, served.targets_of(guess.language)) is not None:
            return guess
    raise served.unknown_target()


def _group(
    served: ServedPairs, order: Order, sources: Sequence[Guess]
) -> dict[tuple[str, str], list[int]]:
    """Indices of the texts by their source and target language."""
    groups: dict[tuple[str, str], list[int]] = {}
    for index, guess in enumerate(sources):
        if order.source is None and _is_in_target(served, guess.language, order.target):
            continue
        target = served.match_target(order.target, guess.language)
        groups.setdefault((guess.language, target), []).append(index)
    return groups


def _is_in_target(served: ServedPairs, language: str, target: str) -> bool:
    """True for a text in the target language, unless a model translates between its variants."""
    same = base_code(language) == base_code(target)
    return same and match_code(target, served.targets_of(language)) is None
