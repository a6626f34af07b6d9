"""Compares the numbers of a text with those of its translation, by value instead of by notation.

1,000.50 is 1.000,50 and 1 000,5; 5:30 pm is 17:30 and 17.30; 3rd is 3.; 2.5 million is 250万. Many
notations are ambiguous without their language (1.000 is a thousand or one), so a number has
several readings, and two numbers agree if they share one. Small numbers often become words or are
words at first (two men, 2 Männer), so they may be missing on one side.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest

# A value in one notation: "1000.5" of a number, "17:30" of a time.
Reading = str

_SPELLED_OUT = 12  # this and smaller numbers are often written as words

# Marks between digits that belong to one number. Hyphens and slashes separate numbers: ranges,
# dates (5/6/2023 is 5. Juni 2023).
_MARKS = ".,:'\u2019\u066b\u066c"
_WIDE_MARKS = {"\uff0c": ",", "\uff0e": ".", "\uff1a": ":"}
_DIGIT = re.compile(r"\d")  # of any script
_NOT_PLAIN = re.compile(rf"(?![0-9])\d|[{''.join(_WIDE_MARKS)}]")
_NUMBER = re.compile(rf"\d+(?:[{_MARKS}]\d+)*")
# 1 000 000: the same space, of any kind, between groups of three digits.
_NO_BREAK_SPACES = "\u00a0\u202f\u2009"
_GROUPED_BY_SPACE = re.compile(
    rf"(?<![\d{_MARKS}])\d{{1,3}}([ {_NO_BREAK_SPACES}])\d{{3}}(?:\1\d{{3}})*(?!\d)"
)
_GROUPED = re.compile(r"[1-9]\d{0,2}([.,'\u2019\u066c])\d{3}(?:\1\d{3})*")
_GROUPED_INDIAN = re.compile(r"[1-9]\d?(?:,\d{2})+,\d{3}")
_DECIMAL = re.compile(r"(.*)([.,\u066b])(\d+)")
_CLOCK = re.compile(r"(\d{1,2})[.:](\d{2})(?:[.:](\d{2}))?")
_HOUR_SIGN = re.compile(r"\s?(?:h|Uhr|時|时|点|點)\s?", re.IGNORECASE)  # 17h30, 17 Uhr 30, 17時30分

# The half of the day, after or before a time.
_MORNING = (
    r"a\.\s?m\.|am\b|in the morning|(?:Uhr )?(?:morgens|vormittags|früh)\b|du matin|de la mañana"
    r"|di mattina|del mattino"
)
_AFTERNOON = (
    r"p\.\s?m\.|pm\b|in the (?:afternoon|evening)|at night"
    r"|(?:Uhr )?(?:nachmittags|abends|am Nachmittag|am Abend)\b"
    r"|de l['\u2019]après-midi|du soir|de la (?:tarde|noche)|di sera|del pomeriggio"
)
_HALF_AFTER = re.compile(rf"\s?(?:o['\u2019]clock )?(?:({_MORNING})|({_AFTERNOON}))", re.IGNORECASE)
_HALF_BEFORE = re.compile(r"(?:(上午|早上|午前|凌晨)|(下午|晚上|午後|夜))\s?$")
# Between the times of "5:30 to 6:30 pm", of which the first is pm too: one word or sign.
_RANGE = re.compile(r"\s?[^\s\d]{1,5}\s?")

# Words and signs that multiply the number before them, by powers of ten. A billion is 10 ** 9 or,
# in the long scale, 10 ** 12.
_SCALE = re.compile(
    r"\s?(?:((?:thousand|tausend|mille|mil)\b|千)|([万萬])|(mill?i[oó]n|milhões|mio\b|mln\b)|([亿億])"
    r"|(mill?iard|mrd\b|bn\b)|(bill?i[oó]n))",
    re.IGNORECASE,
)
_POWERS = ((3,), (4,), (6,), (8,), (9,), (9, 12))  # of each group of _SCALE
_LONGEST_SUFFIX = 24  # characters after a number that are searched for a scale or a half of the day


@dataclass(frozen=True)
class Number:
    """One number of a text."""

    readings: frozenset[Reading]
    may_be_word: bool  # small enough to be written as a word in the other language


@dataclass(frozen=True)
class _Found:
    """A number, and where it stands."""

    number: Number
    start: int
    end: int
    is_afternoon: bool  # said to be a time after noon


def same_numbers(source: str, target: str) -> bool:
    """Whether each number of one text has its equal in the other.

    Numbers up to twelve may be missing on one side, where they may be words, but not on both.
    """
    if not _DIGIT.search(source) and not _DIGIT.search(target):
        return True  # as most texts are
    return any(
        _agree(ours, theirs)
        for ours in _possible_numbers(source)
        for theirs in _possible_numbers(target)
    )


def _possible_numbers(text: str) -> Iterator[list[Number]]:
    """The numbers of a text; twice where "1 000" may be one number or two."""
    digits = _plain_digits(text)
    by_no_break_space = _joined_groups(digits, _NO_BREAK_SPACES)
    yield _numbers(by_no_break_space)
    by_any_space = _joined_groups(by_no_break_space, " ")
    if by_any_space != by_no_break_space:
        yield _numbers(by_any_space)


def _plain_digits(text: str) -> str:
    """The text with the digits of all scripts as 0 to 9 and no full-width marks."""

    def plain(match: re.Match[str]) -> str:
        return _WIDE_MARKS.get(match[0]) or str(unicodedata.decimal(match[0]))

    return _NOT_PLAIN.sub(plain, text)


def _joined_groups(text: str, spaces: str) -> str:
    """The text without these spaces between groups of three digits."""

    def join(match: re.Match[str]) -> str:
        return match[0].replace(match[1], "") if match[1] in spaces else match[0]

    return _GROUPED_BY_SPACE.sub(join, text)


def _numbers(text: str) -> list[Number]:
    """The numbers of a text whose digits are plain, in order."""
    found: list[_Found] = []
    matches = _NUMBER.finditer(text)
    match = next(matches, None)
    while match is not None:
        following = next(matches, None)
        digits, start, end = match[0], match.start(), match.end()
        if following is not None and _HOUR_SIGN.fullmatch(text[end : following.start()]):
            clock = f"{digits}:{following[0]}"
            if _CLOCK.fullmatch(clock):
                digits, end = clock, following.end()
                following = next(matches, None)
        suffix = text[end : end + _LONGEST_SUFFIX]
        half = _HALF_AFTER.match(suffix) or _HALF_BEFORE.search(text[max(0, start - 3) : start])
        is_afternoon = None if half is None else half[2] is not None
        found += [
            _Found(number, start, end, is_afternoon=is_afternoon is True)
            for number in _read(digits, is_afternoon, suffix)
        ]
        match = following
    return [
        _also_afternoon(each.number) if _begins_range(text, each, after) else each.number
        for each, after in zip_longest(found, found[1:])
    ]


def _read(digits: str, is_afternoon: bool | None, suffix: str) -> list[Number]:
    """The number in all its readings; several numbers where it is neither a quantity nor a time.

    `is_afternoon` is None if the text does not name a half of the day.
    """
    times = _times(digits, is_afternoon)
    # 5.30 pm is no quantity.
    values = set() if times and is_afternoon is not None else set(_quantities(digits))
    if not values and not times:  # a date, a version, a list
        parts = re.split(r"\D", digits)
        return [Number(frozenset({_canonical(part)}), _is_small(part)) for part in parts]
    scale = _SCALE.match(suffix)
    powers = _POWERS[scale.lastindex - 1] if scale is not None and scale.lastindex else ()
    scaled = {_scaled(value, power) for power in powers for value in values}
    may_be_word = _is_small(digits) or (bool(times) and _is_small_hour(digits))
    return [Number(frozenset(values | scaled | times), may_be_word)]


def _quantities(digits: str) -> Iterator[Reading]:
    """The values of digits that are read as one whole or decimal number, marks between them."""
    if _is_whole(digits):
        yield _canonical(_without_marks(digits))
    match = _DECIMAL.fullmatch(digits)
    if match is not None and match[2] not in match[1] and _is_whole(match[1]):
        yield _canonical(_without_marks(match[1]), match[3])


def _is_whole(digits: str) -> bool:
    """Whether digits are a whole number, perhaps with marks between its groups."""
    if digits.isdigit():
        return True
    return bool(_GROUPED.fullmatch(digits) or _GROUPED_INDIAN.fullmatch(digits))


def _without_marks(digits: str) -> str:
    return re.sub(r"\D", "", digits)


def _times(digits: str, is_afternoon: bool | None) -> set[Reading]:
    """The times that are meant, on a clock of 24 hours, and of full hours also the hour alone."""
    match = _CLOCK.fullmatch(digits)
    if match is not None:
        hour, rest = int(match[1]), [part for part in match.groups()[1:] if part]
    elif is_afternoon is not None and digits.isdigit() and len(digits) <= 2:
        hour, rest = int(digits), ["00"]
    else:
        return set()
    if hour > 24 or any(int(part) > 59 for part in rest):
        return set()
    hours = {hour % 24}
    if hour <= 12 and is_afternoon:
        hours = {hour % 12 + 12}
    elif hour == 12 and is_afternoon is False:
        hours = {0, 12}  # "12 am" is German too: um 12 am Bahnhof
    found = {":".join([str(each), *rest]) for each in hours}
    if all(part == "00" for part in rest):
        found |= {str(each) for each in hours} | ({"24"} if 0 in hours else set())
    return found


def _is_small_hour(digits: str) -> bool:
    """Whether a time is a full hour that may be written as a word: 7:00 is sieben Uhr."""
    hour, *rest = re.split(r"\D", digits)
    return int(hour) <= _SPELLED_OUT and not any(int(part) for part in rest)


def _begins_range(text: str, first: _Found, second: _Found | None) -> bool:
    """Whether a number is the first of "5:30 to 6:30 pm"."""
    if second is None or not second.is_afternoon:
        return False
    return _RANGE.fullmatch(text, first.end, second.start) is not None


def _also_afternoon(number: Number) -> Number:
    """The number with the readings that it has as a time after noon."""
    later = set()
    for reading in number.readings:
        hour, colon, minutes = reading.partition(":")
        if hour.isdigit() and len(hour) <= 2 and int(hour) < 12:
            later.add(f"{int(hour) + 12}{colon}{minutes}")
    return replace(number, readings=number.readings | later)


def _is_small(digits: str) -> bool:
    """Whether a number may be written as a word; 007 may not."""
    return digits.isdigit() and len(digits) <= 2 and int(digits) <= _SPELLED_OUT


def _canonical(integer: str, fraction: str = "") -> Reading:
    """The shortest notation of a value; of strings, since int() refuses thousands of digits."""
    integer, fraction = integer.lstrip("0") or "0", fraction.rstrip("0")
    return f"{integer}.{fraction}" if fraction else integer


def _scaled(value: Reading, power: int) -> Reading:
    """The value times ten to the power."""
    integer, _, fraction = value.partition(".")
    fraction = fraction.ljust(power, "0")
    return _canonical(integer + fraction[:power], fraction[power:])


def _agree(ours: Iterable[Number], theirs: Iterable[Number]) -> bool:
    """Whether two texts' numbers can be paired so that only small ones of one text are left."""
    ours_left, theirs_left = Counter(ours), Counter(theirs)
    # Numbers with one reading choose first, and each takes the partner with the fewest: a number
    # that only one other equals keeps it.
    by_reading: defaultdict[Reading, list[Number]] = defaultdict(list)
    for number in sorted(theirs_left, key=_by_readings):
        for reading in number.readings:
            by_reading[reading].append(number)
    for number in sorted(ours_left, key=_by_readings):
        partners = {
            partner: None for reading in sorted(number.readings) for partner in by_reading[reading]
        }
        for partner in sorted(partners, key=_by_readings):
            paired = min(ours_left[number], theirs_left[partner])
            ours_left[number] -= paired
            theirs_left[partner] -= paired
    ours_left, theirs_left = +ours_left, +theirs_left
    if ours_left and theirs_left:
        return False
    return all(number.may_be_word for number in (*ours_left, *theirs_left))


def _by_readings(number: Number) -> tuple[int, list[Reading]]:
    return len(number.readings), sorted(number.readings)
