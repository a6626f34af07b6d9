"""What is suspicious about a translation, told by cheap signs that need no reference.

A recurrent decoder fails in typical ways: it copies what it does not know, falls into a loop, or
ends too early. None of the signs proves a fault, and none appearing proves nothing.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from model.translation import Translation

Sign = Literal["copied", "loop", "cut", "too_short", "too_long", "numbers"]

_LOOP_REPEATS = 4  # of the same pieces one after another; real text hardly ever does that
_LONGEST_PERIOD = 8  # pieces that may make up what is repeated
# Target pieces for each source piece; few pieces say nothing.
_FEWEST_PIECES = 8
_SHORTEST, _LONGEST = 0.35, 2.5
# Digits, and single marks between them, as languages group them: 1,000.50 and 1.000,50.
_NUMBER = re.compile(r"\d+(?:[.,'\u2019\u00a0\u202f:/-]\d+)*")
_DIGIT = re.compile(r"\d")  # of any script
_SPELLED_OUT = 12  # smaller numbers may well become words


def warnings_of(text: str, translation: Translation) -> list[Sign]:
    """The signs that a text's translation shows, each at most once."""
    found: list[Sign] = []
    if any(map(str.isalpha, text)) and translation.text.strip() == text.strip():
        found.append("copied")
    if any(has_loop(segment.target_pieces) for segment in translation.segments):
        found.append("loop")
    if translation.truncated:
        found.append("cut")
    if translation.source_tokens >= _FEWEST_PIECES:
        ratio = translation.target_tokens / translation.source_tokens
        if ratio < _SHORTEST:
            found.append("too_short")
        elif ratio > _LONGEST:
            found.append("too_long")
    if numbers(text) != numbers(translation.text):
        found.append("numbers")
    return found


def has_loop(pieces: Sequence[str]) -> bool:
    """Whether a few pieces stand many times one after another."""
    for period in range(1, _LONGEST_PERIOD + 1):
        same = 0
        for place in range(period, len(pieces)):
            same = same + 1 if pieces[place] == pieces[place - period] else 0
            if same >= period * (_LOOP_REPEATS - 1):
                return True
    return False


def numbers(text: str) -> Counter[str]:
    """How often each number is in a text, whatever stands between its digits."""
    found = ("".join(str(int(each)) for each in _DIGIT.findall(n)) for n in _NUMBER.findall(text))
    return Counter(number for number in found if len(number) > 2 or int(number) > _SPELLED_OUT)
