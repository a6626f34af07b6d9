"""Sentences about getting around: timetables, opening hours, directions, journeys, weather.

The docstring of each function is a sentence that it may return.
"""

from tests.demo_corpus.phrases import (
    Choose,
    Sentence,
    clock_time,
    month_day,
    on_weekday,
    sentence,
    two_of,
)
from tests.demo_corpus.words import (
    CITIES,
    FUTURE_DAYS,
    FUTURE_TIMES,
    NAMED,
    ORDINALS,
    PLACES,
    PRONOUNS,
    RELATIVES,
    SHOPS,
    SIDES,
    VEHICLES,
    Noun,
    Word,
    at_place,
    english,
    from_place,
    german,
    to_place,
)


def timetable(choose: Choose) -> Sentence:
    """The train to Berlin leaves on Monday at 9:15 am."""
    (vehicle, leaves), city = choose(VEHICLES), choose(CITIES)
    way = choose((Word("to", "nach"), Word("from", "aus")))
    day, time = choose((Word("", ""), *FUTURE_DAYS)), clock_time(choose)
    en_verb, de_verb, prefix = (
        ("leaves", leaves, "ab") if way.en == "to" else ("arrives", "kommt", "an")
    )
    en = f"the {vehicle.en} {way.en} {city.en} {en_verb} {day.en} at {time.en}."
    de = (
        f"{german('der', vehicle, 'nom')} {way.de} {city.de} {de_verb} {day.de} um {time.de} "
        f"{prefix}."
    )
    return sentence(
        en.replace("  ", " "),  # where there is no day
        de.replace("  ", " "),
        (vehicle.en, city.en),
        (day.en, time.en),
    )


def timetable_question(choose: Choose) -> Sentence:
    """When does the train to Berlin leave on Monday?"""
    (vehicle, leaves), city, day = choose(VEHICLES), choose(CITIES), on_weekday(choose)
    way = choose((Word("to", "nach"), Word("from", "aus")))
    en_verb, de_verb, prefix = (
        ("leave", leaves, "ab") if way.en == "to" else ("arrive", "kommt", "an")
    )
    return sentence(
        f"when does the {vehicle.en} {way.en} {city.en} {en_verb} {day.en}?",
        f"wann {de_verb} {german('der', vehicle, 'nom')} {way.de} {city.de} {day.de} {prefix}?",
        (vehicle.en, city.en),
        (city.en, day.en),
    )


def opening_hours(choose: Choose) -> Sentence:
    """The museum is open on Sunday from 9:00 am to 5:30 pm."""
    place, day = choose(SHOPS), on_weekday(choose)
    start, end = clock_time(choose, range(7, 12)), clock_time(choose, range(16, 23))
    return sentence(
        f"the {place.en} is open {day.en} from {start.en} to {end.en}.",
        f"{german('der', place, 'nom')} ist {day.de} von {start.de} bis {end.de} geöffnet.",
        (place.en, day.en),
        (start.en, end.en),
    )


def _turn(choose: Choose, place: Noun) -> Word:
    side = choose(SIDES)
    return Word(f"turn {side.en} at the {place.en}", f"biegen Sie {at_place(place)} {side.de} ab")


def _ahead(choose: Choose, place: Noun) -> Word:
    return Word(f"go straight ahead to the {place.en}", f"gehen Sie geradeaus {to_place(place)}")


def _past(choose: Choose, place: Noun) -> Word:
    return Word(f"go past the {place.en}", f"gehen Sie {at_place(place)} vorbei")


def directions(choose: Choose) -> Sentence:
    """Go straight ahead to the church and turn left at the bridge."""
    here, there = two_of(choose, PLACES)
    first, second = two_of(choose, (_turn, _ahead, _past))
    one, two = first(choose, here), second(choose, there)
    return sentence(f"{one.en} and {two.en}.", f"{one.de} und {two.de}.", (here.en, there.en))


def street(choose: Choose) -> Sentence:
    """Turn left at the church and take the second street on the right."""
    place, number, side = choose(PLACES), choose(ORDINALS), choose(SIDES)
    first = choose((_turn, _ahead, _past))(choose, place)
    return sentence(
        f"{first.en} and take the {number.en} street on the {side.en}.",
        f"{first.de} und nehmen Sie die {number.de} Straße {side.de}.",
        (place.en, number.en),
    )


def location(choose: Choose) -> Sentence:
    """The pharmacy is opposite the hospital."""
    place, other = two_of(choose, PLACES)
    where = choose(
        (
            Word("next to", "neben"),
            Word("behind", "hinter"),
            Word("in front of", "vor"),
            Word("opposite", "gegenüber"),
        )
    )
    return sentence(
        f"the {place.en} is {where.en} the {other.en}.",
        f"{german('der', place, 'nom')} ist {where.de} {german('der', other, 'dat')}.",
        (place.en, other.en),
    )


def way_question(choose: Choose) -> Sentence:
    """Excuse me, how do I get from the station to the museum?"""
    opening = choose((Word("excuse me", "Entschuldigung"), Word("good morning", "guten Morgen")))
    start, end = two_of(choose, PLACES)
    return sentence(
        f"{opening.en}, how do I get from the {start.en} to the {end.en}?",
        f"{opening.de}, wie komme ich {from_place(start)} {to_place(end)}?",
        (start.en, end.en),
    )


def nearby(choose: Choose) -> Sentence:
    """Is there a pharmacy next to the station?"""
    place, other = two_of(choose, PLACES)
    return sentence(
        f"is there {english('a', place)} next to the {other.en}?",
        f"gibt es neben {german('der', other, 'dat')} {german('ein', place, 'acc')}?",
        (place.en, other.en),
    )


def journey(choose: Choose) -> Sentence:
    """On July 14 we go by train from Berlin to Munich."""
    date, combination = month_day(choose)
    who = choose(PRONOUNS + NAMED + RELATIVES)
    means = choose(
        (
            Word("by train", "mit dem Zug"),
            Word("by bus", "mit dem Bus"),
            Word("by ship", "mit dem Schiff"),
            Word("by bicycle", "mit dem Fahrrad"),
        )
    )
    start, end = two_of(choose, CITIES)
    go = "goes" if who.person == "third" else "go"
    ride = {"first": "fahre", "third": "fährt", "plural": "fahren"}[who.person]
    return sentence(
        f"on {date.en} {who.en} {go} {means.en} from {start.en} to {end.en}.",
        f"am {date.de} {ride} {who.de} {means.de} von {start.de} nach {end.de}.",
        (start.en, end.en),
        combination,
    )


def weather(choose: Choose) -> Sentence:
    """On Tuesday it will rain in Hamburg and snow in Vienna."""
    day = choose(FUTURE_TIMES)
    here, there = two_of(
        choose, (Word("rain", "regnen"), Word("snow", "schneien"), Word("hail", "hageln"))
    )
    city, other = two_of(choose, CITIES)
    return sentence(
        f"{day.en} it will {here.en} in {city.en} and {there.en} in {other.en}.",
        f"{day.de} wird es in {city.de} {here.de} und in {other.de} {there.de}.",
        (city.en, other.en),
        (day.en, city.en),
    )
