"""The road from corpora on disk to token ids: read, clean, hold out, fit the tokenizer, encode.

Everything happens in one folder that appears, complete, at the end:

    train.source, train.target   cleaned text, one segment a line (some are longer than max_tokens)
    train/                       the token store, what training reads
    dev.*, test.*                raw text, never cleaned
    tokenizers/                  SentencePiece models
    report.json, manifest.json   what became of every pair; from which settings and files

The corpora stream from file to file in three passes, each a step of `steps.py` that all
cores share; this process reads and writes, in the order of the input, so the result is the same
byte for byte whatever the number of processes. Memory does not grow with the corpora beyond one
byte a pair (is it a repeat?) and the pages of a file of 8 bytes a pair, which the system may take
back; finding repeats works in 40 bytes a pair up to 256 MiB and in more passes beyond
(cleaning.py); dev and test are held in memory. Most is taken by fitting the tokenizer, 2 GB for
corpora of any size. Disk, while preparing: the text twice and 8 bytes a pair.
"""

import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from itertools import accumulate, chain
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Bool

from model.system.atomic_files import replaced_folder, write_json
from model.system.process import give_back_memory, num_cores
from model.text.tokenizer import TokenizerPair
from training.config import DataConfig, TokenizerConfig
from training.data.cleaning import Rule, mark_repeats
from training.data.held_out import Splits, hold_out, read_held, write_held
from training.data.parallel import MAX_WORKERS, map_in_order
from training.data.prepared import (
    PreparedCorpus,
    SourceFile,
    describe_inputs,
    lines_of,
    open_prepared,
    write_manifest,
)
from training.data.readers import PairBlock, corpus_name, read_blocks
from training.data.report import CorpusCounts, CorpusReport, InputFile, SplitCounts
from training.data.steps import (
    CANDIDATES,
    TRAIN,
    CandidateSpan,
    ChooseTrainText,
    Encode,
    FindCandidates,
)
from training.data.text_spans import TextSpan, new_spans, spanned_files
from training.data.token_store import write_token_store
from training.errors import CorpusError

__all__ = ["PreparedCorpus", "Progress", "open_prepared", "prepare"]

# Starting a worker takes as long as the cleaning of some megabytes.
_BYTES_PER_WORKER = 8 << 20
_GZIP_RATIO = 3  # of text, roughly

Item = TypeVar("Item")
Result = TypeVar("Result")
Texts = Callable[[], Iterator[str]]
FitTokenizers = Callable[[Texts, Texts], TokenizerPair]
Progress = Callable[[str, int, int | None], None]  # stage, pairs done, pairs in all if known


@dataclass
class _Tally:
    """Counts of one training corpus while it is prepared."""

    name: str
    weight: float
    read: int = 0
    candidates: int = 0  # passed the rules on text
    texts: int = 0  # lines in train.source and train.target
    kept: int = 0
    spans: list[TextSpan] = field(default_factory=list)  # of its candidates, then of its texts
    removed: Counter[Rule] = field(default_factory=Counter)
    source_pieces: int = 0
    target_pieces: int = 0

    def counts(self) -> CorpusCounts:
        return CorpusCounts(
            name=self.name,
            weight=self.weight,
            read=self.read,
            kept=self.kept,
            removed={rule: self.removed[rule] for rule in Rule},
            source_pieces=self.source_pieces,
            target_pieces=self.target_pieces,
        )


