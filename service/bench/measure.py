"""Measures one precision: start, throughput, latency and memory.

Runs in a process of its own (process.py). Loading comes first, before torch and the files are
cached in memory; memory is read last.
"""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from model.errors import InputError
from model.system.process import num_cores
from service.bench.latency import one_by_one, short_beside_long
from service.bench.open_loop import open_loop
from service.bench.plan import SHARES_OF_THROUGHPUT, Task
from service.bench.report import AloneLatency, PrecisionReport, Throughput
from service.bench.usage import cpu_seconds, memory_mb
from service.commands.loading import load_translator, search_settings

if TYPE_CHECKING:
    from model.decoding.search_config import SearchConfig
    from model.translation import Translation

_ALONE_SENTENCES = 100  # translated one by one; the fewest with a meaningful 99th percentile
_WARM_UP_SENTENCES = 64  # the first calls choose kernels and fill the allocators


class BatchTranslator(Protocol):
    """The part of model.translator.Translator that a throughput measurement calls."""

    @property
    def process_ids(self) -> tuple[int, ...]: ...

    def translate(
        self, texts: Sequence[str], search: "SearchConfig | None" = None
    ) -> "list[Translation]": ...


def measure(task: Task, *, progress: Callable[[int], None]) -> PrecisionReport:
    """Makes all measurements of the plan and calls `progress` with the number made so far.

    ConfigError: the precision is not available on this machine.
    """
    import_started = time.monotonic()
    import torch

    from model import translator as _  # noqa: F401 - imported to be timed
    from model.inference.precision import resolve_device

    imported = time.monotonic()
    translator = load_translator(task.loading, many_texts=True)
    loaded = time.monotonic()
    with translator:
        translator.translate(task.sentences[:1])
        first_translated = time.monotonic()
        translator.start()

        num_done = 0

        def done() -> None:
            nonlocal num_done
            num_done += 1
            progress(num_done)

        own_search = search_settings(translator, {})
        throughput, alone, loops = {}, [], []
        for beam_size in task.plan.all_beam_sizes(own_search.beam_size):
            search = search_settings(translator, {"beam_size": beam_size})
            throughput[beam_size] = measure_throughput(translator, task.sentences, search)
            done()
            latency = one_by_one(translator, task.sentences[:_ALONE_SENTENCES], search)
            alone.append(AloneLatency(beam_size, latency))
            done()
        sentences_per_s = throughput[own_search.beam_size].sentences_per_s
        shares = [share * sentences_per_s for share in SHARES_OF_THROUGHPUT]
        for rate in task.plan.rates or shares:
            loops.append(open_loop(translator, task.sentences, rate, task.plan.seconds, own_search))
            done()
        mixed = short_beside_long(translator, task.sentences, own_search, task.plan.seconds)
        done()

        device = resolve_device(task.loading.device)
        on_gpu = device.type == "cuda"
        return PrecisionReport(
            precision=translator.checkpoint.precision,
            device=torch.cuda.get_device_name(device) if on_gpu else "cpu",
            threads=task.loading.threads or num_cores(),
            import_s=imported - import_started,
            load_s=loaded - imported,
            first_translation_s=first_translated - task.started,
            peak_memory_mb=memory_mb(translator.process_ids),
            peak_gpu_memory_mb=torch.cuda.max_memory_allocated(device) / 1e6 if on_gpu else None,
            throughput=tuple(throughput.values()),
            alone=tuple(alone),
            open_loop=tuple(loops),
            short_beside_long=mixed,
        )


def measure_throughput(
    translator: BatchTranslator, sentences: Sequence[str], search: "SearchConfig"
) -> Throughput:
    """Translates all sentences at once, after some of them as a warm-up.

    InputError: a text cannot be translated, or none has anything to translate.
    """
    translator.translate(sentences[:_WARM_UP_SENTENCES], search)
    started, cpu_started = time.perf_counter(), cpu_seconds(translator.process_ids)
    translations = translator.translate(sentences, search)
    seconds = time.perf_counter() - started
    cpu = cpu_seconds(translator.process_ids) - cpu_started
    source_tokens = sum(each.source_tokens for each in translations)
    if not source_tokens:
        raise InputError("the sentences have nothing to translate; choose others with --source")
    return Throughput(
        beam_size=search.beam_size,
        num_sentences=len(sentences),
        seconds=seconds,
        cores_used=cpu / seconds,
        sentences_per_s=len(sentences) / seconds,
        source_tokens_per_s=source_tokens / seconds,
        target_tokens_per_s=sum(each.target_tokens for each in translations) / seconds,
    )
