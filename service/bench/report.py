"""What `dragoman bench` measured, as JSON and as tables.

The names of the fields are the names in the JSON.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from service.bench.latency import LatencySummary, ShortBesideLong
from service.bench.open_loop import OpenLoop

_PERCENTILES = ("p50", "p90", "p95", "p99", "max")
Row = tuple[str, ...]


@dataclass(frozen=True)
class Throughput:
    """Speed of translating all sentences at once."""

    beam_size: int
    num_sentences: int
    seconds: float
    cores_used: float  # CPU time per second; far below `threads`: other programs used the CPU
    sentences_per_s: float
    source_tokens_per_s: float
    target_tokens_per_s: float


@dataclass(frozen=True)
class AloneLatency:
    """Latency of one sentence at a time, with nothing else running."""

    beam_size: int
    latency: LatencySummary


@dataclass(frozen=True)
class PrecisionReport:
    """All measurements of one precision, made in a process of its own."""

    precision: str
    device: str  # "cpu", or the GPU's name
    threads: int
    import_s: float  # time to import torch and our modules
    load_s: float  # time to check the hashes, read the weights and prepare the tokenizers
    first_translation_s: float  # from the start of the process to the first translated sentence
    peak_memory_mb: float  # peak of the measuring process, and what its engines use at the end
    peak_gpu_memory_mb: float | None
    throughput: tuple[Throughput, ...]  # by beam size
    alone: tuple[AloneLatency, ...]  # by beam size
    open_loop: tuple[OpenLoop, ...]  # by arrival rate, with the checkpoint's own beam size
    short_beside_long: ShortBesideLong


@dataclass(frozen=True)
class Unsupported:
    """A precision that this machine cannot run, and the reason."""

    precision: str
    reason: str


@dataclass(frozen=True)
class BenchReport:
    """The whole result of `dragoman bench`."""

    checkpoint: str
    version: str
    processor: str
    cores: int  # that this process may use
    torch_version: str
    slots: int
    beam_size: int  # the checkpoint's own, used for the open loop and short beside long
    sentences_from: str
    precisions: tuple[PrecisionReport, ...]
    unsupported: tuple[Unsupported, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def report_lines(report: BenchReport) -> list[str]:
    """Returns one table for each question, with blank lines between the tables."""
    first = report.precisions[0]
    beam = report.beam_size
    lines = [
        f"{report.checkpoint} {report.version} on {first.device} with "
        f"{counted(first.threads, 'thread')}; {report.processor}, "
        f"{counted(report.cores, 'core')}; torch {report.torch_version}",
        f"sentences: {report.sentences_from}; {report.slots} slots; "
        f"the checkpoint's beam size: {beam}",
        *(f"{each.precision} was not measured: {each.reason}" for each in report.unsupported),
    ]
    tables: list[tuple[str, Row, Callable[[PrecisionReport], Iterable[Row]]]] = [
        (
            "start and memory",
            ("first translation, s", "import, s", "load, s", "peak memory, MB", "GPU memory, MB"),
            _start_rows,
        ),
        (
            "all sentences at once",
            ("beam", "cores used", "sentences/s", "source tokens/s", "target tokens/s"),
            _throughput_rows,
        ),
        ("one sentence at a time, latency in ms", ("beam", *_PERCENTILES), _alone_rows),
        (
            f"requests at random times (Poisson), beam {beam}, ms from arrival to answer",
            ("offered/s", "answered/s", "requests", "queue at end", "unanswered", *_PERCENTILES),
            _open_loop_rows,
        ),
        (
            f"short requests, one at a time, beam {beam}, latency in ms",
            ("beside them", "requests", *_PERCENTILES),
            _short_beside_long_rows,
        ),
    ]
    for title, head, rows in tables:
        body = [(each.precision, *row) for each in report.precisions for row in rows(each)]
        lines += ["", title, *_aligned([("precision", *head), *body])]
    return lines


def counted(number: int, noun: str) -> str:
    """Returns the number and the noun: "1 thread", "2 threads"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def _start_rows(report: PrecisionReport) -> list[Row]:
    seconds = (report.first_translation_s, report.import_s, report.load_s)
    gpu = report.peak_gpu_memory_mb
    memory = (f"{report.peak_memory_mb:,.0f}", "-" if gpu is None else f"{gpu:,.0f}")
    return [(*(f"{each:.2f}" for each in seconds), *memory)]


def _throughput_rows(report: PrecisionReport) -> list[Row]:
    return [
        (
            f"{row.beam_size}",
            f"{row.cores_used:.2f}",
            f"{row.sentences_per_s:,.1f}",
            f"{row.source_tokens_per_s:,.0f}",
            f"{row.target_tokens_per_s:,.0f}",
        )
        for row in report.throughput
    ]


def _alone_rows(report: PrecisionReport) -> list[Row]:
    return [(f"{row.beam_size}", *_percentiles(row.latency)) for row in report.alone]


def _open_loop_rows(report: PrecisionReport) -> list[Row]:
    return [
        (
            f"{row.rate_per_s:,.1f}",
            f"{row.achieved_per_s:,.1f}",
            f"{row.latency.num_requests:,}",
            f"{row.queue_at_end:,}",
            f"{row.num_unanswered:,}",
            *_percentiles(row.latency),
        )
        for row in report.open_loop
    ]


def _short_beside_long_rows(report: PrecisionReport) -> list[Row]:
    mixed = report.short_beside_long
    return [
        (name, f"{latency.num_requests:,}", *_percentiles(latency))
        for name, latency in (
            ("nothing", mixed.alone),
            (f"{mixed.num_long} of {mixed.long_words} words", mixed.beside),
        )
    ]


def _percentiles(latency: LatencySummary) -> Row:
    times = (latency.p50_ms, latency.p90_ms, latency.p95_ms, latency.p99_ms, latency.max_ms)
    return tuple(f"{each:,.1f}" for each in times)


def _aligned(rows: Sequence[Row]) -> list[str]:
    """Pads the columns: the first is aligned to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
