"""Words of the demo corpus and their German inflection.

Every word has one translation, so that every sentence has one correct translation. Weak nouns and
dative plurals are missing because no sentence needs them.
"""

from dataclasses import dataclass
from typing import Literal

Case = Literal["nom", "acc", "dat"]
Gender = Literal["m", "f", "n"]
Person = Literal["first", "third", "plural"]  # ich; er, sie, Anna; wir, sie, Sie

# Endings by gender, in the order masculine, feminine, neuter.
_DER: dict[Case, tuple[str, str, str]] = {
    "nom": ("der", "die", "das"),
    "acc": ("den", "die", "das"),
    "dat": ("dem", "der", "dem"),
}
_EIN: dict[Case, tuple[str, str, str]] = {
    "nom": ("", "e", ""),
    "acc": ("en", "e", ""),
    "dat": ("em", "er", "em"),
}
_AFTER_DER: dict[Case, tuple[str, str, str]] = {
    "nom": ("e", "e", "e"),
    "acc": ("en", "e", "e"),
    "dat": ("en", "en", "en"),
}
_AFTER_EIN: dict[Case, tuple[str, str, str]] = {
    "nom": ("er", "e", "es"),
    "acc": ("en", "e", "es"),
    "dat": ("en", "en", "en"),
}
_GENDERS: dict[str, Gender] = {"m": "m", "f": "f", "n": "n"}


@dataclass(frozen=True)
class Word:
    """English and German of a word or phrase that never changes."""

    en: str
    de: str


@dataclass(frozen=True)
class Noun:
    """A noun with its gender; plurals are those of the nominative and accusative."""

    en: str
    de: str
    gender: Gender
    en_plural: str
    de_plural: str


@dataclass(frozen=True)
class Verb:
    """Forms of a verb that takes a direct object; its German plural is the infinitive."""

    en: str
    en_third: str
    en_past: str
    de: str
    de_first: str
    de_third: str
    de_participle: str

    def german(self, person: Person) -> str:
        return {"first": self.de_first, "third": self.de_third, "plural": self.de}[person]


@dataclass(frozen=True)
class Subject:
    """The subject of a sentence in the nominative, and the pronoun that refers to it."""

    en: str
    de: str
    person: Person
    pronoun: Word


@dataclass(frozen=True)
class Reason:
    """A reason: what a subject is, has or must do, as an English and a German clause."""

    en: str
    de: str
    en_forms: tuple[str, str, str]  # after I; he, she; we, they
    de_forms: tuple[str, str, str]

    def clause(self, who: Subject) -> tuple[str, str]:
        """Returns the clauses after "because" and "weil": he has to work, er arbeiten muss."""
        column = ("first", "third", "plural").index(who.person)
        return (
            f"{who.pronoun.en} {self.en_forms[column]} {self.en}",
            f"{who.pronoun.de} {self.de} {self.de_forms[column]}",
        )


def german(determiner: str, noun: Noun, case: Case, adjective: Word | None = None) -> str:
    """Returns article, adjective and noun in one case: einen roten Mantel, dem Bahnhof.

    determiner is "der", or the stem of an ein-word: "ein", "kein", "mein", "Ihr".
    """
    column = "mfn".index(noun.gender)
    if determiner == "der":
        article, ending = _DER[case][column], _AFTER_DER[case][column]
    else:
        article, ending = determiner + _EIN[case][column], _AFTER_EIN[case][column]
    return " ".join([article, *([adjective.de + ending] if adjective else []), noun.de])


def english(determiner: str, noun: Noun, adjective: Word | None = None) -> str:
    """Returns determiner, adjective and noun in English; "a" becomes "an" before a vowel."""
    phrase = f"{adjective.en} {noun.en}" if adjective else noun.en
    return f"{'an' if determiner == 'a' and phrase[0] in 'aeiou' else determiner} {phrase}"


def to_place(noun: Noun) -> str:
    """Returns "to the place" in German: zum Bahnhof, zur Kirche."""
    return f"{'zur' if noun.gender == 'f' else 'zum'} {noun.de}"


