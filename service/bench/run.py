"""The whole of `dragoman bench`: every precision in turn, put together."""

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from model.errors import ConfigError
from model.system.process import num_cores
from model.system.progress import line_progress
from service.bench.plan import BenchPlan, Task, sentences_of
from service.bench.process import measure_apart
from service.bench.report import BenchReport, PrecisionReport, Unsupported
from service.commands.loading import Loading


def run_bench(
    loading: Loading,
    precisions: Sequence[str],
    plan: BenchPlan,
    *,
    source: Path | None,
    num_sentences: int,
) -> BenchReport:
    """Measure each precision (that of `loading` does not count) in a process of its own.

    Without `source`, the sentences are those that the checkpoint carries. One that cannot be had is
    reported with its reason; ConfigError when none can.
    """
    import torch

    from model.checkpoint import read_description

    description = read_description(loading.checkpoint)
    sentences, sentences_from = sentences_of(
        source, num_sentences, loading.checkpoint, description.metrics
    )
    own_beam_size = description.config.search.beam_size
    each = plan.num_measurements(own_beam_size)
    found: list[PrecisionReport | Unsupported] = []
    with line_progress("measuring", each * len(precisions), "measurements") as progress:
        for number, precision in enumerate(precisions):
            task = Task(
                replace(loading, precision=precision), plan, sentences, started=time.monotonic()
            )
            found.append(measure_apart(task, progress=partial(_count, progress, number * each)))
            progress((number + 1) * each)
    reports = tuple(one for one in found if isinstance(one, PrecisionReport))
    unsupported = tuple(one for one in found if isinstance(one, Unsupported))
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


def _count(progress: Callable[[int], None], before: int, num_done: int) -> None:
    progress(before + num_done)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()