def prepare(
    data: DataConfig,
    *,
    tokenizer: TokenizerConfig | None,
    folder: Path,
    fit: FitTokenizers,
    report: Callable[[str], None],
    progress: Progress | None = None,
    num_workers: int | None = None,
) -> PreparedCorpus:
    """Reads, cleans, splits and encodes the corpora into `folder`; the same input, the same bytes.

    `fit` gets the cleaned training text of either side and returns the tokenizers; `tokenizer` is
    what they were fitted with (None: they came ready-made) and is only recorded. `num_workers` are
    the processes that share the work (None: one a core, fewer for small corpora). Raises
    InputError or CorpusError for damaged input or when nothing is left; an OSError passes through.
    Either way the folder does not appear.
    """
    progress = progress or _no_progress
    for leftover in folder.parent.glob(f".{folder.name}.*.tmp"):
        shutil.rmtree(leftover)  # of an attempt that was killed, maybe as large as the corpus
    with replaced_folder(folder) as work:
        inputs = describe_inputs(data)
        num_workers = num_workers or default_workers(inputs)
        dev = read_held("dev", data.dev, data)
        test = read_held("test", data.test, data)
        tallies = [_Tally(corpus_name(corpus), corpus.weight) for corpus in data.train]
        _scan(data, work, tallies, num_workers, progress)
        _refuse_if_empty(tallies, [tally.candidates for tally in tallies])
        hashes = np.memmap(work / "hashes.bin", dtype="<u8", mode="r").view(np.ndarray)
        repeats = mark_repeats(hashes)
        spans = [span for tally in tallies for span in tally.spans]
        splits = hold_out(data, work, spans, hashes, ~repeats, dev, test)
        del hashes  # or the disk space of its file would stay taken
        if not data.cleaning.drop_duplicates:
            repeats[:] = False
        _write_train_text(work, tallies, repeats, splits, num_workers, progress)
        _refuse_if_empty(tallies, [tally.texts for tally in tallies])
        write_held(work, "dev", splits.dev)
        if splits.test is not None:
            write_held(work, "test", splits.test)

        source_text, target_text = spanned_files(work, TRAIN)
        tokenizers = fit(lambda: lines_of(source_text), lambda: lines_of(target_text))
        give_back_memory()
        with replaced_folder(work / "tokenizers") as models:
            tokenizers.save(models)
        _encode(data, work, tallies, tokenizers, num_workers, progress)
        _refuse_if_empty(tallies, [tally.kept for tally in tallies])
        corpus_report = CorpusReport(
            corpora=tuple(tally.counts() for tally in tallies),
            dev=SplitCounts(pairs=len(splits.dev), held_out=dev is None),
            test=splits.test and SplitCounts(pairs=len(splits.test), held_out=test is None),
            files=tuple(
                InputFile(name=file.path.name, num_bytes=file.num_bytes, sha256=file.sha256)
                for file in inputs
            ),
        )
        write_json(work / "report.json", corpus_report.model_dump(mode="json"))
        write_manifest(work, data, tokenizer, inputs)
    for line in corpus_report.lines():
        report(line)
    return open_prepared(folder, data, tokenizer=tokenizer, report=report)


def _no_progress(stage: str, done: int, total: int | None) -> None:
    """Nobody is watching."""


