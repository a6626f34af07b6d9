"""A stand-in for model.translator.Translator that needs no torch, and a job run with it.

Run as a module (`python -m tests.service.echo_translator INPUT OUTPUT WINDOW DELAY_S [--resume]`)
it is the process that the tests kill.
"""

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from model.decoding.search_config import SearchConfig
from model.errors import InputError
from model.text.segmenter import Segmentation
from model.translation import Translation
from service.files.lines import survey
from service.files.output_format import LineFormat
from service.files.translate_file import FileJob, JobReport, translate_file


def echo_translation(text: str) -> Translation:
    """A translation with this text and made-up scores."""
    return Translation(
        text=text,
        score=-1.5,
        log_prob=-3.0,
        alternatives=(),
        segments=(),
        source_tokens=1,
        target_tokens=1,
        truncated=False,
    )


@dataclass
class EchoTranslator:
    """Translates "abc" into "cba"; works on a few texts at a time and finishes them last in first.

    Blank text comes back as it is; text with "refuse" in it is refused.
    """

    delay_s: float = 0.0  # a step
    slots: int = 7
    added: list[str] = field(default_factory=list)
    waiting: dict[int, str] = field(default_factory=dict)

    def add(
        self,
        text: str,
        search: SearchConfig | None = None,
        *,
        alignments: bool = False,
        segmentation: Segmentation = "line",
    ) -> int:
        if "refuse" in text:
            raise InputError("text is refused; leave it out")
        self.added.append(text)
        self.waiting[len(self.added)] = text
        return len(self.added)

    @property
    def num_waiting(self) -> int:
        return max(0, len(self.waiting) - self.slots)

    def step(self, timeout_s: float | None = None) -> list[tuple[int, Translation]]:
        time.sleep(self.delay_s)
        busy = list(self.waiting)[: self.slots]
        return [
            (ticket, echo_translation(reverse(self.waiting.pop(ticket))))
            for ticket in reversed(busy)
        ]

    def cancel(self, ticket: int) -> None:
        del self.waiting[ticket]


class EchoModel(EchoTranslator):
    """An EchoTranslator with the checkpoint that the command line asks about."""

    checkpoint = SimpleNamespace(
        name="echo",
        version="abc",
        precision="fp32",
        shortlist=None,
    )

    def __enter__(self) -> "EchoModel":
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def score(self, pairs: list[tuple[str, str]]) -> list[Any]:
        return [
            SimpleNamespace(
                log_prob=-float(len(target)), score=-1.0, pieces=("x",), token_log_probs=(-1.0,)
            )
            for _, target in pairs
        ]


def reverse(text: str) -> str:
    """What EchoTranslator makes of a text."""
    return text[::-1] if text.strip() else text


def run_job(
    source: Path,
    output: Path,
    *,
    window_lines: int = 5,
    resume: bool = False,
    delay_s: float = 0.0,
    form: LineFormat | None = None,
    settings: dict[str, object] | None = None,
) -> JobReport:
    """Translate a file with an EchoTranslator."""
    return translate_file(
        EchoTranslator(delay_s),
        FileJob(source, output, form or LineFormat(), window_lines=window_lines),
        survey(source),
        settings or {"checkpoint": "abc"},
        resume=resume,
        progress=lambda num_done: None,
    )


if __name__ == "__main__":
    run_job(
        Path(sys.argv[1]),
        Path(sys.argv[2]),
        window_lines=int(sys.argv[3]),
        delay_s=float(sys.argv[4]),
        resume="--resume" in sys.argv,
    )
