"""Numbers of a text and of its translation: which notations agree, and which losses are seen."""

import random
import time

import pytest

from service.text.number_values import same_numbers


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("It costs 1,000.50 euros.", "Es kostet 1.000,50 Euro."),
        ("It costs 1,000.50 euros.", "Es kostet 1000,5 Euro."),
        ("It costs 1,000.50 euros.", "Il coûte 1\u202f000,50 euros."),
        ("It costs 1,000.50 francs.", "Es kostet 1’000.50 Franken."),
        ("1,000,000 people", "1 000 000 de personnes"),
        ("1,00,000 rupees", "100.000 Rupien"),
        ("It has 1 000 members.", "Es hat 1000 Mitglieder."),
        ("Room 12 300 people", "Zimmer 12 300 Menschen"),
        ("In 2024 100 men came.", "Im Jahr 2024 kamen 100 Männer."),
        ("5%", "5 %"),
        ("99.9 percent", "99,9 Prozent"),
        ("the 3rd of 21", "der 3. von 21"),
        ("the 21st century", "das 21. Jahrhundert"),
        ("number 042", "Nummer 42"),
        ("٤٢ men", "42 Männer"),
        ("४२ men", "４２人"),
        ("1,234.5 yen", "１，２３４．５円"),
        ("١٬٢٣٤٫٥ men", "1,234.5 men"),
        ("2.5 million people", "250万人"),
        ("1.2 billion people", "12亿人"),
        ("1.2 billion dollars", "1,2 Milliarden Dollar"),
        ("30 thousand", "30.000"),
        ("13 to 15", "13–15"),
        ("no number", "keine Zahl"),
        # what may be a word on one side
        ("two or 3 men", "zwei oder drei Männer"),
        ("twelve men", "12 Männer"),
        ("at 7:00", "um sieben Uhr"),
        ("at 7 pm", "um sieben Uhr abends"),
        # dates
        ("on 5/6/2023", "am 5. Juni 2023"),
        ("12/31/2023", "31.12.2023"),
        ("2023-06-05", "5.6.2023"),
        ("on March 3, 2024", "am 3. März 2024"),
        # times
        ("at 5:30 pm", "um 17:30 Uhr"),
        ("at 5.30 p.m.", "um 17.30 Uhr"),
        ("at 5:30PM", "um 17:30"),
        ("at 5:30 p. m.", "à 17h30"),
        ("at 11:45 am", "um 11:45 Uhr"),
        ("at 09:05", "um 9:05 Uhr"),
        ("at 12:15 am", "um 0:15 Uhr"),
        ("at 12:15 pm", "um 12:15 Uhr"),
        ("at 5 pm", "um 17 Uhr"),
        ("at 5 p.m.", "um 17:00 Uhr"),
        ("at 12 am", "um 24 Uhr"),
        ("at 12 am", "um 0 Uhr"),
        ("at 17:30", "um 17 Uhr 30"),
        ("at 5:30 in the afternoon", "um 17:30 Uhr"),
        ("um 5:30 Uhr nachmittags", "at 5:30 pm"),
        ("at 5:30 pm", "下午5:30"),
        ("at 5:30 pm", "午後５時３０分"),
        ("from 5:30 to 6:30 pm", "von 17:30 bis 18:30 Uhr"),
        ("between 2 and 4 pm", "zwischen 14 und 16 Uhr"),
        ("um 12:30 am Bahnhof", "at 12:30 at the station"),
        ("in 1:23:45", "in 1:23:45"),
    ],
)
def test_numbers_agree_in_any_notation(source: str, target: str) -> None:
    assert same_numbers(source, target)
    assert same_numbers(target, source)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("in 2024", "im Jahr 2042"),
        ("in 2024", "im Jahr"),
        ("13 and 13", "13"),
        ("13", "13 und 13"),
        ("1,000.50", "1.000,60"),
        ("1,000.50", "100.050"),
        ("1.5 percent", "15 Prozent"),
        ("1 000 members", "1 Mitglied"),
        ("agent 007", "Agent"),
        ("room 5", "Zimmer 6"),
        ("250 people", "2.5 million people"),
        ("30 thousand", "300.000"),
        ("on 5/6/2023", "am 5. Juni 2024"),
        ("from April 15", "ab dem 1. April"),
        ("at 5:30 pm", "um 5:30 Uhr"),
        ("at 5:30 pm", "um 17:20 Uhr"),
        ("at 5:30 pm", "um 18:30 Uhr"),
        ("at 5:30 am", "um 17:30 Uhr"),
        ("at 5:30 pm", "um Uhr"),
        ("at 5 pm", "um 16 Uhr"),
        ("at 12:15 pm", "um 0:15 Uhr"),
        ("from 5:30 to 6:30 pm", "von 17:30 bis 19:30 Uhr"),
        ("at 10:30 and at 5:30 pm, not before", "um 22:30 und um 17:30, nicht vorher"),
    ],
)
def test_a_number_that_is_lost_or_changed_is_seen(source: str, target: str) -> None:
    assert not same_numbers(source, target)
    assert not same_numbers(target, source)


def test_an_ambiguous_number_leaves_its_partner_to_one_that_has_no_other() -> None:
    # 1.234 is 1234 or 1.234; only it can be the 1234 of the other side.
    assert same_numbers("1.234 and 1.2340", "1234 und 1,234")


def test_a_changed_digit_is_seen_wherever_it_is() -> None:
    source = "In 1987 we sold 1,250 cars at 17:45 for $29.95 each, 63% more than on 14/2/1986."
    target = "1987 verkauften wir um 17.45 Uhr 1.250 Autos zu 29,95 $, 63 % mehr als am 14.2.1986."
    assert same_numbers(source, target)
    places = [place for place, character in enumerate(target) if character.isdigit()]
    small = target.index(".2.1986") + 1  # the month may be a word
    for place in places:
        digit = str((int(target[place]) + 3) % 10)
        changed = target[:place] + digit + target[place + 1 :]
        assert not same_numbers(source, changed) or place == small, changed


def test_long_texts_of_numbers_take_little_time() -> None:
    rng = random.Random(1)
    digits = "".join(rng.choice("0123456789.,: '-") for _ in range(5_000))
    started = time.process_time()
    for text in ("1" * 5_000, "1," * 2_500, "1 234 " * 800, "5:30 pm " * 600, digits):
        assert same_numbers(text, text)
        same_numbers(text, text[::-1])
    assert (
        time.process_time() - started < 10
    )  # some tenths of one; minutes if it grew with the square
