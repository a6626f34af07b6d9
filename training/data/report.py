"""CorpusReport: what became of every pair read, to print and to keep with the checkpoint."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from training.data.cleaning import Rule


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputFile(_Record):
    """A file that was read; only its name, since the report travels inside the checkpoint."""

    name: str
    num_bytes: int
    sha256: str


class CorpusCounts(_Record):
    """One training corpus, or all of them: pairs read = kept + the victims of all rules."""

    name: str
    weight: float = 1.0
    read: int
    kept: int
    removed: dict[Rule, int]  # every rule, zeros too
    source_pieces: int  # of the pairs kept, EOS not counted
    target_pieces: int


class SplitCounts(_Record):
    """The dev or the test split."""

    pairs: int
    held_out: bool  # taken out of the training corpora, for want of files of its own


class CorpusReport(_Record):
    """Counts per training corpus and in total, both held splits, and every input's hash."""

    corpora: tuple[CorpusCounts, ...]
    dev: SplitCounts
    test: SplitCounts | None
    files: tuple[InputFile, ...]

    @property
    def total(self) -> CorpusCounts:
        """All training corpora together."""
        return CorpusCounts(
            name="total",
            read=sum(corpus.read for corpus in self.corpora),
            kept=sum(corpus.kept for corpus in self.corpora),
            removed={rule: sum(corpus.removed[rule] for corpus in self.corpora) for rule in Rule},
            source_pieces=sum(corpus.source_pieces for corpus in self.corpora),
            target_pieces=sum(corpus.target_pieces for corpus in self.corpora),
        )

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values, with the totals."""
        return {**self.model_dump(mode="json"), "total": self.total.model_dump(mode="json")}

    def lines(self) -> list[str]:
        """The report as a table of plain text, one row a corpus, then a line on dev and test."""
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
    """Names to the left, numbers to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        )
        for row in table
    ]
