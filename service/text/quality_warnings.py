"""Finds cheap signs that a translation may be bad; they need no reference and no second pass.

A recurrent decoder fails in typical ways: it copies what it does not know, falls into a loop, ends
too early, or guesses a word. None of the signs proves a fault, and a translation without any may
still be wrong.
"""

from collections.abc import Sequence

from model.quality import least_word_confidence
from model.translation import Sign, Translation
from service.text.number_values import same_numbers

_LOOP_REPEATS = 4  # of the same pieces one after another; real text hardly ever does that
_LONGEST_PERIOD = 8  # pieces that may make up what is repeated
# Target pieces for each source piece; few pieces say nothing.
_FEWEST_PIECES = 8
_SHORTEST, _LONGEST = 0.35, 2.5


def warnings_of(
    text: str, translation: Translation, *, unsure_below: float | None
) -> tuple[Sign, ...]:
    """Warnings about a text's translation, each at most once.

    `unsure_below` is the model's own bound of confidence; without one, `unsure` is never given.
    """
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
    if not same_numbers(text, translation.text):
        found.append("numbers")
    if unsure_below is not None and least_word_confidence(translation.segments) < unsure_below:
        found.append("unsure")
    return tuple(found)


def has_loop(pieces: Sequence[str]) -> bool:
    """Whether a few pieces stand many times one after another."""
    for period in range(1, _LONGEST_PERIOD + 1):
        same = 0
        for place in range(period, len(pieces)):
            same = same + 1 if pieces[place] == pieces[place - period] else 0
            if same >= period * (_LOOP_REPEATS - 1):
                return True
    return False
