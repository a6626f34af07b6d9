"""What a trained demo model makes of the demo's dev and test sentences, kept in a file for tests.

Made anew after the demo's corpus or recipe has changed (on any machine; it need not be the same):

    dragoman demo --no-serve
    python -m tests.service.text.demo_translations demo

The file has a line for each sentence: split, source, reference, translation, number of source
pieces, target pieces, and their log-probabilities, to three digits, with the end's.
"""

import gzip
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from model.text.segmenter import Span
from model.translation import SegmentTranslation, Translation

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = Path(__file__).with_suffix(".tsv.gz")
NOWHERE = Span(0, 0)


@dataclass(frozen=True)
class DemoTranslation:
    """A sentence of the demo as the model translated it."""

    split: str
    source: str
    reference: str
    translation: Translation

    @property
    def is_right(self) -> bool:
        """Whether it is the reference: the grammar gives every sentence just one translation."""
        return self.translation.text == self.reference


def read() -> list[DemoTranslation]:
    """All sentences of the file, in order."""
    with gzip.open(FILE, "rt", encoding="utf-8", newline="\n") as file:
        return [_parsed(line.removesuffix("\n")) for line in file]


def _parsed(line: str) -> DemoTranslation:
    split, source, reference, text, num_source, pieces, numbers = line.split("\t")
    log_probs = tuple(map(float, numbers.split()))
    segment = SegmentTranslation(
        source=source,
        text=text,
        source_span=NOWHERE,
        target_span=NOWHERE,
        score=0.0,
        source_pieces=(),
        target_pieces=tuple(pieces.split(" ")),
        token_log_probs=log_probs,
        alignment=None,
    )
    translation = Translation(
        text=text,
        score=0.0,
        log_prob=sum(log_probs),
        alternatives=(),
        segments=(segment,),
        source_tokens=int(num_source),
        target_tokens=len(segment.target_pieces),
        truncated=False,
    )
    return DemoTranslation(split, source, reference, translation)


def _written(demo: Path) -> "Iterator[str]":
    from model.translator import Translator

    with Translator.load(demo / "models" / "demo", precision="fp32") as translator:
        for split in ("dev", "test"):
            sources, references = (
                (demo / "corpus" / f"{split}.{side}").read_text(encoding="utf-8").splitlines()
                for side in ("en", "de")
            )
            translations = translator.translate(sources)
            for source, reference, made in zip(sources, references, translations, strict=True):
                (segment,) = made.segments
                assert not made.truncated, source
                pieces = " ".join(segment.target_pieces)
                numbers = " ".join(f"{log_prob:.3f}" for log_prob in segment.token_log_probs)
                fields = (split, source, reference, made.text, made.source_tokens, pieces, numbers)
                yield "\t".join(map(str, fields))


if __name__ == "__main__":
    lines = "".join(f"{line}\n" for line in _written(Path(sys.argv[1])))
    FILE.write_bytes(gzip.compress(lines.encode(), mtime=0))
