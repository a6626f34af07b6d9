"""Generates the demo corpus, English-German sentence pairs from a small grammar.

    python -m tests.demo_corpus.generator     # writes training/demo/corpus.tsv.bz2

The sentences are dates, times, prices, quantities, directions, requests and plain statements, with
German gender, case, plural and word order. Every English sentence has exactly one German one
("you" is always "Sie"). town.py and people.py make the sentences, phrases.py the parts of them;
words.py has the words.
"""

import bz2
import random
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from tests.demo_corpus import people, town
from tests.demo_corpus.phrases import Choose, Sentence
from training.demo.corpus import DEV_SIZE, PACKED, TEST_SIZE, DemoCorpus, Pair

T = TypeVar("T")

TRAIN_SIZE = 30_000
HELD_OUT_PERCENT = 8  # of all combinations of two words
SEED = 1

FAMILIES: tuple[Callable[[Choose], Sentence], ...] = (
    town.timetable,
    town.timetable_question,
    town.opening_hours,
    town.directions,
    town.street,
    town.location,
    town.way_question,
    town.nearby,
    town.journey,
    town.weather,
    people.event,
    people.birthday,
    people.price,
    people.price_question,
    people.order,
    people.groceries,
    people.past,
    people.future,
    people.question,
    people.possession,
    people.need_not,
    people.table,
    people.room,
    people.request,
    people.introduction,
    people.origin,
    people.opinion,
    people.reason,
)


def held_out(combination: tuple[str, str]) -> bool:
    """Says whether no training sentence may contain both words of the combination."""
    key = f"{SEED} {' + '.join(combination)}"
    return zlib.crc32(key.encode()) % 100 < HELD_OUT_PERCENT


def words(text: str) -> set[str]:
    """Returns the words of a sentence without the punctuation around them."""
    return {word.strip(",.?") for word in text.split()}


def generate() -> DemoCorpus:
    """Returns the whole corpus, the same on every machine and with every Python version."""
    # Of the random module only random() promises the same numbers in every Python version.
    rng = random.Random(SEED)

    def choose(options: Sequence[T], /) -> T:
        return options[int(rng.random() * len(options))]

    train: dict[str, str] = {}
    held: dict[str, str] = {}
    while len(train) < TRAIN_SIZE:
        pair = choose(FAMILIES)(choose)
        is_held = any(held_out(combination) for combination in pair.combinations)
        german = (held if is_held else train).setdefault(pair.en, pair.de)
        assert german == pair.de, f"{pair.en} has two translations"
    dev, test = _held_out_pairs(train, held)
    return DemoCorpus(list(train.items()), dev, test)


def _held_out_pairs(train: dict[str, str], held: dict[str, str]) -> tuple[list[Pair], list[Pair]]:
    """Returns dev and test: pairs of known words none of whose sentences is repeated."""
    known_en, known_de = _vocabulary(train), _vocabulary(train.values())
    # One German sentence can stand for two English ones ("her sister", "their sister").
    seen_de = set(train.values())
    chosen: list[Pair] = []
    for en, de in held.items():
        if de not in seen_de and words(en) <= known_en and words(de) <= known_de:
            seen_de.add(de)
            chosen.append((en, de))
    assert len(chosen) >= DEV_SIZE + TEST_SIZE
    return chosen[:DEV_SIZE], chosen[DEV_SIZE : DEV_SIZE + TEST_SIZE]


def _vocabulary(sentences: Iterable[str]) -> set[str]:
    return set().union(*(words(sentence) for sentence in sentences))


def main() -> None:
    """Writes the packed corpus that `dragoman demo` reads."""
    corpus = generate()
    pairs = corpus.train + corpus.dev + corpus.test
    text = "".join(f"{en}\t{de}\n" for en, de in pairs)
    PACKED.write_bytes(bz2.compress(text.encode("utf-8")))


if __name__ == "__main__":
    main()