def from_place(noun: Noun) -> str:
    """Returns "from the place" in German: vom Bahnhof, von der Kirche."""
    return f"{'von der' if noun.gender == 'f' else 'vom'} {noun.de}"


def at_place(noun: Noun) -> str:
    """Returns "at the place" in German: am Bahnhof, an der Kirche."""
    return f"{'an der' if noun.gender == 'f' else 'am'} {noun.de}"


def _words(text: str) -> tuple[Word, ...]:
    words = []
    for entry in text.split(";"):
        en, de = entry.strip().split(" = ")
        words.append(Word(en, de))
    return tuple(words)


def _nouns(text: str) -> tuple[Noun, ...]:
    nouns = []
    for entry in text.split(";"):
        en, de = entry.strip().split(" = ")
        en, _, en_plural = en.partition(", ")
        gender, de = de.split(" ", 1)
        de, _, de_plural = de.partition(", ")
        nouns.append(Noun(en, de, _GENDERS[gender], en_plural, de_plural))
    return tuple(nouns)


def _verbs(text: str) -> tuple[Verb, ...]:
    verbs = []
    for entry in text.split(";"):
        en, de = entry.strip().split(" = ")
        verbs.append(Verb(*en.split(", "), *de.split(", ")))
    return tuple(verbs)


