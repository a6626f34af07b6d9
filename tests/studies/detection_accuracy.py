"""Measures how often the language of a line is detected, among the languages of the files.

    python -m tests.studies.detection_accuracy de=test.de en=test.en fr=test.fr zh=test.zh

Every line is a text of its own, however short. A language may have several files.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from model.errors import DragomanError, InputError
from model.text.text_file import read_lines
from service.text.detection import Detector


@dataclass(frozen=True)
class Accuracy:
    """Share of correct detections, and the time for one text."""

    texts: int
    detected: float  # share of texts whose language was detected correctly
    detected_by_language: dict[str, float]
    microseconds_per_text: float


async def measure(texts: Mapping[str, Sequence[str]]) -> Accuracy:
    """Detects the language of every text; `texts` has at least one for each language."""
    languages = list(texts)
    detector = Detector()
    await detector.detect(["Hello."], languages)  # loads the tables
    num_correct: dict[str, int] = {}
    seconds = 0.0
    for language, own in texts.items():
        started = time.perf_counter()
        guesses = await detector.detect(own, languages)
        seconds += time.perf_counter() - started
        num_correct[language] = sum(
            likeliest.language == language and likeliest.confidence > 0 for likeliest, *_ in guesses
        )
    num_texts = sum(map(len, texts.values()))
    return Accuracy(
        num_texts,
        sum(num_correct.values()) / num_texts,
        {language: num_correct[language] / len(own) for language, own in texts.items()},
        1e6 * seconds / num_texts,
    )


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.studies.detection_accuracy",
        description="Measure how often the language of a line is detected.",
    )
    parser.add_argument(
        "files", nargs="+", type=_labelled, metavar="LANGUAGE=FILE", help="at least two languages"
    )
    options = parser.parse_args()
    try:
        texts: defaultdict[str, list[str]] = defaultdict(list)
        for language, path in options.files:
            lines = [line for line in read_lines(path) if line.strip()]
            if not lines:
                raise InputError(f"{path} has no text; choose another file")
            texts[language] += lines
        if len(texts) < 2:
            raise InputError("all files are of one language; give files of at least two")
        report = asyncio.run(measure(texts))
    except (OSError, DragomanError) as error:
        sys.exit(f"error: {error}")
    print(json.dumps(asdict(report), indent=2))


def _labelled(text: str) -> tuple[str, Path]:
    language, equals, path = text.partition("=")
    if not (language and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not LANGUAGE=FILE, such as de=test.de")
    return language, Path(path)


if __name__ == "__main__":
    main()
