"""Parts of the demo corpus' sentences: times, dates, prices and amounts, in both languages."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from tests.demo_corpus.words import (
    ADJECTIVES,
    MEASURES,
    MONTHS,
    NUMBERS,
    THINGS,
    WEEKDAYS,
    Person,
    Word,
    english,
    german,
)

T = TypeVar("T")

# Forms of the helping verbs, by person of the subject.
HAVE: dict[Person, str] = {"first": "habe", "third": "hat", "plural": "haben"}
WILL: dict[Person, str] = {"first": "werde", "third": "wird", "plural": "werden"}


class Choose(Protocol):
    """Returns one of several options: a random one in the generator, a given one in tests."""

    def __call__(self, options: Sequence[T], /) -> T: ...


@dataclass(frozen=True)
class Sentence:
    """An English and a German sentence, and the combinations of words that may be held out."""

    en: str
    de: str
    combinations: tuple[tuple[str, str], ...]


def sentence(en: str, de: str, *combinations: tuple[str, str]) -> Sentence:
    """Returns the pair with a capital letter at the start of each sentence."""
    return Sentence(en[0].upper() + en[1:], de[0].upper() + de[1:], combinations)


def two_of(choose: Choose, options: Sequence[T]) -> tuple[T, T]:
    """Chooses two different options."""
    first = choose(options)
    return first, choose([option for option in options if option != first])


def clock_time(choose: Choose, hours: Sequence[int] = range(6, 23)) -> Word:
    """Returns a time such as 7:30 pm / 19:30 Uhr; `hours` are those of a 24-hour clock."""
    hour, minute = choose(hours), choose(("00", "15", "30", "45"))
    half = "am" if hour < 12 else "pm"
    return Word(f"{(hour - 1) % 12 + 1}:{minute} {half}", f"{hour}:{minute} Uhr")


def month_day(choose: Choose) -> tuple[Word, tuple[str, str]]:
    """Returns a date such as May 3 / 3. Mai, without a preposition, and its combination."""
    month, day = choose(MONTHS), choose(range(1, 29))
    return Word(f"{month.en} {day}", f"{day}. {month.de}"), (month.en, str(day))


def on_weekday(choose: Choose) -> Word:
    """Returns a phrase such as on Monday / am Montag."""
    day = choose(WEEKDAYS)
    return Word(f"on {day.en}", f"am {day.de}")


def price_tag(choose: Choose) -> Word:
    """Returns a price such as 4.50 euros / 4,50 Euro."""
    euros, cents = choose(range(2, 20)), choose(("20", "50", "95"))
    return Word(f"{euros}.{cents} euros", f"{euros},{cents} Euro")


@dataclass(frozen=True)
class Amount:
    """An amount of food in the accusative: einen Liter Milch, zwei Kilo Reis."""

    words: Word
    content: Word
    plural: bool
    combination: tuple[str, str]


def amount_of_food(choose: Choose, *, other_than: Word | None = None) -> Amount:
    """Returns an amount of something to eat or drink that is not `other_than`."""
    measure, contents = choose(MEASURES)
    content = choose([content for content in contents if content != other_than])
    number = choose((Word("a", "ein"), *NUMBERS[:5]))
    plural = number.en != "a"
    en = f"{number.en} {measure.en_plural}" if plural else english("a", measure)
    de = f"{number.de} {measure.de_plural}" if plural else german("ein", measure, "acc")
    words = Word(f"{en} of {content.en}", f"{de} {content.de}")
    return Amount(words, content, plural, (measure.en, content.en))


def thing_acted_on(choose: Choose) -> tuple[Word, tuple[str, str]]:
    """Returns an object such as two red coats, in the accusative, and (adjective, thing)."""
    several = NUMBERS[:4]
    determiner = choose((Word("the", "der"), Word("a", "ein"), *several))
    adjective, noun = choose(ADJECTIVES), choose(THINGS)
    if determiner in several:
        en = f"{determiner.en} {adjective.en} {noun.en_plural}"
        de = f"{determiner.de} {adjective.de}e {noun.de_plural}"
    else:
        en = english(determiner.en, noun, adjective)
        de = german(determiner.de, noun, "acc", adjective)
    return Word(en, de), (adjective.en, noun.en)
