"""A bench report for people: one small table for each question."""

from collections.abc import Callable, Iterable, Sequence

from service.bench.latency import ShortBesideLong
from service.bench.open_loop import LatencySummary
from service.bench.report import BenchReport, PrecisionReport

_PERCENTILES = ("p50", "p90", "p95", "p99", "max")
Row = tuple[str, ...]


def report_lines(report: BenchReport) -> list[str]:
    """The tables, with blank lines between them."""
    first = report.precisions[0]
    beam = report.beam_size
    lines = [
        f"{report.checkpoint} {report.version} on {first.device} with {first.threads} "
        f"thread{'s' * (first.threads != 1)}; {report.processor}, {report.cores} "
        f"core{'s' * (report.cores != 1)}; torch {report.torch_version}",
        f"sentences: {report.sentences_from}; {report.slots} slots; own beam {beam}",
        *(f"no {each.precision}: {each.reason}" for each in report.unsupported),
    ]
    tables: list[tuple[str, Row, Callable[[PrecisionReport], Iterable[Row]]]] = [
        (
            "start and memory",
            ("first translation, s", "import, s", "load, s", "peak memory, MB", "on the GPU, MB"),
            _start_rows,
        ),
        (
            "all sentences at once",
            (
                *("beam", "cores used", "sentences/s", "source tokens/s", "target tokens/s"),
                *("Gmultiply-adds/s", "of ceiling", "of copying"),
            ),
            _throughput_rows,
        ),
        ("one sentence alone, ms", ("beam", *_PERCENTILES), _alone_rows),
        (
            f"requests that arrive by chance, beam {beam}, ms from arrival to answer",
            ("offered/s", "answered/s", "requests", "queue at end", "unanswered", *_PERCENTILES),
            _open_loop_rows,
        ),
        (
            f"short requests one after another, beam {beam}, ms",
            ("beside them", "requests", *_PERCENTILES),
            _company_rows,
        ),
        (
            f"work per target token, beam {beam}; bare products of the same shapes",
            ("stage", "multiply-adds", "of all work", "bare, µs", "bare, of ceiling"),
            _stage_rows,
        ),
        (
            "ceilings: one large product, one large copy, and nothing but the bare products",
            (
                *("Gmultiply-adds/s", "copied GB/s", "MB a step"),
                *("bare target tokens/s", "reached of it"),
            ),
            _ceiling_rows,
        ),
    ]
    for title, head, rows in tables:
        body = [(each.precision, *row) for each in report.precisions for row in rows(each)]
        lines += ["", title, *_aligned([("precision", *head), *body])]
    return lines


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
            _billions(row.multiply_adds_per_s),
            _percent(row.share_of_ceiling),
            _percent(row.share_of_copy_ceiling),
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


def _company_rows(report: PrecisionReport) -> list[Row]:
    mixed: ShortBesideLong = report.short_beside_long
    return [
        (name, f"{latency.num_requests:,}", *_percentiles(latency))
        for name, latency in (
            ("nothing", mixed.alone),
            (f"{mixed.num_long} of {mixed.long_words} words", mixed.beside),
        )
    ]


def _stage_rows(report: PrecisionReport) -> list[Row]:
    return [
        (
            stage.stage,
            f"{stage.multiply_adds:,.0f}",
            _percent(stage.share_of_work),
            "-" if stage.bare_us is None else f"{stage.bare_us:,.1f}",
            _percent(stage.bare_share_of_ceiling),
        )
        for stage in report.ceilings.stages
    ]


def _ceiling_rows(report: PrecisionReport) -> list[Row]:
    ceilings = report.ceilings
    bare = ceilings.bare_tokens_per_s
    return [
        (
            _billions(ceilings.multiply_adds_per_s),
            _billions(ceilings.copied_bytes_per_s),
            f"{ceilings.bytes_per_step / 1e6:,.1f}",
            "-" if bare is None else f"{bare:,.0f}",
            _percent(ceilings.share_of_bare),
        )
    ]


def _percentiles(latency: LatencySummary) -> Row:
    times = (latency.p50_ms, latency.p90_ms, latency.p95_ms, latency.p99_ms, latency.max_ms)
    return tuple(f"{each:,.1f}" for each in times)


def _billions(number: float | None) -> str:
    return "-" if number is None else f"{number / 1e9:,.1f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _aligned(rows: Sequence[Row]) -> list[str]:
    """Columns as wide as they must be: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
