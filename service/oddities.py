"""What is suspicious about a translation, told by cheap signs that need no reference.

A recurrent decoder fails in typical ways: it copies what it does not know, or falls into a loop.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from model.translator import Translation

Oddity = Literal["copy", "loop", "cut"]

_LOOP_REPEATS = 4  # of the same pieces one after another; real text hardly ever does that
_LONGEST_PERIOD = 8  # pieces that may make up what is repeated


def oddities(text: str, translation: "Translation") -> list[Oddity]:
    """`copy`: the source came back; `loop`: pieces repeat without end; `cut`: the length limit."""
    found: list[Oddity] = []
    if any(map(str.isalpha, text)) and translation.text.strip() == text.strip():
        found.append("copy")
    if any(has_loop(segment.target_pieces) for segment in translation.segments):
        found.append("loop")
    if translation.truncated:
        found.append("cut")
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
