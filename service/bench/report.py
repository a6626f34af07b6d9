"""What `dragoman bench` measured. The names of the fields are the names in its JSON."""

from dataclasses import asdict, dataclass
from typing import Any

from service.bench.latency import ShortBesideLong
from service.bench.open_loop import LatencySummary, OpenLoop


@dataclass(frozen=True)
class Throughput:
    """All sentences at once.

    Shares are of what the machine can do at best: 1.0 is the ceiling. Work is counted as
    service/bench/flops.py says.
    """

    beam_size: int
    num_sentences: int
    seconds: float
    cores_used: float  # CPU time a second; far below `threads`: the machine was busy with others
    sentences_per_s: float
    source_tokens_per_s: float
    target_tokens_per_s: float
    multiply_adds_per_s: float
    share_of_ceiling: float | None  # of multiply_adds_per_s; None: no such product to compare with
    share_of_copy_ceiling: float  # of the bytes that products move with every slot busy


@dataclass(frozen=True)
class Alone:
    """One sentence at a time, nothing else running."""

    beam_size: int
    latency: LatencySummary


@dataclass(frozen=True)
class StageWork:
    """One part of the network, per target token of the translation (all its beams together)."""

    stage: str
    multiply_adds: float  # the encoder's are spread over the target tokens
    share_of_work: float
    # Its bare products, at the shapes that they have with every slot busy:
    bare_us: float | None  # microseconds; None: torch has no such product here
    bare_share_of_ceiling: float | None


@dataclass(frozen=True)
class Ceilings:
    """What the machine can do, and what a translation with the checkpoint's own beam asks of it."""

    multiply_adds_per_s: float | None  # one large product; None: torch has none in this precision
    copied_bytes_per_s: float  # one large copy: read and written
    beam_size: int
    num_sentences: int  # that share a step
    source_tokens: int  # of each; the mean of what was translated
    bytes_per_step: int  # products' operands and results, each once
    stages: tuple[StageWork, ...]
    bare_tokens_per_s: float | None  # target tokens, if nothing but the bare products took time
    share_of_bare: float | None  # what the translator reached of it


@dataclass(frozen=True)
class PrecisionReport:
    """One precision, measured in a process of its own."""

    precision: str
    device: str  # "cpu", or the GPU's name
    threads: int
    import_s: float  # torch and our modules
    load_s: float  # hashes checked, weights read, tokenizers ready
    first_translation_s: float  # from the start of the process to the first translated sentence
    peak_memory_mb: float  # this process at its peak, its engines as they are
    peak_gpu_memory_mb: float | None
    throughput: tuple[Throughput, ...]  # by beam size
    alone: tuple[Alone, ...]  # by beam size
    open_loop: tuple[OpenLoop, ...]  # by arrival rate, with the checkpoint's own beam
    short_beside_long: ShortBesideLong
    ceilings: Ceilings


@dataclass(frozen=True)
class Unsupported:
    """A precision that cannot be had here."""

    precision: str
    reason: str


@dataclass(frozen=True)
class BenchReport:
    """What `dragoman bench` prints."""

    checkpoint: str
    version: str
    processor: str
    cores: int  # that this process may use
    torch_version: str
    slots: int
    beam_size: int  # the checkpoint's own: of the open loop, short beside long, and the stages
    sentences_from: str
    precisions: tuple[PrecisionReport, ...]
    unsupported: tuple[Unsupported, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
