"""What `dragoman bench` measures, and the sentences that it translates."""

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
    """The measurements to make with each precision."""

    beam_sizes: tuple[int, ...] = (1, 5)  # the checkpoint's own is measured too
    rates: tuple[float, ...] | None = None  # requests/s; None: shares of the offline throughput
    seconds: float = 5.0  # for each arrival rate, and for short beside long

    def all_beam_sizes(self, own: int) -> tuple[int, ...]:
        """Returns each beam size once, in the order given, and the checkpoint's own."""
        return tuple(dict.fromkeys((*self.beam_sizes, own)))

    def num_measurements(self, own: int) -> int:
        """Returns how many measurements one precision takes; the progress bar counts them."""
        num_rates = len(SHARES_OF_THROUGHPUT if self.rates is None else self.rates)
        return 2 * len(self.all_beam_sizes(own)) + num_rates + 1


@dataclass(frozen=True)
class Task:
    """The work of one measuring process: the whole plan with one precision."""

    loading: Loading
    plan: BenchPlan
    sentences: tuple[str, ...]
    started: float  # time.monotonic() just before the process starts


def sentences_of(
    source: Path | None, limit: int, checkpoint: Path, metrics: Mapping[str, Any]
) -> tuple[tuple[str, ...], str]:
    """Returns up to `limit` sentences, and a description of where they come from.

    They are the first lines of `source`. Without `source` they are the checkpoint's few examples,
    repeated until there are `limit`. InputError: there are no sentences.
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
    """Returns the held-out source sentences that export kept in metrics.json."""
    kept = metrics.get("examples")
    found = kept if isinstance(kept, list) else []
    examples = [each for each in found if isinstance(each, str) and each.strip()]
    if not examples:
        raise InputError(
            f"{checkpoint} contains no example sentences; give a file of source sentences with "
            f"--source FILE"
        )
    return examples
