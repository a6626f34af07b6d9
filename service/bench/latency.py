"""Measures the latency of one request at a time: alone, and of short ones beside long ones."""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from model.decoding.search_config import SearchConfig
from model.translation import Translation

SHORT_WORDS, LONG_WORDS = 6, 60
NUM_LONG = 8  # long requests in flight at any time
_SENTENCE_ENDS = ".!?…。！？"


class StepTranslator(Protocol):
    """The part of model.translator.Translator that a latency measurement calls."""

    def add(self, text: str, search: SearchConfig | None = None) -> int: ...

    def step(self, timeout_s: float | None = None) -> list[tuple[int, Translation]]:
        """Returns the finished translations with their tickets, after at most `timeout_s`."""

    def cancel(self, ticket: int) -> None: ...


@dataclass(frozen=True)
class LatencySummary:
    """Percentiles of many latencies (see `percentile`)."""

    num_requests: int
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, latencies_s: Sequence[float]) -> "LatencySummary":
        """Returns the percentiles of at least one latency, given in seconds."""
        times_ms = [1000 * latency for latency in latencies_s]
        return cls(
            len(times_ms), *(percentile(times_ms, percent) for percent in (50, 90, 95, 99, 100))
        )


@dataclass(frozen=True)
class ShortBesideLong:
    """Latency of short requests, sent one after another, without and with long requests."""

    short_words: int
    long_words: int
    num_long: int  # in flight all the time while `beside` is measured
    alone: LatencySummary
    beside: LatencySummary


def percentile(values: Sequence[float], percent: float) -> float:
    """Returns the smallest value that at least `percent` % of the values do not exceed."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[max(int(rank), 1) - 1]


def one_by_one(
    translator: StepTranslator,
    texts: Sequence[str],
    search: SearchConfig,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> LatencySummary:
    """Translates every text once, each after the answer to the one before."""
    return LatencySummary.of(
        [
            _seconds_of_one(translator, text, search, on_step=lambda finished: None, clock=clock)
            for text in texts
        ]
    )


def short_beside_long(
    translator: StepTranslator,
    sentences: Sequence[str],
    search: SearchConfig,
    seconds: float,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> ShortBesideLong:
    """Measures short requests without long ones for half of `seconds`, beside them for the rest."""

    def measure(long: Sequence[str], num_long: int) -> LatencySummary:
        short = itertools.cycle(of_words(sentences, SHORT_WORDS))
        endless = itertools.cycle(long)
        in_flight: set[int] = set()

        def keep_long_in_flight(finished: set[int]) -> None:
            in_flight.difference_update(finished)
            while len(in_flight) < num_long:
                in_flight.add(translator.add(next(endless), search))

        latencies: list[float] = []
        end = clock() + seconds / 2
        while not latencies or clock() < end:
            latencies.append(
                _seconds_of_one(
                    translator, next(short), search, on_step=keep_long_in_flight, clock=clock
                )
            )
        for ticket in in_flight:
            translator.cancel(ticket)
        return LatencySummary.of(latencies)

    long = of_words(sentences, LONG_WORDS)
    return ShortBesideLong(
        SHORT_WORDS, LONG_WORDS, NUM_LONG, measure(long, 0), measure(long, NUM_LONG)
    )


def _seconds_of_one(
    translator: StepTranslator,
    text: str,
    search: SearchConfig,
    *,
    on_step: Callable[[set[int]], None],
    clock: Callable[[], float],
) -> float:
    """Returns the seconds until `text` is translated; `on_step` gets the tickets that finished."""
    on_step(set())
    started = clock()
    ticket = translator.add(text, search)
    while True:
        finished = {done for done, _ in translator.step()}
        if ticket in finished:
            seconds = clock() - started
            on_step(finished)
            return seconds
        on_step(finished)


def of_words(sentences: Sequence[str], num_words: int) -> list[str]:
    """Returns requests of exactly `num_words` words: parts of sentences, or several joined.

    The punctuation at the end of each sentence is removed, so that a request stays one segment if
    the checkpoint's limit allows. In scripts without spaces two characters count as a word.
    """
    words = [sentence.rstrip(_SENTENCE_ENDS).split() for sentence in sentences]
    space = " "
    if sum(map(len, words)) < 2 * len(words):
        space = ""
        words = [["".join(pair) for pair in _pairs("".join(sentence))] for sentence in words]
    requests: list[str] = []
    taken: list[str] = []
    # Each sentence is used once: a long request takes several, a short one the start of one.
    for sentence in words:
        taken += sentence
        if len(taken) >= num_words:
            requests.append(space.join(taken[:num_words]))
            taken = []
    if not requests:  # too few words in all: repeat them
        every = itertools.cycle(itertools.chain.from_iterable(words))
        requests.append(space.join(itertools.islice(every, num_words)))
    return requests


def _pairs(characters: str) -> list[str]:
    return [characters[start : start + 2] for start in range(0, len(characters), 2)]
