"""A translator without a network: the incremental API, in steps that a test can pause and count."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from model.decoding.request import EngineUsage
from model.errors import InputError
from model.text.segmenter import Segmentation, Span
from model.translation import Sign
from service.serving.registry import Registry
from service.serving.served_model import LoadedModel, ModelInfo, ServedModel
from service.settings import Settings

NOWHERE = Span(0, 0)


@dataclass(frozen=True)
class FakeSearch:
    """Stands for SearchConfig."""

    beam_size: int = 5
    length_penalty: float = 1.0
    n_best: int = 1
    min_length_ratio: float = 0.0
    max_length_ratio: float = 2.0


@dataclass(frozen=True)
class FakeOther:
    """Stands for Alternative."""

    text: str
    score: float
    log_prob: float


@dataclass(frozen=True)
class FakeSegment:
    """Stands for SegmentTranslation."""

    source: str
    text: str
    score: float
    source_pieces: tuple[str, ...]
    target_pieces: tuple[str, ...]
    token_log_probs: tuple[float, ...]
    alignment: list[list[float]] | None
    source_span: Span = NOWHERE
    target_span: Span = NOWHERE


@dataclass(frozen=True)
class FakeTranslation:
    """Stands for Translation."""

    text: str
    score: float
    log_prob: float
    alternatives: tuple[FakeOther, ...]
    segments: tuple[FakeSegment, ...]
    source_tokens: int
    target_tokens: int
    truncated: bool = False
    warnings: tuple[Sign, ...] = ()


@dataclass(frozen=True)
class FakeScore:
    """Stands for ForcedScore."""

    score: float
    log_prob: float
    token_log_probs: tuple[float, ...]
    pieces: tuple[str, ...]


def translated(text: str, search: FakeSearch, alignments: bool) -> FakeTranslation:
    """Upper case; the score tells which search settings were used."""
    pieces = tuple(text.split())
    rows = [[1 / (len(pieces) + 1)] * (len(pieces) + 1)] * (len(pieces) + 1)
    segment = FakeSegment(
        text,
        text.upper(),
        -1.0,
        pieces,
        tuple(piece.upper() for piece in pieces),
        (-0.25,) * (len(pieces) + 1),
        rows if alignments else None,
        Span(0, len(text)),
        Span(0, len(text.upper())),
    )
    return FakeTranslation(
        text=text.upper(),
        score=-float(search.beam_size) - search.length_penalty,
        log_prob=-1.0,
        alternatives=tuple(
            FakeOther(f"{text.upper()} {rank}", -2.0 - rank, -3.0 - rank)
            for rank in range(1, search.n_best)
        ),
        segments=(segment,) if pieces else (),
        source_tokens=len(pieces),
        target_tokens=len(pieces),
    )


@dataclass
class FakeTranslator:
    """A word a step, `slots` texts at a time; three marker words make it fail."""

    slots: int = 4
    delay_s: float = 0.0  # of a step
    answer: Callable[[str, FakeSearch, bool], FakeTranslation] = translated
    running: threading.Event = field(default_factory=threading.Event)  # clear it to hold the steps
    waiting: list[tuple[int, str, FakeSearch, bool]] = field(default_factory=list)
    busy: dict[int, list[Any]] = field(default_factory=dict)
    max_busy: int = 0
    num_steps: int = 0
    num_tickets: int = 0
    num_characters_done: int = 0
    segmentations: list[Segmentation] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    searches_together: set[int] = field(default_factory=set)
    threads: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.running.set()

    @property
    def idle(self) -> bool:
        return not self.waiting and not self.busy

    @property
    def num_waiting(self) -> int:
        return len(self.waiting)

    @property
    def usage(self) -> EngineUsage:
        return EngineUsage(self.slots, len(self.busy), self.num_steps, 0.0)

    def add(
        self,
        text: str,
        search: FakeSearch | None = None,
        *,
        alignments: bool = False,
        segmentation: Segmentation = "line",
        bulk: bool = False,
    ) -> int:
        self.segmentations.append(segmentation)
        if "REFUSE" in text:
            raise InputError("this cannot be cut into segments")
        if "CRASH-ADD" in text:
            raise ValueError(f"codec failed on {text}")
        self.num_tickets += 1
        self.waiting.append((self.num_tickets, text, search or FakeSearch(), alignments))
        return self.num_tickets

    def wake(self) -> None:
        pass

    def close(self) -> None:
        pass

    def step(self, timeout_s: float | None = None) -> list[tuple[int, FakeTranslation]]:
        self.threads.add(threading.current_thread().name)
        self.running.wait()
        time.sleep(self.delay_s)
        self.num_steps += 1
        while self.waiting and len(self.busy) < self.slots:
            ticket, text, search, alignments = self.waiting.pop(0)
            self.busy[ticket] = [len(text.split()), text, search, alignments]
        self.max_busy = max(self.max_busy, len(self.busy))
        self.searches_together.add(len({entry[2] for entry in self.busy.values()}))
        if any("POISON" in entry[1] for entry in self.busy.values()):
            raise RuntimeError("shapes do not match")
        finished = []
        for ticket, entry in list(self.busy.items()):
            entry[0] -= 1
            if entry[0] <= 0:
                del self.busy[ticket]
                self.num_characters_done += len(entry[1])
                finished.append((ticket, self.answer(entry[1], entry[2], entry[3])))
        return finished

    def cancel(self, ticket: int) -> None:
        self.cancelled.append(ticket)
        self.busy.pop(ticket, None)
        self.waiting = [item for item in self.waiting if item[0] != ticket]

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[FakeScore]:
        if any("REFUSE" in source for source, _ in pairs):
            raise InputError("source has 999 tokens, the limit is 200")
        if any("POISON" in source for source, _ in pairs):
            raise RuntimeError("shapes do not match")
        return [
            FakeScore(-float(len(target)), -1.0, (-0.5, -0.5), tuple(target.split()))
            for _, target in pairs
        ]


def fake_info(source: str, target: str) -> ModelInfo:
    """A description as a loaded checkpoint would give it."""
    return ModelInfo(
        source_language=source,
        target_language=target,
        version="0123456789ab",
        exact=True,
        precision="fp32",
        max_source_tokens=200,
        search=FakeSearch(),  # type: ignore[arg-type]
        metrics={
            "test": {"bleu": 41.5},
            "calibration": {"unsure_below": 0.06},
            "examples": ["A sentence of the corpus."],
        },
    )


def fake_model(
    name: str,
    settings: Settings,
    *,
    translator: FakeTranslator | None = None,
    before: Callable[[], None] = lambda: None,
) -> ServedModel:
    """A served_model over a fake translator; `name` is its language pair, `en-de` or `en-de-v2`."""
    source, target = name.split("-")[:2]

    def load() -> LoadedModel:
        before()
        return LoadedModel(
            translator or FakeTranslator(),  # type: ignore[arg-type]
            fake_info(source, target),
        )

    return ServedModel(name, load, settings)


def fake_registry(settings: Settings, *names: str) -> Registry:
    """Models of these names, each with a translator of its own."""
    return Registry([fake_model(name, settings) for name in names])
