"""How often the language of a text is detected, among the languages of the given files.

    python -m tests.studies.detection_accuracy de=test.de en=test.en fr=test.fr zh=test.zh

Every line is a text by itself, as short as it may be. One language may have several files.
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
    """What came of it."""

    texts: int
    detected: float  # the share that was told right
    detected_by_language: dict[str, float]
    microseconds_per_text: float


async def measure(texts: Mapping[str, Sequence[str]]) -> Accuracy:
    """Texts by language, at least one of each."""
    languages = list(texts)
    detector = Detector()
    await detector.detect(["Hello."], languages)  # loads the tables
    right: dict[str, int] = {}
    seconds = 0.0
    for language, own in texts.items():
        started = time.perf_counter()
        guesses = await detector.detect(own, languages)
        seconds += time.perf_counter() - started
        right[language] = sum(
            likeliest.language == language and likeliest.confidence > 0 for likeliest, *_ in guesses
        )
    num_texts = sum(map(len, texts.values()))
    return Accuracy(
        num_texts,
        sum(right.values()) / num_texts,
        {language: right[language] / len(own) for language, own in texts.items()},
        1e6 * seconds / num_texts,
    )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.studies.detection_accuracy",
        description="Measure how often the language of a line is detected.",
    )
    parser.add_argument(
        "files", nargs="+", type=_labelled, metavar="LANGUAGE=FILE", help="at least two languages"
    )
    asked = parser.parse_args()
    try:
        texts: defaultdict[str, list[str]] = defaultdict(list)
        for language, path in asked.files:
            lines = [line for line in read_lines(path) if line.strip()]
            if not lines:
                raise InputError(f"{path} has no text; choose another file")
            texts[language] += lines
        if len(texts) < 2:
            raise InputError("among one language there is nothing to detect; name files of two")
        report = asyncio.run(measure(texts))
    except (OSError, DragomanError) as error:
        sys.exit(f"detection_accuracy: {error}")
    print(json.dumps(asdict(report), indent=2))


def _labelled(text: str) -> tuple[str, Path]:
    language, equals, path = text.partition("=")
    if not (language and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not LANGUAGE=FILE, such as de=test.de")
    return language, Path(path)


if __name__ == "__main__":
    main()
