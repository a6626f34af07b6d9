"""What `dragoman bench` is asked to measure, and the sentences it measures with."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.errors import InputError
from model.text.text_file import read_lines
from service.commands.loading import Loading

PRECISIONS = ("fp32", "bf16", "int8")
SHARES_OF_THROUGHPUT = (0.10, 0.25, 0.50, 0.75, 0.90, 1.10)  # the last one cannot be kept up


@dataclass(frozen=True)
class BenchPlan:
    """What is measured with each precision."""

    beam_sizes: tuple[int, ...] = (1, 5)  # the checkpoint's own is measured too
    rates: tuple[float, ...] | None = None  # requests/s; None: shares of the offline throughput
    seconds: float = 5.0  # of every arrival rate, and of short beside long

    def all_beam_sizes(self, own: int) -> tuple[int, ...]:
        """Without repetition, in the order asked for; the checkpoint's own is among them."""
        return tuple(dict.fromkeys((*self.beam_sizes, own)))

    def num_measurements(self, own: int) -> int:
        """Of one precision: what the progress bar counts."""
        num_rates = len(SHARES_OF_THROUGHPUT if self.rates is None else self.rates)
        return 2 * len(self.all_beam_sizes(own)) + num_rates + 2


@dataclass(frozen=True)
class Task:
    """What one process measures: everything, with one precision."""

    loading: Loading
    plan: BenchPlan
    sentences: tuple[str, ...]
    started: float  # time.monotonic() just before the process was started


def sentences_of(
    source: Path | None, limit: int, checkpoint: Path, metrics: Mapping[str, Any]
) -> tuple[tuple[str, ...], str]:
    """Up to `limit` sentences of a file, or of those the checkpoint carries; whence they are.

    The checkpoint's few examples are repeated until there are enough. InputError: there is none.
    """
    if source is not None:
        lines = (line for line in read_lines(source) if line.strip())
        sentences = tuple(itertools.islice(lines, limit))
        if not sentences:
            raise InputError(f"{source} has no sentence to translate; choose another file")
        return sentences, f"{len(sentences):,} from {source}"
    examples = _examples(metrics, checkpoint)
    sentences = tuple(itertools.islice(itertools.cycle(examples), limit))
    repeated = ", repeated" if limit > len(examples) else ""
    return sentences, f"{limit:,}: the checkpoint's {len(examples)} examples{repeated}"


def _examples(metrics: Mapping[str, Any], checkpoint: Path) -> list[str]:
    """The held-out source sentences that export kept in the checkpoint's metrics.json."""
    kept = metrics.get("examples")
    found = kept if isinstance(kept, list) else []
    examples = [each for each in found if isinstance(each, str) and each.strip()]
    if not examples:
        raise InputError(
            f"{checkpoint} carries no example sentences; give a file of source sentences with "
            f"--source FILE"
        )
    return examples
