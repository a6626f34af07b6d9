"""`dragoman bench`: checks the options, measures every precision, prints and draws the report."""

import json
import math
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import typer

from model.errors import ConfigError
from model.system.process import num_cores
from model.system.progress import line_progress
from service.bench.picture import check_picture, draw_picture
from service.bench.plan import PRECISIONS, BenchPlan, Task, sentences_of
from service.bench.process import measure_apart
from service.bench.report import BenchReport, PrecisionReport, Unsupported, report_lines
from service.commands.loading import Loading

_MAX_RATE = 100_000  # per second; more than one thread can add to a queue


def bench_checkpoint(
    loading: Loading,
    *,
    precisions: Sequence[str] | None,
    beam_sizes: Sequence[int] | None,
    rates: str | None,
    seconds: float,
    source: Path | None,
    num_sentences: int,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Runs the command; None or an empty list stands for an option's default."""
    plan = BenchPlan(
        tuple(beam_sizes or BenchPlan.beam_sizes), parse_rates(rates) if rates else None, seconds
    )
    if picture is not None:
        check_picture(picture)
    report = run_bench(
        loading,
        tuple(dict.fromkeys(precisions or PRECISIONS)),
        plan,
        source=source,
        num_sentences=num_sentences,
    )
    if picture is not None:
        draw_picture(report, picture)
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2, ensure_ascii=False))
    else:
        typer.echo("\n".join(report_lines(report)))


def parse_rates(text: str) -> tuple[float, ...]:
    """Reads "5,10.5" as numbers. typer.BadParameter: a rate is out of range or no number."""
    rates = []
    for part in text.split(","):
        try:
            rate = float(part)
        except ValueError:
            rate = math.nan
        if not 0 < rate <= _MAX_RATE:
            raise typer.BadParameter(
                f"{part.strip()!r} is not a rate; give numbers above 0 and up to {_MAX_RATE:,}, "
                f"separated by commas",
                param_hint="--rates",
            )
        rates.append(rate)
    return tuple(rates)


def run_bench(
    loading: Loading,
    precisions: Sequence[str],
    plan: BenchPlan,
    *,
    source: Path | None,
    num_sentences: int,
) -> BenchReport:
    """Measures each of `precisions` in a process of its own; `loading.precision` is not used.

    Without `source`, the sentences are the checkpoint's examples. A precision that is not available
    is reported with the reason. ConfigError: none is available.
    """
    import torch

    from model.checkpoint import read_description

    description = read_description(loading.checkpoint)
    sentences, sentences_from = sentences_of(
        source, num_sentences, loading.checkpoint, description.metrics
    )
    own_beam_size = description.config.search.beam_size
    each = plan.num_measurements(own_beam_size)
    results: list[PrecisionReport | Unsupported] = []
    with line_progress("measuring", each * len(precisions), "measurements") as progress:
        for number, precision in enumerate(precisions):
            task = Task(
                replace(loading, precision=precision), plan, sentences, started=time.monotonic()
            )
            results.append(measure_apart(task, progress=partial(_add, progress, number * each)))
            progress((number + 1) * each)
    reports = tuple(one for one in results if isinstance(one, PrecisionReport))
    unsupported = tuple(one for one in results if isinstance(one, Unsupported))
    if not reports:
        raise ConfigError("; ".join(dict.fromkeys(one.reason for one in unsupported)))
    return BenchReport(
        checkpoint=loading.checkpoint.resolve().name,
        version=description.version,
        processor=_processor(),
        cores=num_cores(),
        torch_version=torch.__version__,
        slots=loading.slots,
        beam_size=own_beam_size,
        sentences_from=sentences_from,
        precisions=reports,
        unsupported=unsupported,
    )


def _add(progress: Callable[[int], None], done_before: int, num_done: int) -> None:
    progress(done_before + num_done)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()
