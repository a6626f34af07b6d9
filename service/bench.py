"""Speed and latency of one checkpoint on this machine; every number is measured, none assumed."""

import itertools
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import InputError
from service.loading import Loading, load_translator, search_settings
from service.text_lines import read_lines

if TYPE_CHECKING:
    from model.translator import Translator

_LATENCY_SENTENCES = 100  # translated one by one; enough for a 99th percentile to mean something
_WARM_UP = 8  # first calls choose kernels and fill allocators


@dataclass(frozen=True)
class Throughput:
    """All sentences at once through one engine."""

    beam_size: int
    slots: int
    num_sentences: int
    seconds: float
    sentences_per_s: float
    source_tokens_per_s: float
    target_tokens_per_s: float


@dataclass(frozen=True)
class Latency:
    """One sentence at a time, nothing else running."""

    beam_size: int
    num_sentences: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True)
class BenchReport:
    """What `dragoman bench` prints."""

    checkpoint: str
    version: str
    device: str
    precision: str
    torch_version: str
    threads: int
    processor: str
    sentences_from: str
    import_s: float  # torch and our modules, before anything is loaded
    load_s: float  # hashes checked, weights read, tokenizers ready
    first_translation_s: float  # from the start of the import to the first translated sentence
    throughput: tuple[Throughput, ...]
    latency: tuple[Latency, ...]
    peak_memory_mb: float  # of the whole process, everything above included
    peak_gpu_memory_mb: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        gpu = self.peak_gpu_memory_mb
        return [
            f"{self.checkpoint} {self.version} on {self.device} in {self.precision}, "
            f"torch {self.torch_version}, {self.threads} threads, {self.processor}",
            f"sentences: {self.sentences_from}",
            "",
            f"start to first translation {self.first_translation_s:.2f} s "
            f"(import {self.import_s:.2f} s, load {self.load_s:.2f} s)",
            f"peak memory {self.peak_memory_mb:,.0f} MB"
            + ("" if gpu is None else f", on the GPU {gpu:,.0f} MB"),
            "",
            "beam  slots  sentences/s  source tokens/s  target tokens/s",
            *(
                f"{row.beam_size:>4}  {row.slots:>5}  {row.sentences_per_s:>11,.1f}"
                f"  {row.source_tokens_per_s:>15,.0f}  {row.target_tokens_per_s:>15,.0f}"
                for row in self.throughput
            ),
            "",
            "one sentence alone, ms",
            "beam      p50      p90      p99      max",
            *(
                f"{row.beam_size:>4}  {row.p50_ms:>7.1f}  {row.p90_ms:>7.1f}"
                f"  {row.p99_ms:>7.1f}  {row.max_ms:>7.1f}"
                for row in self.latency
            ),
        ]


