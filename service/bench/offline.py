"""An offline run, and where it stands against the machine's ceilings."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from model.config import ModelConfig
from model.decoding.search_config import SearchConfig
from model.errors import InputError
from model.translation import Translation
from service.bench import flops as work
from service.bench.peak import copy_ceiling, matrix_ceiling, product_seconds
from service.bench.report import Ceilings, StageWork, Throughput
from service.bench.usage import cpu_seconds

if TYPE_CHECKING:
    import torch


_WARM_UP = 64  # first calls choose kernels and fill allocators


class TextTranslator(Protocol):
    """What is measured here of model.translator.Translator."""

    @property
    def process_ids(self) -> tuple[int, ...]: ...

    def translate(
        self, texts: Sequence[str], search: SearchConfig | None = None
    ) -> list[Translation]: ...


@dataclass(frozen=True)
class OfflineRun:
    """Many sentences translated at once; lengths are per segment that the network translated."""

    beam_size: int
    num_sentences: int
    seconds: float
    cores_used: float
    source_tokens: int  # EOS not counted
    target_tokens: int
    lengths: list[work.Lengths]

    @property
    def sentences_per_s(self) -> float:
        return self.num_sentences / self.seconds


@dataclass(frozen=True)
class Machine:
    """Which numbers are multiplied where, and how fast at best."""

    precision: str
    device: "torch.device"
    multiply_adds_per_s: float | None
    copied_bytes_per_s: float

    @classmethod
    def measure(cls, precision: str, device: "torch.device") -> "Machine":
        return cls(precision, device, matrix_ceiling(precision, device), copy_ceiling(device))


def run_offline(
    translator: TextTranslator, sentences: Sequence[str], search: SearchConfig
) -> OfflineRun:
    """Translate all sentences and take the time; some of them are translated before, to warm up.

    InputError names the text that cannot be translated, or says that there is none.
    """
    translator.translate(sentences[:_WARM_UP], search)
    started, cpu_started = time.perf_counter(), cpu_seconds(translator.process_ids)
    translations = translator.translate(sentences, search)
    seconds = time.perf_counter() - started
    cpu = cpu_seconds(translator.process_ids) - cpu_started
    lengths = [
        work.Lengths(source=len(segment.source_pieces) + 1, target=len(segment.token_log_probs))
        for translation in translations
        for segment in translation.segments
        if segment.source_pieces
    ]
    if not lengths:
        raise InputError("the sentences hold nothing to translate; choose others with --source")
    return OfflineRun(
        beam_size=search.beam_size,
        num_sentences=len(sentences),
        seconds=seconds,
        cores_used=cpu / seconds,
        source_tokens=sum(each.source_tokens for each in translations),
        target_tokens=sum(each.target_tokens for each in translations),
        lengths=lengths,
    )


def throughput_of(
    run: OfflineRun, config: ModelConfig, machine: Machine, *, slots: int
) -> Throughput:
    """The run's speed, and its shares of what the machine can do."""
    needed = work.translation_multiply_adds(config, run.lengths, run.beam_size)
    speed = sum(needed.values()) / run.seconds
    step = _full_step(config, run, slots)
    steps_per_s = sum(length.target for length in run.lengths) / step.num_sentences / run.seconds
    bytes_per_s = steps_per_s * work.bytes_moved(step.products, machine.precision)
    ceiling = machine.multiply_adds_per_s
    return Throughput(
        beam_size=run.beam_size,
        num_sentences=run.num_sentences,
        seconds=run.seconds,
        cores_used=run.cores_used,
        sentences_per_s=run.sentences_per_s,
        source_tokens_per_s=run.source_tokens / run.seconds,
        target_tokens_per_s=run.target_tokens / run.seconds,
        multiply_adds_per_s=speed,
        share_of_ceiling=None if ceiling is None else speed / ceiling,
        share_of_copy_ceiling=bytes_per_s / machine.copied_bytes_per_s,
    )


def ceilings_of(run: OfflineRun, config: ModelConfig, machine: Machine, *, slots: int) -> Ceilings:
    """What the run asked of the machine, stage by stage."""
    step = _full_step(config, run, slots)
    num_tokens = sum(length.target for length in run.lengths)
    needed = work.translation_multiply_adds(config, run.lengths, run.beam_size)
    encoder = work.encoder_products(config, sentences=step.num_sentences, src_len=step.src_len)
    # A target token's part of what is done once for `num_sentences` sentences.
    tokens_read_for = step.num_sentences * num_tokens / len(run.lengths)
    stages = []
    for stage, products in {**encoder, **step.products}.items():
        tokens = tokens_read_for if stage == "encoder" else step.num_sentences
        seconds = _bare_seconds(products, machine)
        bare_s = None if seconds is None else seconds / tokens
        done = sum(product.multiply_adds for product in products) / tokens
        ceiling = machine.multiply_adds_per_s
        stages.append(
            StageWork(
                stage=stage,
                multiply_adds=needed[stage] / num_tokens,
                share_of_work=needed[stage] / sum(needed.values()),
                bare_us=None if bare_s is None else 1e6 * bare_s,
                bare_share_of_ceiling=done / bare_s / ceiling if bare_s and ceiling else None,
            )
        )
    times = [stage.bare_us for stage in stages]
    bare = 1e6 / sum(t for t in times if t is not None) if None not in times else None
    return Ceilings(
        multiply_adds_per_s=machine.multiply_adds_per_s,
        copied_bytes_per_s=machine.copied_bytes_per_s,
        beam_size=run.beam_size,
        num_sentences=step.num_sentences,
        source_tokens=step.src_len,
        bytes_per_step=work.bytes_moved(step.products, machine.precision),
        stages=tuple(stages),
        bare_tokens_per_s=bare,
        share_of_bare=None if bare is None else num_tokens / run.seconds / bare,
    )


@dataclass(frozen=True)
class _Step:
    num_sentences: int
    src_len: int
    products: work.Products


def _full_step(config: ModelConfig, run: OfflineRun, slots: int) -> _Step:
    """One step with every slot busy, on sources of mean length."""
    num_sentences = min(slots, len(run.lengths))
    src_len = round(statistics.fmean(length.source for length in run.lengths))
    return _Step(
        num_sentences,
        src_len,
        work.step_products(
            config, sentences=num_sentences, beam_size=run.beam_size, src_len=src_len
        ),
    )


def _bare_seconds(products: Sequence[work.Product], machine: Machine) -> float | None:
    total = 0.0
    for product in products:
        seconds = product_seconds(product, machine.precision, machine.device)
        if seconds is None:
            return None
        total += seconds
    return total
