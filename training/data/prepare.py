"""Prepares a corpus: reads, cleans, holds out dev and test, fits the tokenizer, encodes.

The result is a folder that appears, complete, at the end:

    train.source, train.target   cleaned text, one segment a line (some are longer than max_tokens)
    train/                       the token store, what training reads
    dev.*, test.*                raw text, not cleaned
    tokenizers/                  SentencePiece models
    report.json, manifest.json   counts of kept and removed pairs; settings and input files

The corpora are streamed from file to file in three passes. Each pass is a step of `steps.py` that
runs on all cores. This process reads and writes in the order of the input, so the result has the
same bytes for any number of processes.

Memory: one byte per pair (is it a repeat?), a memory-mapped file of 8 bytes per pair, up to 256 MiB
to find repeats, the dev and test splits, and 2 GB while the tokenizer is fitted. Disk while
preparing: the text twice and 8 bytes per pair.
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
from training.data.prepared_corpus import (
    PreparedCorpus,
    SourceFile,
    describe_inputs,
    lines_of,
    open_corpus,
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

# Starting a worker process takes as long as cleaning some megabytes.
_BYTES_PER_WORKER = 8 << 20
_GZIP_RATIO = 3  # of text, roughly

Input = TypeVar("Input")
Output = TypeVar("Output")
TextStream = Callable[[], Iterator[str]]
FitTokenizers = Callable[[TextStream, TextStream], TokenizerPair]
ReportProgress = Callable[[str, int, int | None], None]  # stage, pairs done, total if known


@dataclass
class _Tally:
    """Counts of one training corpus during preparation."""

    name: str
    weight: float
    read: int = 0
    candidates: int = 0  # passed the rules on text
    texts: int = 0  # lines in train.source and train.target
    kept: int = 0
    spans: list[TextSpan] = field(default_factory=list)  # of candidates, later of training text
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


def prepare_corpus(
    data: DataConfig,
    *,
    tokenizer: TokenizerConfig | None,
    folder: Path,
    fit: FitTokenizers,
    report: Callable[[str], None],
    progress: ReportProgress | None = None,
    num_workers: int | None = None,
) -> PreparedCorpus:
    """Reads, cleans, splits and encodes the corpora into `folder`; same input, same bytes.

    `fit` gets the cleaned training text of both sides and returns the tokenizers. `tokenizer` is
    only recorded: the settings that they are fitted with, or None for existing tokenizers.
    `num_workers` is the number of processes (None: one per core, fewer for small corpora). Raises
    InputError or CorpusError for damaged input or when no pair is left, and OSError. After an error
    there is no folder.
    """
    progress = progress or _no_progress
    for leftover in folder.parent.glob(f".{folder.name}.*.tmp"):
        shutil.rmtree(leftover)  # from a killed attempt, maybe as large as the corpus
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
        del hashes  # frees the disk space of its file
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
    return open_corpus(folder, data, tokenizer=tokenizer, report=report)


def _no_progress(stage: str, done: int, total: int | None) -> None:
    """Ignores the progress."""


def default_workers(inputs: Sequence[SourceFile]) -> int:
    """Returns the number of worker processes: one per core, fewer for small corpora."""
    text_bytes = sum(
        file.num_bytes * (_GZIP_RATIO if file.path.suffix.lower() == ".gz" else 1)
        for file in inputs
    )
    return max(1, min(num_cores(), MAX_WORKERS, text_bytes // _BYTES_PER_WORKER))


def _mapped(
    step: Callable[[Input], Output], blocks: Iterable[Input], num_workers: int
) -> AbstractContextManager[Iterator[Output]]:
    """Returns the results in order; leaving the context ends the processes."""
    return closing(map_in_order(step, blocks, num_workers=num_workers))


def _scan(
    data: DataConfig, work: Path, tallies: list[_Tally], num_workers: int, progress: ReportProgress
) -> None:
    """First pass: writes the pairs that pass the rules on text, and a hash of each."""

    def blocks() -> Iterator[PairBlock]:
        for corpus, tally in zip(data.train, tallies, strict=True):
            for block in read_blocks(
                corpus,
                source_language=data.source_language,
                target_language=data.target_language,
            ):
                owners.append(tally)
                yield block

    owners: deque[_Tally] = deque()  # of the blocks in flight
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
    progress: ReportProgress,
) -> None:
    """Second pass: writes the training text: candidates without dev, test, leaks and repeats."""
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
    progress: ReportProgress,
) -> None:
    """Third pass: encodes the training text and applies the rules on pieces."""
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
    """Raises CorpusError when no pair remains, and names the rule that removed most."""
    if any(remaining):
        return
    names = ", ".join(tally.name for tally in tallies)
    num_read = sum(tally.read for tally in tallies)
    if not num_read:
        raise CorpusError(f"the training corpus is empty: no pairs in {names}; name other files")
    removed: Counter[Rule] = sum((tally.removed for tally in tallies), Counter())
    rule, count = removed.most_common(1)[0]
    raise CorpusError(
        f"no pair of {names} is left for training: of {num_read:,} read, rule {rule} removed "
        f"{count:,}, the most; {_REMEDIES[rule]}"
    )


_REMEDIES = {
    Rule.EMPTY: "check that the files are the right ones",
    Rule.IDENTICAL: "if equal sides are intended, set data.cleaning.drop_identical = false",
    Rule.TOO_LONG: "raise data.cleaning.max_tokens, or put one sentence on a line",
    Rule.HELD_OUT: "name files for data.dev and data.test",
    Rule.LEAKED: "name files for dev and test that are not the training files",
    Rule.DUPLICATES: "set data.cleaning.drop_duplicates = false",
    Rule.LENGTH_RATIO: "check that the lines are aligned, or raise data.cleaning.max_length_ratio",
}
