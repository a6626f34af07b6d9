"""The grammar writes correct German, and the packed corpus is its output."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest

from tests.demo_corpus import people, town
from tests.demo_corpus.generator import FAMILIES, generate, held_out
from tests.demo_corpus.phrases import Choose, Sentence
from tests.demo_corpus.words import ADJECTIVES, THINGS, Word, english, german
from training.demo.corpus import read_corpus

T = TypeVar("T")


class Script:
    """Chooses the options with the given names, in order: English words, numbers, True or False."""

    def __init__(self, *wanted: object) -> None:
        self.wanted = list(wanted)

    def __call__(self, options: Sequence[T], /) -> T:
        name = self.wanted.pop(0)
        matching = [option for option in options if name == _name(option)]
        assert len(matching) == 1, f"{name} is {len(matching)} of {[_name(o) for o in options]}"
        return matching[0]


def _name(option: object) -> object:
    if isinstance(option, tuple):
        option = option[0]
    if callable(option):
        return getattr(option, "__name__", "").strip("_")
    return getattr(option, "en", option)


# Written by hand, not copied from what the grammar printed.
EXPECTED: list[tuple[Callable[[Choose], Sentence], tuple[object, ...], str, str]] = [
    (
        town.timetable,
        ("train", "Munich", "to", "on Friday", 19, "45"),
        "The train to Munich leaves on Friday at 7:45 pm.",
        "Der Zug nach München fährt am Freitag um 19:45 Uhr ab.",
    ),
    (
        town.timetable,
        ("plane", "Rome", "from", "", 12, "00"),
        "The plane from Rome arrives at 12:00 pm.",
        "Das Flugzeug aus Rom kommt um 12:00 Uhr an.",
    ),
    (
        town.timetable,
        ("plane", "Rome", "to", "tomorrow", 9, "15"),
        "The plane to Rome leaves tomorrow at 9:15 am.",
        "Das Flugzeug nach Rom fliegt morgen um 9:15 Uhr ab.",
    ),
    (
        town.timetable_question,
        ("bus", "Vienna", "Sunday", "to"),
        "When does the bus to Vienna leave on Sunday?",
        "Wann fährt der Bus nach Wien am Sonntag ab?",
    ),
    (
        town.timetable_question,
        ("ship", "Lisbon", "Monday", "from"),
        "When does the ship from Lisbon arrive on Monday?",
        "Wann kommt das Schiff aus Lissabon am Montag an?",
    ),
    (
        town.opening_hours,
        ("pharmacy", "Saturday", 8, "30", 17, "00"),
        "The pharmacy is open on Saturday from 8:30 am to 5:00 pm.",
        "Die Apotheke ist am Samstag von 8:30 Uhr bis 17:00 Uhr geöffnet.",
    ),
    (
        town.directions,
        ("church", "station", "turn", "ahead", "left"),
        "Turn left at the church and go straight ahead to the station.",
        "Biegen Sie an der Kirche links ab und gehen Sie geradeaus zum Bahnhof.",
    ),
    (
        town.directions,
        ("museum", "bridge", "past", "turn", "right"),
        "Go past the museum and turn right at the bridge.",
        "Gehen Sie am Museum vorbei und biegen Sie an der Brücke rechts ab.",
    ),
    (
        town.street,
        ("post office", "third", "left", "ahead"),
        "Go straight ahead to the post office and take the third street on the left.",
        "Gehen Sie geradeaus zur Post und nehmen Sie die dritte Straße links.",
    ),
    (
        town.location,
        ("bakery", "town hall", "opposite"),
        "The bakery is opposite the town hall.",
        "Die Bäckerei ist gegenüber dem Rathaus.",
    ),
    (
        town.location,
        ("park", "school", "behind"),
        "The park is behind the school.",
        "Der Park ist hinter der Schule.",
    ),
    (
        town.way_question,
        ("excuse me", "station", "library"),
        "Excuse me, how do I get from the station to the library?",
        "Entschuldigung, wie komme ich vom Bahnhof zur Bibliothek?",
    ),
    (
        town.way_question,
        ("good morning", "pharmacy", "hotel"),
        "Good morning, how do I get from the pharmacy to the hotel?",
        "Guten Morgen, wie komme ich von der Apotheke zum Hotel?",
    ),
    (
        town.nearby,
        ("supermarket", "church"),
        "Is there a supermarket next to the church?",
        "Gibt es neben der Kirche einen Supermarkt?",
    ),
    (
        town.nearby,
        ("airport", "museum"),
        "Is there an airport next to the museum?",
        "Gibt es neben dem Museum einen Flughafen?",
    ),
    (
        town.journey,
        ("July", 14, "we", "by train", "Berlin", "Munich"),
        "On July 14 we go by train from Berlin to Munich.",
        "Am 14. Juli fahren wir mit dem Zug von Berlin nach München.",
    ),
    (
        town.journey,
        ("March", 1, "her brother", "by ship", "Cologne", "London"),
        "On March 1 her brother goes by ship from Cologne to London.",
        "Am 1. März fährt ihr Bruder mit dem Schiff von Köln nach London.",
    ),
    (
        town.weather,
        ("the day after tomorrow", "rain", "snow", "Geneva", "Warsaw"),
        "The day after tomorrow it will rain in Geneva and snow in Warsaw.",
        "Übermorgen wird es in Genf regnen und in Warschau schneien.",
    ),
    (
        people.event,
        ("meeting", "Friday", "May", 3, 10, "30"),
        "The meeting is on Friday, May 3, at 10:30 am.",
        "Die Besprechung ist am Freitag, dem 3. Mai, um 10:30 Uhr.",
    ),
    (
        people.birthday,
        ("Anna", "October", 21),
        "Anna's birthday is on October 21.",
        "Annas Geburtstag ist am 21. Oktober.",
    ),
    (
        people.price,
        ("blue", "shirt", 14, "50"),
        "The blue shirt costs 14.50 euros.",
        "Das blaue Hemd kostet 14,50 Euro.",
    ),
    (
        people.price_question,
        ("the", "old", "carpet"),
        "How much does the old carpet cost?",
        "Wie viel kostet der alte Teppich?",
    ),
    (
        people.price_question,
        ("seven", "white", "chair"),
        "How much do seven white chairs cost?",
        "Wie viel kosten sieben weiße Stühle?",
    ),
    (
        people.order,
        ("I", "cup", "coffee", "two", "bottle", "water", "a"),
        "I would like two cups of coffee and a bottle of water, please.",
        "Ich möchte bitte zwei Tassen Kaffee und eine Flasche Wasser.",
    ),
    (
        people.order,
        ("we", "litre", "milk", "a", "kilo", "potatoes", "three"),
        "We would like a litre of milk and three kilos of potatoes, please.",
        "Wir möchten bitte einen Liter Milch und drei Kilo Kartoffeln.",
    ),
    (
        people.groceries,
        ("kilo", "cheese", "a", 9, "95"),
        "Do you have a kilo of cheese for 9.95 euros?",
        "Haben Sie ein Kilo Käse für 9,95 Euro?",
    ),
    (
        people.past,
        (True, "my sister", "sell", "the", "old", "car", "last week"),
        "Last week my sister sold the old car.",
        "Letzte Woche hat meine Schwester das alte Auto verkauft.",
    ),
    (
        people.past,
        (False, "I", "look for", "a", "green", "hat", "this morning"),
        "I looked for a green hat this morning.",
        "Ich habe heute Morgen einen grünen Hut gesucht.",
    ),
    (
        people.past,
        (False, "they", "lose", "two", "black", "bag", "on Tuesday"),
        "They lost two black bags on Tuesday.",
        "Sie haben am Dienstag zwei schwarze Taschen verloren.",
    ),
    (
        people.future,
        (True, "our uncle", "buy", "a", "beautiful", "picture", "next month"),
        "Next month our uncle will buy a beautiful picture.",
        "Nächsten Monat wird unser Onkel ein schönes Bild kaufen.",
    ),
    (
        people.future,
        (False, "we", "repair", "the", "brown", "lamp", "tonight"),
        "We will repair the brown lamp tonight.",
        "Wir werden heute Abend die braune Lampe reparieren.",
    ),
    (
        people.question,
        ("you", "need", "a", "new", "suitcase"),
        "Do you need a new suitcase?",
        "Brauchen Sie einen neuen Koffer?",
    ),
    (
        people.question,
        ("Anna", "find", "the", "red", "umbrella"),
        "Does Anna find the red umbrella?",
        "Findet Anna den roten Regenschirm?",
    ),
    (
        people.possession,
        ("my brother", "two", "white", "rabbit", "dog"),
        "My brother has two white rabbits but no dog.",
        "Mein Bruder hat zwei weiße Kaninchen, aber keinen Hund.",
    ),
    (
        people.possession,
        ("they", "ten", "old", "cow", "cat"),
        "They have ten old cows but no cat.",
        "Sie haben zehn alte Kühe, aber keine Katze.",
    ),
    (
        people.need_not,
        ("his aunt", "big", "table"),
        "His aunt does not need a big table.",
        "Seine Tante braucht keinen großen Tisch.",
    ),
    (
        people.need_not,
        ("I", "old", "guitar"),
        "I do not need an old guitar.",
        "Ich brauche keine alte Gitarre.",
    ),
    (
        people.table,
        ("four", "on Saturday", 19, "30"),
        "Do you have a table for four people on Saturday at 7:30 pm?",
        "Haben Sie am Samstag um 19:30 Uhr einen Tisch für vier Personen?",
    ),
    (
        people.room,
        ("we need", "two", "December", 24),
        "We need a room for two nights from December 24.",
        "Wir brauchen ab dem 24. Dezember ein Zimmer für zwei Nächte.",
    ),
    (
        people.request,
        ("bring", "us", "the", "a", "wine list", "towel"),
        "Could you please bring us the wine list and a towel?",
        "Könnten Sie uns bitte die Weinkarte und ein Handtuch bringen?",
    ),
    (
        people.request,
        ("send", "him", "a", "the", "timetable", "bill"),
        "Could you please send him a timetable and the bill?",
        "Könnten Sie ihm bitte einen Fahrplan und die Rechnung schicken?",
    ),
    (
        people.introduction,
        ("Maria", 34, "teacher", "Prague"),
        "Maria is 34 years old and works as a teacher in Prague.",
        "Maria ist 34 Jahre alt und arbeitet als Lehrerin in Prag.",
    ),
    (
        people.introduction,
        ("Paul", 51, "engineer", "Brussels"),
        "Paul is 51 years old and works as an engineer in Brussels.",
        "Paul ist 51 Jahre alt und arbeitet als Ingenieur in Brüssel.",
    ),
    (
        people.origin,
        ("Anna", "Austria", "Zurich"),
        "My name is Anna and I come from Austria but live in Zurich.",
        "Ich heiße Anna und komme aus Österreich, wohne aber in Zürich.",
    ),
    (
        people.opinion,
        ("Peter", "say", "brown", "suitcase", "too heavy"),
        "Peter says that the brown suitcase is too heavy.",
        "Peter sagt, dass der braune Koffer zu schwer ist.",
    ),
    (
        people.opinion,
        ("I", "know", "new", "dress", "too expensive"),
        "I know that the new dress is too expensive.",
        "Ich weiß, dass das neue Kleid zu teuer ist.",
    ),
    (
        people.reason,
        ("my brother", "on Friday", "to work"),
        "My brother cannot come on Friday because he has to work.",
        "Mein Bruder kann am Freitag nicht kommen, weil er arbeiten muss.",
    ),
    (
        people.reason,
        ("Laura", "next week", "in Vienna"),
        "Laura cannot come next week because she is in Vienna.",
        "Laura kann nächste Woche nicht kommen, weil sie in Wien ist.",
    ),
    (
        people.reason,
        ("we", "tomorrow", "no time"),
        "We cannot come tomorrow because we have no time.",
        "Wir können morgen nicht kommen, weil wir keine Zeit haben.",
    ),
]


@pytest.mark.parametrize(
    ("family", "choices", "en", "de"), EXPECTED, ids=[case[2] for case in EXPECTED]
)
def test_generated_pairs_are_grammatical(
    family: Callable[[Choose], Sentence], choices: tuple[object, ...], en: str, de: str
) -> None:
    script = Script(*choices)
    pair = family(script)
    assert (pair.en, pair.de) == (en, de)
    assert script.wanted == []


def test_every_family_has_a_hand_written_pair() -> None:
    assert {case[0] for case in EXPECTED} == set(FAMILIES)


def test_articles_and_endings_of_every_gender_and_case() -> None:
    red = next(word for word in ADJECTIVES if word.en == "red")
    coat, lamp, shirt = (
        next(noun for noun in THINGS if noun.en == en) for en in ("coat", "lamp", "shirt")
    )
    assert [
        german(determiner, noun, case, red)
        for determiner in ("der", "kein")
        for noun in (coat, lamp, shirt)
        for case in ("nom", "acc", "dat")
    ] == [
        *("der rote Mantel", "den roten Mantel", "dem roten Mantel"),
        *("die rote Lampe", "die rote Lampe", "der roten Lampe"),
        *("das rote Hemd", "das rote Hemd", "dem roten Hemd"),
        *("kein roter Mantel", "keinen roten Mantel", "keinem roten Mantel"),
        *("keine rote Lampe", "keine rote Lampe", "keiner roten Lampe"),
        *("kein rotes Hemd", "kein rotes Hemd", "keinem roten Hemd"),
    ]
    assert english("a", coat, Word("old", "alt")) == "an old coat"


def test_the_packed_file_is_what_the_grammar_generates() -> None:
    assert generate() == read_corpus()


def test_no_training_sentence_has_a_held_out_combination() -> None:
    corpus = read_corpus()
    held = [
        (adjective, noun)
        for adjective in ADJECTIVES
        for noun in THINGS
        if held_out((adjective.en, noun.en))
    ]
    assert 5 < len(held) < 50  # of 276
    phrases = {
        phrase
        for adjective, noun in held
        for phrase in (f"{adjective.en} {noun.en}", f"{adjective.en} {noun.en_plural}")
    }
    assert not [en for en, _ in corpus.train if any(phrase in en for phrase in phrases)]
    assert [en for en, _ in corpus.test if any(phrase in en for phrase in phrases)]


def test_every_family_is_tested() -> None:
    """Looks for a few characters of each kind of sentence among the test sentences."""
    test = read_corpus().test
    marks = (
        *("leaves", "arrives", "When does", "is open", "Turn", "street", "opposite", "how do I"),
        *("Is there", "goes by", "it will", ", at", "birthday", "costs", "How much", "would like"),
        *("euros?", "bought", "will buy", "Does ", "but no", "not need", "a table for", "a room"),
        *("Could you", "years old", "My name", "says that", "because"),
    )
    assert not [mark for mark in marks if not any(mark in en for en, _ in test)]
