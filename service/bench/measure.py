"""Everything that is measured with one precision, in an order that keeps it honest.

Runs in a process of its own (process.py). Loading comes first, while nothing is warm; memory is
read before the ceilings make their large matrices.
"""

import time
from collections.abc import Callable

from model.system.process import num_cores
from service.bench.latency import one_by_one, short_beside_long
from service.bench.open_loop import open_loop
from service.bench.plan import SHARES_OF_THROUGHPUT, Task
from service.bench.report import Alone, PrecisionReport
from service.bench.usage import memory_mb
from service.commands.loading import load_translator, search_settings

_ALONE_SENTENCES = 100  # translated one by one; enough for a 99th percentile to mean something


def measure(task: Task, *, progress: Callable[[int], None]) -> PrecisionReport:
    """Measure. `progress` is told how many of the plan's measurements are done.

    ConfigError: this precision cannot be had here.
    """
    import_started = time.monotonic()
    import torch

    from model import translator as _  # noqa: F401 - imported to be timed
    from model.inference.precision import resolve_device
    from service.bench.offline import Machine, ceilings_of, run_offline, throughput_of
    from service.bench.peak import torch_threads

    imported = time.monotonic()
    threads = task.loading.threads or num_cores()
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
        runs, alone, loops = {}, [], []
        for beam_size in task.plan.all_beam_sizes(own_search.beam_size):
            search = search_settings(translator, {"beam_size": beam_size})
            runs[beam_size] = run_offline(translator, task.sentences, search)
            done()
            latency = one_by_one(translator, task.sentences[:_ALONE_SENTENCES], search)
            alone.append(Alone(beam_size, latency))
            done()
        own_run = runs[own_search.beam_size]
        shares = [share * own_run.sentences_per_s for share in SHARES_OF_THROUGHPUT]
        for rate in task.plan.rates or shares:
            loops.append(open_loop(translator, task.sentences, rate, task.plan.seconds, own_search))
            done()
        mixed = short_beside_long(translator, task.sentences, own_search, task.plan.seconds)
        done()

        device = resolve_device(task.loading.device)
        peak_memory_mb = memory_mb(translator.process_ids)
        on_gpu = device.type == "cuda"
        gpu_peak = torch.cuda.max_memory_allocated(device) / 1e6 if on_gpu else None
        config, slots = translator.checkpoint.config.model, task.loading.slots
        with torch_threads(threads):
            machine = Machine.measure(translator.checkpoint.precision, device)
            ceilings = ceilings_of(own_run, config, machine, slots=slots)
        done()
        return PrecisionReport(
            precision=machine.precision,
            device=torch.cuda.get_device_name(device) if on_gpu else "cpu",
            threads=threads,
            import_s=imported - import_started,
            load_s=loaded - imported,
            first_translation_s=first_translated - task.started,
            peak_memory_mb=peak_memory_mb,
            peak_gpu_memory_mb=gpu_peak,
            throughput=tuple(
                throughput_of(run, config, machine, slots=slots) for run in runs.values()
            ),
            alone=tuple(alone),
            open_loop=tuple(loops),
            short_beside_long=mixed,
            ceilings=ceilings,
        )
