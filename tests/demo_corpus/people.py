"""Sentences about people: meetings, shopping, possessions, needs, plans and opinions.

The docstring of each function is a sentence that it may return.
"""

from tests.demo_corpus.phrases import (
    HAVE,
    WILL,
    Choose,
    Sentence,
    amount_of_food,
    clock_time,
    month_day,
    price_tag,
    sentence,
    thing_acted_on,
    two_of,
)
from tests.demo_corpus.words import (
    ADJECTIVES,
    ANIMALS,
    CITIES,
    COUNTRIES,
    EVENTS,
    FAULTS,
    FUTURE_DAYS,
    FUTURE_TIMES,
    GIVING,
    JOBS,
    NAMED,
    NUMBERS,
    OPINIONS,
    PAST_TIMES,
    PRONOUNS,
    REASONS,
    RELATIVES,
    TABLEWARE,
    THINGS,
    VERBS,
    WEEKDAYS,
    WOMEN,
    YOU,
    Word,
    english,
    german,
)

_ANYONE = PRONOUNS + NAMED + RELATIVES


def event(choose: Choose) -> Sentence:
    """The meeting is on Friday, May 3, at 10:30 am."""
    what, weekday = choose(EVENTS), choose(WEEKDAYS)
    (date, combination), time = month_day(choose), clock_time(choose)
    return sentence(
        f"the {what.en} is on {weekday.en}, {date.en}, at {time.en}.",
        f"{german('der', what, 'nom')} ist am {weekday.de}, dem {date.de}, um {time.de}.",
        combination,
        (what.en, weekday.en),
    )


def birthday(choose: Choose) -> Sentence:
    """Anna's birthday is on May 3."""
    who, (date, combination) = choose(NAMED), month_day(choose)
    return sentence(
        f"{who.en}'s birthday is on {date.en}.",
        f"{who.de}s Geburtstag ist am {date.de}.",
        combination,
    )


def price(choose: Choose) -> Sentence:
    """The blue shirt costs 14.50 euros."""
    adjective, noun, amount = choose(ADJECTIVES), choose(THINGS), price_tag(choose)
    return sentence(
        f"{english('the', noun, adjective)} costs {amount.en}.",
        f"{german('der', noun, 'nom', adjective)} kostet {amount.de}.",
        (adjective.en, noun.en),
        (noun.en, amount.en),
    )


def price_question(choose: Choose) -> Sentence:
    """How much do three blue shirts cost?"""
    number = choose((Word("the", "der"), *NUMBERS))
    adjective, noun = choose(ADJECTIVES), choose(THINGS)
    if number.en == "the":
        en = f"does {english('the', noun, adjective)}"
        de = f"kostet {german('der', noun, 'nom', adjective)}"
    else:
        en = f"do {number.en} {adjective.en} {noun.en_plural}"
        de = f"kosten {number.de} {adjective.de}e {noun.de_plural}"
    return sentence(f"how much {en} cost?", f"wie viel {de}?", (adjective.en, noun.en))


def order(choose: Choose) -> Sentence:
    """I would like two cups of coffee and a bottle of water, please."""
    who = choose((Word("I", "ich möchte"), Word("we", "wir möchten")))
    one = amount_of_food(choose)
    two = amount_of_food(choose, other_than=one.content)
    return sentence(
        f"{who.en} would like {one.words.en} and {two.words.en}, please.",
        f"{who.de} bitte {one.words.de} und {two.words.de}.",
        one.combination,
        two.combination,
        (one.content.en, two.content.en),
    )


def groceries(choose: Choose) -> Sentence:
    """Do you have three bottles of milk for 4.50 euros?"""
    what, amount = amount_of_food(choose), price_tag(choose)
    return sentence(
        f"do you have {what.words.en} for {amount.en}?",
        f"haben Sie {what.words.de} für {amount.de}?",
        what.combination,
        (what.content.en, amount.en),
    )


def past(choose: Choose) -> Sentence:
    """Yesterday my sister sold the old car."""
    fronted = choose((True, False))
    who, verb = choose(_ANYONE), choose(VERBS)
    (what, combination), time = thing_acted_on(choose), choose(PAST_TIMES)
    have, rest = HAVE[who.person], f"{what.de} {verb.de_participle}."
    if fronted:
        en = f"{time.en} {who.en} {verb.en_past} {what.en}."
        de = f"{time.de} {have} {who.de} {rest}"
    else:
        en = f"{who.en} {verb.en_past} {what.en} {time.en}."
        de = f"{who.de} {have} {time.de} {rest}"
    return sentence(en, de, combination, (verb.en, combination[1]))


def future(choose: Choose) -> Sentence:
    """Tomorrow my brother will buy a new bicycle."""
    fronted = choose((True, False))
    who, verb = choose(_ANYONE), choose(VERBS)
    (what, combination), time = thing_acted_on(choose), choose(FUTURE_TIMES)
    will, rest = WILL[who.person], f"{what.de} {verb.de}."
    if fronted:
        en = f"{time.en} {who.en} will {verb.en} {what.en}."
        de = f"{time.de} {will} {who.de} {rest}"
    else:
        en = f"{who.en} will {verb.en} {what.en} {time.en}."
        de = f"{who.de} {will} {time.de} {rest}"
    return sentence(en, de, combination, (verb.en, combination[1]))


