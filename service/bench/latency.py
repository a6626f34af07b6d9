"""One request at a time: alone, and short ones while long ones run beside them."""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from model.decoding.search_config import SearchConfig
from service.bench.open_loop import DrivenTranslator, LatencySummary

SHORT_WORDS, LONG_WORDS = 6, 60
NUM_LONG = 8  # long ones under way at any time
_SENTENCE_ENDS = ".!?…。！？"


@dataclass(frozen=True)
class ShortBesideLong:
    """Latency of short requests, one after another."""

    short_words: int
    long_words: int
    num_long: int  # under way all the time while `beside` was measured
    alone: LatencySummary
    beside: LatencySummary


def one_by_one(
    translator: DrivenTranslator,
    texts: Sequence[str],
    search: SearchConfig,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> LatencySummary:
    """Every text once, each after the answer to the one before."""
    return LatencySummary.of(
        [
            _answer_one(translator, text, search, company=lambda finished: None, clock=clock)
            for text in texts
        ]
    )


def short_beside_long(
    translator: DrivenTranslator,
    sentences: Sequence[str],
    search: SearchConfig,
    seconds: float,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> ShortBesideLong:
    """Half of the time short requests run by themselves, half of it beside long ones."""

    def measure(long: Sequence[str], num_long: int) -> LatencySummary:
        short = itertools.cycle(of_words(sentences, SHORT_WORDS))
        endless = itertools.cycle(long)
        under_way: set[int] = set()

        def fill(finished: set[int]) -> None:
            under_way.difference_update(finished)
            while len(under_way) < num_long:
                under_way.add(translator.add(next(endless), search))

        latencies: list[float] = []
        end = clock() + seconds / 2
        while not latencies or clock() < end:
            latencies.append(
                _answer_one(translator, next(short), search, company=fill, clock=clock)
            )
        for ticket in under_way:
            translator.cancel(ticket)
        return LatencySummary.of(latencies)

    long = of_words(sentences, LONG_WORDS)
    return ShortBesideLong(
        SHORT_WORDS, LONG_WORDS, NUM_LONG, measure(long, 0), measure(long, NUM_LONG)
    )


def _answer_one(
    translator: DrivenTranslator,
    text: str,
    search: SearchConfig,
    *,
    company: Callable[[set[int]], None],
    clock: Callable[[], float],
) -> float:
    """Seconds until `text` is answered; `company` hears of everything else that finished."""
    company(set())
    started = clock()
    ticket = translator.add(text, search)
    while True:
        finished = {done for done, _ in translator.step()}
        if ticket in finished:
            seconds = clock() - started
            company(finished)
            return seconds
        company(finished)


def of_words(sentences: Sequence[str], num_words: int) -> list[str]:
    """Requests of exactly so many words: beginnings of sentences, or several put together.

    Ends of sentences are taken out, so that one request stays one segment if the checkpoint's limit
    allows. Where words are not set apart by spaces, two characters count as a word.
    """
    words = [sentence.rstrip(_SENTENCE_ENDS).split() for sentence in sentences]
    space = " "
    if sum(map(len, words)) < 2 * len(words):
        space = ""
        words = [["".join(pair) for pair in _pairs("".join(sentence))] for sentence in words]
    requests: list[str] = []
    taken: list[str] = []
    # At most once round: a long request takes several sentences, a short one the start of each.
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