@dataclass(frozen=True)
class BenchPlan:
    """What to measure: every beam size with every number of slots."""

    beam_sizes: tuple[int, ...]
    slots: tuple[int, ...]
    num_sentences: int

    @property
    def num_settings(self) -> int:
        return len(self.beam_sizes) * len(self.slots)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` percent of the values do not exceed."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[max(int(rank), 1) - 1]


def example_sentences(metrics: Mapping[str, Any], checkpoint: Path) -> list[str]:
    """The held-out source sentences that export kept in the checkpoint's metrics.json."""
    examples = metrics.get("examples")
    if not isinstance(examples, list) or not any(isinstance(each, str) for each in examples):
        raise InputError(
            f"{checkpoint} carries no example sentences; give a file of source sentences with "
            f"--source FILE"
        )
    return [each for each in examples if isinstance(each, str) and each.strip()]


def run_bench(
    loading: Loading, source: Path | None, plan: BenchPlan, *, progress: Callable[[int], None]
) -> BenchReport:
    """Measure. `progress` is told how many settings of the plan are done.

    Without `source`, the sentences are those that the checkpoint carries.
    """
    if source is not None:
        sentences = _first_sentences(source, plan.num_sentences)
        sentences_from = f"{len(sentences):,} from {source}"
    started = time.perf_counter()
    import torch

    from model import translator as _  # noqa: F401 - imported to be timed

    imported = time.perf_counter()
    translator = load_translator(replace(loading, slots=plan.slots[0]))
    loaded = time.perf_counter()
    checkpoint = translator.checkpoint
    if source is None:
        examples = example_sentences(checkpoint.metrics, loading.checkpoint)
        sentences = list(itertools.islice(itertools.cycle(examples), plan.num_sentences))
        repeated = ", repeated" if len(sentences) > len(examples) else ""
        sentences_from = f"{len(sentences):,}: the checkpoint's {len(examples)} examples{repeated}"
    translator.translate(sentences[:1])
    first_translated = time.perf_counter()

    rows: list[Throughput] = []
    for num_slots in plan.slots:
        if num_slots != plan.slots[0]:
            translator = load_translator(replace(loading, slots=num_slots))
        for beam_size in plan.beam_sizes:
            rows.append(_throughput(translator, sentences, beam_size, num_slots))
            progress(len(rows))
    alone = sentences[:_LATENCY_SENTENCES]
    network_device = next(checkpoint.network.parameters()).device
    on_gpu = network_device.type == "cuda"
    gpu_peak = torch.cuda.max_memory_allocated(network_device) / 1e6 if on_gpu else None
    return BenchReport(
        checkpoint=checkpoint.name,
        version=checkpoint.version,
        device=torch.cuda.get_device_name(network_device) if on_gpu else "cpu",
        precision=checkpoint.precision,
        torch_version=torch.__version__,
        threads=torch.get_num_threads(),
        processor=f"{_processor()}, {os.cpu_count()} cores",
        sentences_from=sentences_from,
        import_s=imported - started,
        load_s=loaded - imported,
        first_translation_s=first_translated - started,
        throughput=tuple(rows),
        latency=tuple(_latency(translator, alone, beam_size) for beam_size in plan.beam_sizes),
        peak_memory_mb=_peak_memory_mb(),
        peak_gpu_memory_mb=gpu_peak,
    )


def _first_sentences(path: Path, limit: int) -> list[str]:
    lines = (line for line in read_lines(path) if line.strip())
    sentences = list(itertools.islice(lines, limit))
    if not sentences:
        raise InputError(f"{path} has no sentence to translate; choose another file")
    return sentences


def _throughput(
    translator: "Translator", sentences: Sequence[str], beam_size: int, slots: int
) -> Throughput:
    search = search_settings(translator, {"beam_size": beam_size})
    translator.translate(sentences[:_WARM_UP], search)
    started = time.perf_counter()
    translations = translator.translate(sentences, search)
    seconds = time.perf_counter() - started
    return Throughput(
        beam_size=beam_size,
        slots=slots,
        num_sentences=len(sentences),
        seconds=seconds,
        sentences_per_s=len(sentences) / seconds,
        source_tokens_per_s=sum(each.source_tokens for each in translations) / seconds,
        target_tokens_per_s=sum(each.target_tokens for each in translations) / seconds,
    )


def _latency(translator: "Translator", sentences: Sequence[str], beam_size: int) -> Latency:
    search = search_settings(translator, {"beam_size": beam_size})
    translator.translate(sentences[:1], search)
    times_ms = []
    for sentence in sentences:
        started = time.perf_counter()
        translator.translate([sentence], search)
        times_ms.append(1000 * (time.perf_counter() - started))
    return Latency(
        beam_size=beam_size,
        num_sentences=len(times_ms),
        p50_ms=percentile(times_ms, 50),
        p90_ms=percentile(times_ms, 90),
        p99_ms=percentile(times_ms, 99),
        max_ms=max(times_ms),
    )


def _peak_memory_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6  # Linux counts KiB


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        return platform.processor() or platform.machine()
    return platform.processor() or platform.machine()