def question(choose: Choose) -> Sentence:
    """Does Anna need a new suitcase?"""
    who, verb = choose((YOU, *PRONOUNS, *NAMED)), choose(VERBS)
    what, combination = thing_acted_on(choose)
    does = "does" if who.person == "third" else "do"
    return sentence(
        f"{does} {who.en} {verb.en} {what.en}?",
        f"{verb.german(who.person)} {who.de} {what.de}?",
        combination,
        (who.en, verb.en),
    )


def possession(choose: Choose) -> Sentence:
    """My brother has two white rabbits but no dog."""
    who, number, adjective = choose(_ANYONE), choose(NUMBERS), choose(ADJECTIVES)
    animal, other = two_of(choose, ANIMALS)
    has = "has" if who.person == "third" else "have"
    return sentence(
        f"{who.en} {has} {number.en} {adjective.en} {animal.en_plural} but no {other.en}.",
        f"{who.de} {HAVE[who.person]} {number.de} {adjective.de}e {animal.de_plural}, aber "
        f"{german('kein', other, 'acc')}.",
        (adjective.en, animal.en),
        (animal.en, other.en),
    )


def need_not(choose: Choose) -> Sentence:
    """Our uncle does not need a new camera."""
    who, adjective, noun = choose(_ANYONE), choose(ADJECTIVES), choose(THINGS)
    does = "does" if who.person == "third" else "do"
    needs = {"first": "brauche", "third": "braucht", "plural": "brauchen"}[who.person]
    return sentence(
        f"{who.en} {does} not need {english('a', noun, adjective)}.",
        f"{who.de} {needs} {german('kein', noun, 'acc', adjective)}.",
        (adjective.en, noun.en),
        (who.en, noun.en),
    )


def table(choose: Choose) -> Sentence:
    """Do you have a table for four people on Saturday at 7:30 pm?"""
    number, day, time = choose(NUMBERS), choose(FUTURE_DAYS), clock_time(choose, range(12, 23))
    return sentence(
        f"do you have a table for {number.en} people {day.en} at {time.en}?",
        f"haben Sie {day.de} um {time.de} einen Tisch für {number.de} Personen?",
        (number.en, day.en),
        (day.en, time.en),
    )


def room(choose: Choose) -> Sentence:
    """We need a room for two nights from May 3."""
    who = choose((Word("I need", "ich brauche"), Word("we need", "wir brauchen")))
    number, (date, combination) = choose(NUMBERS), month_day(choose)
    return sentence(
        f"{who.en} a room for {number.en} nights from {date.en}.",
        f"{who.de} ab dem {date.de} ein Zimmer für {number.de} Nächte.",
        combination,
    )


def request(choose: Choose) -> Sentence:
    """Could you please bring us the wine list and a towel?"""
    giving = choose(GIVING)
    to = choose((Word("me", "mir"), Word("us", "uns"), Word("him", "ihm"), Word("them", "ihnen")))
    articles = (Word("the", "der"), Word("a", "ein"))
    one, two = choose(articles), choose(articles)
    first, second = two_of(choose, TABLEWARE)
    return sentence(
        f"could you please {giving.en} {to.en} {english(one.en, first)} and "
        f"{english(two.en, second)}?",
        f"könnten Sie {to.de} bitte {german(one.de, first, 'acc')} und "
        f"{german(two.de, second, 'acc')} {giving.de}?",
        (first.en, second.en),
        (giving.en, first.en),
    )


def introduction(choose: Choose) -> Sentence:
    """Maria is 34 years old and works as a teacher in Vienna."""
    who, age, job, city = choose(NAMED), choose(range(20, 60)), choose(JOBS), choose(CITIES)
    title = job.de + ("in" if who in WOMEN else "")
    return sentence(
        f"{who.en} is {age} years old and works as {english('a', job)} in {city.en}.",
        f"{who.de} ist {age} Jahre alt und arbeitet als {title} in {city.de}.",
        (who.en, job.en),
        (job.en, city.en),
    )


def origin(choose: Choose) -> Sentence:
    """My name is Anna and I come from Austria but live in Rome."""
    who, country, city = choose(NAMED), choose(COUNTRIES), choose(CITIES)
    return sentence(
        f"my name is {who.en} and I come from {country.en} but live in {city.en}.",
        f"ich heiße {who.de} und komme aus {country.de}, wohne aber in {city.de}.",
        (who.en, country.en),
        (country.en, city.en),
    )


def opinion(choose: Choose) -> Sentence:
    """Peter says that the brown suitcase is too heavy."""
    who, verb = choose(PRONOUNS + NAMED), choose(OPINIONS)
    adjective, noun, fault = choose(ADJECTIVES), choose(THINGS), choose(FAULTS)
    says = verb.en_third if who.person == "third" else verb.en
    return sentence(
        f"{who.en} {says} that {english('the', noun, adjective)} is {fault.en}.",
        f"{who.de} {verb.german(who.person)}, dass {german('der', noun, 'nom', adjective)} "
        f"{fault.de} ist.",
        (adjective.en, noun.en),
        (noun.en, fault.en),
    )


def reason(choose: Choose) -> Sentence:
    """My brother cannot come on Friday because he has to work."""
    who, day, why = choose(_ANYONE), choose(FUTURE_TIMES), choose(REASONS)
    can = "können" if who.person == "plural" else "kann"
    en, de = why.clause(who)
    return sentence(
        f"{who.en} cannot come {day.en} because {en}.",
        f"{who.de} {can} {day.de} nicht kommen, weil {de}.",
        (day.en, why.en),
        (who.en, day.en),
    )
