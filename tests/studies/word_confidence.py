"""Measures how many translated words are in the reference, by the model's confidence.

    python -m tests.studies.word_confidence CHECKPOINT --source test.en --reference test.de

A word counts as correct if the reference contains it anywhere; each word of the reference counts
once. Capitals and punctuation are ignored. In scripts without spaces any substring counts. This is
an estimate: another word may be as good, and a correct one may be in the wrong place.
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
    """The words whose confidence lies in one interval."""

    above: float
    up_to: float
    words: int
    in_reference: float | None  # share of these words; None: there are no words


def bins(translations: "Iterable[tuple[Translation, str]]") -> list[Bin]:
    """Counts the words of translations and their references by confidence."""
    counts_of_bins = [Counter[bool]() for _ in _BOUNDS[1:]]
    for translation, reference in translations:
        for confidence, is_correct in judged(translation, reference):
            number = next(n for n, bound in enumerate(_BOUNDS[1:]) if confidence <= bound)
            counts_of_bins[number][is_correct] += 1
    return [
        Bin(above, up_to, counts.total(), counts[True] / counts.total() if counts else None)
        for (above, up_to), counts in zip(pairwise(_BOUNDS), counts_of_bins, strict=True)
    ]


def judged(translation: "Translation", reference: str) -> list[tuple[float, bool]]:
    """Returns the confidence of every word and whether the reference contains it."""
    unmatched = Counter(map(_letters, reference.split()))
    whole = _letters(reference)
    spaced = len(unmatched) > 1
    results = []
    for word in (word for segment in translation.segments for word in words_of(segment)):
        text = _letters(word.text)
        if not text:
            continue  # punctuation only
        results.append((word.confidence, unmatched[text] > 0 if spaced else text in whole))
        unmatched[text] -= 1
    return results


def _letters(text: str) -> str:
    return str(_NO_LETTERS.sub("", text)).casefold()


def measure(
    checkpoint: Path, sources: Sequence[str], references: Sequence[str], precision: str
) -> list[Bin]:
    """Translates the sources and counts the words by confidence."""
    from model.translator import Translator

    if len(sources) != len(references):
        raise InputError(
            f"the source has {len(sources):,} lines but the reference {len(references):,}; line n "
            f"of one must be the translation of line n of the other"
        )
    with Translator.load(checkpoint, precision=precision) as translator:
        return bins(zip(translator.translate(sources), references, strict=True))


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.studies.word_confidence",
        description="Measure how many words are in the reference, by the model's confidence.",
    )
    parser.add_argument("checkpoint", type=Path, help="folder of a checkpoint")
    parser.add_argument("--source", type=Path, required=True, help="sentences, one per line")
    parser.add_argument("--reference", type=Path, required=True, help="their translations")
    parser.add_argument("--precision", default="fp32", help="default: fp32")
    options = parser.parse_args()
    try:
        sources, references = list(read_lines(options.source)), list(read_lines(options.reference))
        report = measure(options.checkpoint, sources, references, options.precision)
    except (OSError, DragomanError) as error:
        sys.exit(f"error: {error}")
    print(json.dumps([asdict(each) for each in report], indent=2))


if __name__ == "__main__":
    main()
