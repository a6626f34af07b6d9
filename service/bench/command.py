"""`dragoman bench`: its options checked, its report printed and drawn."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import typer

from service.bench.picture import check_picture, draw_picture
from service.bench.plan import PRECISIONS, BenchPlan
from service.bench.run import run_bench
from service.bench.table import report_lines
from service.commands.loading import Loading

_MAX_RATE = 100_000  # a second; more than one thread can put into a queue


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
    """Measure and report; None (or nothing given) stands for the default."""
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
    """ "5,10.5" as numbers; wrong usage is typer's affair."""
    rates = []
    for part in text.split(","):
        try:
            rate = float(part)
        except ValueError:
            rate = math.nan
        if not 0 < rate <= _MAX_RATE:
            raise typer.BadParameter(
                f"{part.strip()!r} is no rate; give numbers above 0 and up to {_MAX_RATE:,}, "
                f"with commas between them",
                param_hint="--rates",
            )
        rates.append(rate)
    return tuple(rates)