CITIES = _words(
    "Berlin = Berlin; Hamburg = Hamburg; Munich = München; Cologne = Köln; Vienna = Wien; "
    "Zurich = Zürich; Geneva = Genf; Prague = Prag; Warsaw = Warschau; Rome = Rom; "
    "Paris = Paris; London = London; Lisbon = Lissabon; Brussels = Brüssel"
)
COUNTRIES = _words(
    "Austria = Österreich; Italy = Italien; France = Frankreich; Spain = Spanien; "
    "Poland = Polen; Norway = Norwegen; Greece = Griechenland; Denmark = Dänemark; "
    "Hungary = Ungarn; Sweden = Schweden"
)
WEEKDAYS = _words(
    "Monday = Montag; Tuesday = Dienstag; Wednesday = Mittwoch; Thursday = Donnerstag; "
    "Friday = Freitag; Saturday = Samstag; Sunday = Sonntag"
)
MONTHS = _words(
    "January = Januar; February = Februar; March = März; April = April; May = Mai; "
    "June = Juni; July = Juli; August = August; September = September; October = Oktober; "
    "November = November; December = Dezember"
)
NUMBERS = _words(
    "two = zwei; three = drei; four = vier; five = fünf; six = sechs; seven = sieben; "
    "eight = acht; nine = neun; ten = zehn; eleven = elf; twelve = zwölf"
)
ORDINALS = _words("first = erste; second = zweite; third = dritte; fourth = vierte")
SIDES = _words("left = links; right = rechts")
ADJECTIVES = _words(  # stems, to which an ending is added
    "new = neu; old = alt; small = klein; big = groß; beautiful = schön; cheap = billig; "
    "red = rot; blue = blau; green = grün; black = schwarz; white = weiß; brown = braun"
)
FAULTS = _words(
    "too expensive = zu teuer; too small = zu klein; too big = zu groß; too heavy = zu schwer; "
    "very practical = sehr praktisch"
)
THINGS = _nouns(
    "coat, coats = m Mantel, Mäntel; hat, hats = m Hut, Hüte; skirt, skirts = m Rock, Röcke; "
    "suitcase, suitcases = m Koffer, Koffer; table, tables = m Tisch, Tische; "
    "chair, chairs = m Stuhl, Stühle; umbrella, umbrellas = m Regenschirm, Regenschirme; "
    "key, keys = m Schlüssel, Schlüssel; carpet, carpets = m Teppich, Teppiche; "
    "bag, bags = f Tasche, Taschen; jacket, jackets = f Jacke, Jacken; "
    "blouse, blouses = f Bluse, Blusen; lamp, lamps = f Lampe, Lampen; "
    "camera, cameras = f Kamera, Kameras; guitar, guitars = f Gitarre, Gitarren; "
    "vase, vases = f Vase, Vasen; shirt, shirts = n Hemd, Hemden; "
    "dress, dresses = n Kleid, Kleider; book, books = n Buch, Bücher; "
    "bicycle, bicycles = n Fahrrad, Fahrräder; car, cars = n Auto, Autos; "
    "radio, radios = n Radio, Radios; picture, pictures = n Bild, Bilder"
)
ANIMALS = _nouns(
    "dog, dogs = m Hund, Hunde; bird, birds = m Vogel, Vögel; cat, cats = f Katze, Katzen; "
    "cow, cows = f Kuh, Kühe; horse, horses = n Pferd, Pferde; rabbit, rabbits = n Kaninchen, "
    "Kaninchen"
)
PLACES = _nouns(
    "station = m Bahnhof; airport = m Flughafen; park = m Park; market = m Markt; "
    "supermarket = m Supermarkt; church = f Kirche; bridge = f Brücke; library = f Bibliothek; "
    "pharmacy = f Apotheke; school = f Schule; bakery = f Bäckerei; post office = f Post; "
    "hospital = n Krankenhaus; museum = n Museum; castle = n Schloss; hotel = n Hotel; "
    "theatre = n Theater; restaurant = n Restaurant; cinema = n Kino; town hall = n Rathaus"
)
SHOPS = tuple(  # places with opening hours
    place
    for place in PLACES
    if place.en not in {"station", "airport", "church", "bridge", "school", "hospital", "hotel"}
)
EVENTS = _nouns(
    "concert = n Konzert; meeting = f Besprechung; party = f Feier; wedding = f Hochzeit; "
    "course = m Kurs; exam = f Prüfung; lecture = m Vortrag; football match = n Fußballspiel"
)
TABLEWARE = _nouns(  # what a guest asks for
    "menu = f Speisekarte; bill = f Rechnung; wine list = f Weinkarte; newspaper = f Zeitung; "
    "blanket = f Decke; room key = m Zimmerschlüssel; town map = m Stadtplan; "
    "timetable = m Fahrplan; breakfast = n Frühstück; towel = n Handtuch"
)
COLD_DRINKS = _words(
    "water = Wasser; milk = Milch; orange juice = Orangensaft; lemonade = Limonade; "
    "wine = Wein; beer = Bier"
)
HOT_DRINKS = _words("coffee = Kaffee; tea = Tee; hot chocolate = Kakao")
DRY_FOOD = _words("rice = Reis; sugar = Zucker; flour = Mehl; salt = Salz")
GROCERIES = _words(
    "apples = Äpfel; pears = Birnen; potatoes = Kartoffeln; tomatoes = Tomaten; "
    "onions = Zwiebeln; cheese = Käse; fish = Fisch; carrots = Karotten"
)
# Each measure with what it may hold.
MEASURES: tuple[tuple[Noun, tuple[Word, ...]], ...] = tuple(
    zip(
        _nouns(
            "bottle, bottles = f Flasche, Flaschen; glass, glasses = n Glas, Gläser; "
            "litre, litres = m Liter, Liter; cup, cups = f Tasse, Tassen; "
            "packet, packets = f Packung, Packungen; kilo, kilos = n Kilo, Kilo"
        ),
        (COLD_DRINKS, COLD_DRINKS, COLD_DRINKS, HOT_DRINKS, DRY_FOOD, DRY_FOOD + GROCERIES),
        strict=True,
    )
)
VERBS = _verbs(
    "buy, buys, bought = kaufen, kaufe, kauft, gekauft; "
    "sell, sells, sold = verkaufen, verkaufe, verkauft, verkauft; "
    "find, finds, found = finden, finde, findet, gefunden; "
    "look for, looks for, looked for = suchen, suche, sucht, gesucht; "
    "repair, repairs, repaired = reparieren, repariere, repariert, repariert; "
    "need, needs, needed = brauchen, brauche, braucht, gebraucht; "
    "lose, loses, lost = verlieren, verliere, verliert, verloren; "
    "clean, cleans, cleaned = putzen, putze, putzt, geputzt"
)
OPINIONS = _verbs(
    "say, says, said = sagen, sage, sagt, gesagt; "
    "think, thinks, thought = glauben, glaube, glaubt, geglaubt; "
    "know, knows, knew = wissen, weiß, weiß, gewusst"
)
GIVING = _words("bring = bringen; show = zeigen; give = geben; send = schicken")
PAST_TIMES = (
    *_words(
        "yesterday = gestern; last week = letzte Woche; last month = letzten Monat; "
        "this morning = heute Morgen; last year = letztes Jahr"
    ),
    *(Word(f"on {day.en}", f"am {day.de}") for day in WEEKDAYS),
)
FUTURE_DAYS = (  # go together with a time of day
    *_words("tomorrow = morgen; the day after tomorrow = übermorgen"),
    *(Word(f"on {day.en}", f"am {day.de}") for day in WEEKDAYS),
)
FUTURE_TIMES = (
    *FUTURE_DAYS,
    *_words("next week = nächste Woche; next month = nächsten Monat; tonight = heute Abend"),
)
JOBS = _nouns(  # a woman's title adds -in
    "teacher = m Lehrer; engineer = m Ingenieur; gardener = m Gärtner; baker = m Bäcker; "
    "painter = m Maler; driver = m Fahrer; singer = m Sänger; nurse = m Krankenpfleger"
)
# Each vehicle with the verb it leaves by (fährt ... ab); all of them arrive by "ankommen".
VEHICLES: tuple[tuple[Noun, str], ...] = tuple(
    zip(
        _nouns("train = m Zug; bus = m Bus; ship = n Schiff; plane = n Flugzeug"),
        ("fährt", "fährt", "fährt", "fliegt"),
        strict=True,
    )
)