def default_workers(inputs: Sequence[SourceFile]) -> int:
    """As many as there are cores, or as are worth their start."""
    text_bytes = sum(
        file.num_bytes * (_GZIP_RATIO if file.path.suffix.lower() == ".gz" else 1)
        for file in inputs
    )
    return max(1, min(num_cores(), MAX_WORKERS, text_bytes // _BYTES_PER_WORKER))


def _mapped(
    step: Callable[[Item], Result], blocks: Iterable[Item], num_workers: int
) -> AbstractContextManager[Iterator[Result]]:
    """The results in order; leaving the context ends the processes."""
    return closing(map_in_order(step, blocks, num_workers=num_workers))


def _scan(
    data: DataConfig, work: Path, tallies: list[_Tally], num_workers: int, progress: Progress
) -> None:
    """First pass: what survives the rules on text, and a hash of each such pair, to disk."""

    def blocks() -> Iterator[PairBlock]:
        for corpus, tally in zip(data.train, tallies, strict=True):
            for block in read_blocks(
                corpus,
                source_language=data.source_language,
                target_language=data.target_language,
            ):
                owners.append(tally)
                yield block

    owners: deque[_Tally] = deque()  # of the blocks under way
    num_read = 0
    with (
        new_spans(work, CANDIDATES) as writer,
        (work / "hashes.bin").open("wb") as hashes,
        _mapped(FindCandidates(data.cleaning), blocks(), num_workers) as results,
    ):
        for candidates in results:
            tally, text = owners.popleft(), candidates.text
            tally.removed += text.removed
            tally.candidates += text.num_pairs
            tally.read += text.num_read
            if text.num_pairs:
                tally.spans.append(writer.append(text.num_pairs, text.source, text.target))
                hashes.write(candidates.hashes)
            num_read += text.num_read
            progress("reading", num_read, None)
    progress("reading", num_read, num_read)


def _write_train_text(
    work: Path,
    tallies: list[_Tally],
    repeats: Bool[np.ndarray, " candidates"],
    splits: Splits,
    num_workers: int,
    progress: Progress,
) -> None:
    """Second pass: candidates without dev, test, leaks and repeats become the training text."""
    taken = np.zeros(len(repeats), dtype=np.bool_)
    taken[list(splits.taken)] = True
    candidates = [tally.spans for tally in tallies]
    ends = accumulate(span.num_pairs for span in chain(*candidates))
    blocks = (
        CandidateSpan(span, taken[end - span.num_pairs : end], repeats[end - span.num_pairs : end])
        for span, end in zip(chain(*candidates), ends, strict=False)
    )
    num_done = 0
    with (
        new_spans(work, TRAIN) as writer,
        _mapped(ChooseTrainText(work, splits.sentences), blocks, num_workers) as results,
    ):
        for tally, spans in zip(tallies, candidates, strict=True):
            tally.spans = []
            for span, text in zip(spans, results, strict=False):
                tally.removed += text.removed
                tally.texts += text.num_pairs
                if text.num_pairs:
                    tally.spans.append(writer.append(text.num_pairs, text.source, text.target))
                num_done += span.num_pairs
                progress("splitting", num_done, len(repeats))
    for path in (*spanned_files(work, CANDIDATES), work / "hashes.bin"):
        path.unlink()


def _encode(
    data: DataConfig,
    work: Path,
    tallies: list[_Tally],
    tokenizers: TokenizerPair,
    num_workers: int,
    progress: Progress,
) -> None:
    """Third pass: training text to token ids; the rules on pieces."""
    spans = chain(*(tally.spans for tally in tallies))
    num_texts = sum(tally.texts for tally in tallies)
    num_done = 0
    with (
        write_token_store(
            work / "train",
            source_vocab_size=tokenizers.source.size,
            target_vocab_size=tokenizers.target.size,
            weights=[tally.weight for tally in tallies],
            max_tokens=data.cleaning.max_tokens,
        ) as writer,
        _mapped(Encode(work, tokenizers, data.cleaning), spans, num_workers) as results,
    ):
        for corpus_index, tally in enumerate(tallies):
            for span, encoded in zip(tally.spans, results, strict=False):
                writer.extend(encoded.ids, corpus_index)
                tally.removed += encoded.removed
                tally.kept += len(encoded.ids)
                tally.source_pieces += len(encoded.ids.ids[0])
                tally.target_pieces += len(encoded.ids.ids[1])
                num_done += span.num_pairs
                progress("encoding", num_done, num_texts)


def _refuse_if_empty(tallies: list[_Tally], remaining: list[int]) -> None:
    """Raises CorpusError that names the rule which removed most, when no pair remains."""
    if any(remaining):
        return
    names = ", ".join(tally.name for tally in tallies)
    num_read = sum(tally.read for tally in tallies)
    if not num_read:
        raise CorpusError(f"the training corpus is empty: no pairs in {names}")
    removed: Counter[Rule] = sum((tally.removed for tally in tallies), Counter())
    rule, count = removed.most_common(1)[0]
    raise CorpusError(
        f"no pair of {names} is left to train on: of {num_read:,} read, the rule {rule} removed "
        f"most ({count:,}); {_WAY_OUT[rule]}"
    )


_WAY_OUT = {
    Rule.EMPTY: "check that the files are the right ones",
    Rule.IDENTICAL: "if that is meant, set data.cleaning.drop_identical = false",
    Rule.TOO_LONG: "raise data.cleaning.max_tokens, or put one sentence on a line",
    Rule.HELD_OUT: "give dev and test files of their own",
    Rule.LEAKED: "dev and test must not be the training files",
    Rule.DUPLICATES: "set data.cleaning.drop_duplicates = false",
    Rule.LENGTH_RATIO: "check that the lines are aligned, or raise data.cleaning.max_length_ratio",
}
