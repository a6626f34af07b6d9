"""CorpusReport: how many pairs were read, kept and removed, printed and kept in checkpoints."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from training.data.cleaning import Rule


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputFile(_Record):
    """An input file; without its folder, because the report becomes part of the checkpoint."""

    name: str
    num_bytes: int
    sha256: str


class CorpusCounts(_Record):
    """Counts of one training corpus, or of all: pairs read = kept + removed by all rules."""

    name: str
    weight: float = 1.0
    read: int
    kept: int
    removed: dict[Rule, int]  # every rule, zeros too
    source_pieces: int  # of the pairs kept, EOS not counted
    target_pieces: int


class SplitCounts(_Record):
    """Size of the dev or test split, and whether it was held out of the training corpora."""

    pairs: int
    held_out: bool  # of the training corpora


class CorpusReport(_Record):
    """Counts of every training corpus, sizes of dev and test, and the hash of every input file."""

    corpora: tuple[CorpusCounts, ...]
    dev: SplitCounts
    test: SplitCounts | None
    files: tuple[InputFile, ...]

    @property
    def total(self) -> CorpusCounts:
        """Counts of all training corpora together."""
        return CorpusCounts(
            name="total",
            read=sum(corpus.read for corpus in self.corpora),
            kept=sum(corpus.kept for corpus in self.corpora),
            removed={rule: sum(corpus.removed[rule] for corpus in self.corpora) for rule in Rule},
            source_pieces=sum(corpus.source_pieces for corpus in self.corpora),
            target_pieces=sum(corpus.target_pieces for corpus in self.corpora),
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the report with its totals as JSON values."""
        return {**self.model_dump(mode="json"), "total": self.total.model_dump(mode="json")}

    def lines(self) -> list[str]:
        """Returns the report as a text table, one line per corpus, and a line on dev and test."""
        rows = list(self.corpora) if len(self.corpora) == 1 else [*self.corpora, self.total]
        header = ["corpus", "read", "kept", *(rule.replace("_", " ") for rule in Rule)]
        header += ["source pieces", "target pieces"]
        table = [header]
        for row in rows:
            counts = [row.read, row.kept, *(row.removed[rule] for rule in Rule)]
            counts += [row.source_pieces, row.target_pieces]
            weight = "" if row.weight == 1 else f" (weight {row.weight:g})"
            table.append([row.name + weight, *(f"{count:,}" for count in counts)])
        splits = [f"dev: {_describe(self.dev)}"]
        splits.append(f"test: {_describe(self.test)}" if self.test else "no test split")
        return [*_aligned(table), "; ".join(splits)]


def _describe(split: SplitCounts) -> str:
    origin = ", held out of the training corpora" if split.held_out else ""
    return f"{split.pairs:,} pairs{origin}"


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Aligns a table: names to the left, numbers to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        )
        for row in table
    ]