_HE, _SHE = _words("he = er; she = sie")
MEN = tuple(
    Subject(name, name, "third", _HE) for name in ("Peter", "Paul", "David", "Martin", "Daniel")
)
WOMEN = tuple(
    Subject(name, name, "third", _SHE) for name in ("Anna", "Maria", "Laura", "Julia", "Sarah")
)
_KIN = _nouns(
    "brother = m Bruder; father = m Vater; uncle = m Onkel; son = m Sohn; "
    "sister = f Schwester; mother = f Mutter; aunt = f Tante; daughter = f Tochter"
)
_OWNERS = _words("my = mein; his = sein; her = ihr; our = unser")
RELATIVES = tuple(
    Subject(
        english(owner.en, relative),
        german(owner.de, relative, "nom"),
        "third",
        _HE if relative.gender == "m" else _SHE,
    )
    for owner in _OWNERS
    for relative in _KIN
)
PRONOUNS = (
    Subject("I", "ich", "first", Word("I", "ich")),
    Subject("he", "er", "third", _HE),
    Subject("she", "sie", "third", _SHE),
    Subject("we", "wir", "plural", Word("we", "wir")),
    Subject("they", "sie", "plural", Word("they", "sie")),
)
NAMED = MEN + WOMEN
YOU = Subject("you", "Sie", "plural", Word("you", "Sie"))
_BE, _BIN = ("am", "is", "are"), ("bin", "ist", "sind")
_HAVE, _HABE = ("have", "has", "have"), ("habe", "hat", "haben")
REASONS = (
    Reason("ill", "krank", _BE, _BIN),
    Reason("no time", "keine Zeit", _HAVE, _HABE),
    Reason("an exam", "eine Prüfung", _HAVE, _HABE),
    Reason("to work", "arbeiten", _HAVE, ("muss", "muss", "müssen")),
    *(Reason(f"in {city.en}", f"in {city.de}", _BE, _BIN) for city in CITIES),
)
