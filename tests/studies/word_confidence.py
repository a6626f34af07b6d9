"""Is a word right when the model was sure of it? Words in the reference, by confidence.

    python -m tests.studies.word_confidence CHECKPOINT --source test.en --reference test.de

A word counts as right where the reference has it anywhere, as often as it has it: capitals and
punctuation aside, words between spaces, or in scripts without spaces anything that stands there.
That is no proof, since other words may be as good, and a right one may stand in the wrong place.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import regex  # type: ignore[import-untyped, unused-ignore]

from model.errors import DragomanError, InputError
from model.text.text_file import read_lines
from model.translation import Translation
from service.text.words import words_of

_BOUNDS = (0.0, 0.25, 0.5, 0.75, 1.0)
_NO_LETTERS = regex.compile(r"[^\p{L}\p{M}\p{N}]+")


@dataclass(frozen=True)
class Bin:
    """The words of a confidence."""

    above: float
    up_to: float
    words: int
    in_reference: float | None  # the share of them; None if there are none


def bins(translations: Iterable[tuple[Translation, str]]) -> list[Bin]:
    """Of translations and their references."""
    found = [Counter[bool]() for _ in _BOUNDS[1:]]
    for translation, reference in translations:
        for confidence, is_right in judged(translation, reference):
            number = next(n for n, bound in enumerate(_BOUNDS[1:]) if confidence <= bound)
            found[number][is_right] += 1
    return [
        Bin(above, up_to, counts.total(), counts[True] / counts.total() if counts else None)
        for (above, up_to), counts in zip(pairwise(_BOUNDS), found, strict=True)
    ]


def judged(translation: Translation, reference: str) -> list[tuple[float, bool]]:
    """Every word's confidence, and whether the reference has it."""
    left = Counter(map(_letters, reference.split()))
    whole = _letters(reference)
    spaced = len(left) > 1
    found = []
    for word in (word for segment in translation.segments for word in words_of(segment)):
        text = _letters(word.text)
        if not text:
            continue  # a lone full stop
        found.append((word.confidence, left[text] > 0 if spaced else text in whole))
        left[text] -= 1
    return found


def _letters(text: str) -> str:
    return str(_NO_LETTERS.sub("", text)).casefold()


def measure(
    checkpoint: Path, sources: Sequence[str], references: Sequence[str], precision: str
) -> list[Bin]:
    """Translates and judges."""
    from model.translator import Translator

    if len(sources) != len(references):
        raise InputError(
            f"the source has {len(sources):,} lines but the reference {len(references):,}; line n "
            f"of one must be the translation of line n of the other"
        )
    with Translator.load(checkpoint, precision=precision) as translator:
        return bins(zip(translator.translate(sources), references, strict=True))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.studies.word_confidence",
        description="Tell how many words stand in the reference, by the model's confidence.",
    )
    parser.add_argument("checkpoint", type=Path, help="folder of a checkpoint")
    parser.add_argument("--source", type=Path, required=True, help="sentences, one a line")
    parser.add_argument("--reference", type=Path, required=True, help="their translations")
    parser.add_argument("--precision", default="fp32", help="default: fp32")
    asked = parser.parse_args()
    try:
        sources, references = list(read_lines(asked.source)), list(read_lines(asked.reference))
        report = measure(asked.checkpoint, sources, references, asked.precision)
    except (OSError, DragomanError) as error:
        sys.exit(f"word_confidence: {error}")
    print(json.dumps([asdict(each) for each in report], indent=2))


if __name__ == "__main__":
    main()
