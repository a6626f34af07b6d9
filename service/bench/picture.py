"""Draws latency against throughput."""

from pathlib import Path
from typing import Any

from model.errors import ConfigError
from model.system.atomic_files import replaced_file
from service.bench.process import BenchError
from service.bench.report import BenchReport, counted

_FORMATS = (".png", ".svg")
_COLORS = ("tab:blue", "tab:orange", "tab:green", "tab:red")


def check_picture(path: Path) -> None:
    """Raises, before anything is measured, if the picture could not be written in the end."""
    if path.suffix not in _FORMATS:
        raise ConfigError(
            f"--picture {path} is of an unknown picture format; "
            f"give a name that ends in {' or '.join(_FORMATS)}"
        )
    if not path.parent.is_dir():
        raise BenchError(f"the folder {path.parent} of --picture does not exist; create it first")
    if path.is_dir():
        raise BenchError(f"--picture {path} is a folder; give the name of a file in it")
    try:
        import matplotlib.figure  # noqa: F401 - checks that it is installed
    except ImportError:
        raise ConfigError(
            "--picture needs matplotlib, which is not installed: pip install 'dragoman[training]'"
        ) from None


def draw_picture(report: BenchReport, path: Path) -> None:
    """Draws a point for each arrival rate and precision, as .png or .svg by the file's name."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots()
    for number, each in enumerate(report.precisions):
        color = _COLORS[number % len(_COLORS)]
        loops = sorted(each.open_loop, key=lambda row: row.rate_per_s)
        answered = [row.achieved_per_s for row in loops]
        p50 = [row.latency.p50_ms for row in loops]
        p99 = [row.latency.p99_ms for row in loops]
        axes.plot(answered, p50, color=color, marker="o", label=f"{each.precision}, p50")
        axes.plot(answered, p99, color=color, marker="^", ls="--", label=f"{each.precision}, p99")
        offline = next(r for r in each.throughput if r.beam_size == report.beam_size)
        axes.axvline(offline.sentences_per_s, color=color, ls=":", lw=1)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(left=0)
    axes.set_xlabel("requests answered per second (dotted: sentences per second, all at once)")
    axes.set_ylabel("latency from arrival to answer, ms")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    first = report.precisions[0]
    axes.set_title(
        f"{report.checkpoint}, beam {report.beam_size}, {first.device}, "
        f"{counted(first.threads, 'thread')}, {report.processor}",
        parse_math=False,
        fontsize=10,
    )
    with replaced_file(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=110)
