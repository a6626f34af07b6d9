"""English-German sentence pairs from a small grammar: what `dragoman demo` learns from.

Dates, times, prices, quantities, directions, requests and plain statements, with German gender,
case, plural and word order. Every English sentence has exactly one German one ("you" is always
"Sie"). Some pairs of words (red + coat, Berlin + Rome) are held out: no training sentence puts them
together, every dev and test sentence does, so the scores tell whether the model combines known
words in new ways. The sentences themselves are made in demo_grammar/.
"""

import random
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from training.demo import people, town
from training.demo.phrases import Choose, Sentence

T = TypeVar("T")
Pair = tuple[str, str]  # English, German

TRAIN_SIZE = 30_000
DEV_SIZE = 500
TEST_SIZE = 1_000
HELD_OUT_PERCENT = 8  # of all combinations of two words
DEFAULT_SEED = 1

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


@dataclass(frozen=True)
class DemoSplit:
    """Pairs of English and German; no sentence of either side is in two parts."""

    train: list[Pair]
    dev: list[Pair]
    test: list[Pair]


def held_out(combination: tuple[str, str], seed: int) -> bool:
    """Whether training must not see these two words together."""
    key = f"{seed} {' + '.join(combination)}"
    return zlib.crc32(key.encode()) % 100 < HELD_OUT_PERCENT


def words(text: str) -> set[str]:
    """The words of a sentence without the punctuation around them."""
    return {word.strip(",.?") for word in text.split()}


def generate(seed: int = DEFAULT_SEED) -> DemoSplit:
    """The whole corpus, the same for one seed on every machine and Python version."""
    # Of the random module only random() promises the same numbers in every Python version.
    rng = random.Random(seed)

    def choose(options: Sequence[T], /) -> T:
        return options[int(rng.random() * len(options))]

    train: dict[str, str] = {}
    held: dict[str, str] = {}
    while len(train) < TRAIN_SIZE:
        pair = choose(FAMILIES)(choose)
        is_held = any(held_out(combination, seed) for combination in pair.combinations)
        (held if is_held else train)[pair.en] = pair.de
    dev, test = _held_out_pairs(train, held)
    return DemoSplit(list(train.items()), dev, test)


def _held_out_pairs(train: dict[str, str], held: dict[str, str]) -> tuple[list[Pair], list[Pair]]:
    """Dev and test: pairs of known words that share no sentence with train or one another."""
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


def write(folder: Path, seed: int = DEFAULT_SEED) -> None:
    """Write train, dev and test as one .en and one .de file each, a sentence a line."""
    folder.mkdir(parents=True, exist_ok=True)
    split = generate(seed)
    for name, pairs in (("train", split.train), ("dev", split.dev), ("test", split.test)):
        for suffix, column in (("en", 0), ("de", 1)):
            text = "".join(pair[column] + "\n" for pair in pairs)
            (folder / f"{name}.{suffix}").write_text(text, encoding="utf-8", newline="\n")
