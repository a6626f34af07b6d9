"""The road from corpora on disk to token ids: read, clean, hold out, fit the tokenizer, encode.

Everything happens in one folder that appears, complete, at the end:

    train.source, train.target   cleaned text, one segment a line (some are longer than max_tokens)
    train/                       the token store, what training reads
    dev.*, test.*                raw text, never cleaned
    tokenizers/                  SentencePiece models
    report.json, manifest.json   what became of every pair; from which settings and files

The corpora stream from file to file in three passes, so memory does not grow with them beyond
one byte a pair (is it a repeat?); finding repeats works in 40 bytes a pair up to 256 MiB and in
more passes beyond (cleaning.py); dev and test are held in memory. Measured: 250,000 and 1,000,000
pairs of 12 words both peak below 100 MiB resident, 50 of them the interpreter's. Disk, while
preparing: the text twice and 8 bytes a pair.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray

from model.files import replaced_folder, write_json
from model.tokenizer import TokenizerPair
from training.cleaning import (
    HeldSentences,
    Rule,
    broken_piece_rule,
    broken_text_rule,
    mark_repeats,
    one_line,
    pair_hash,
    smallest,
)
from training.config import CorpusConfig, DataConfig, TokenizerConfig
from training.corpus_report import CorpusCounts, CorpusReport, InputFile, SplitCounts
from training.errors import CorpusError
from training.prepared import (
    PreparedCorpus,
    describe_inputs,
    lines_of,
    new_text,
    open_prepared,
    write_manifest,
)
from training.readers import Pair, read_pairs
from training.token_store import write_token_store

__all__ = ["PreparedCorpus", "Progress", "open_prepared", "prepare"]

MAX_HELD_PAIRS = 200_000  # dev and test are held in memory; a few thousand tell as much

# A held-out pair may have this many characters per token allowed in training: roughly as long as
# the longest training pair, so that no stray document is translated at every validation.
_HELD_CHARS_PER_TOKEN = 4
_ENCODE_PAIRS = 1024  # pairs tokenised at a time
_PROGRESS_PAIRS = 5000  # pairs between two calls of `progress`

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


@dataclass(frozen=True)
class _Splits:
    """Dev and test, and which candidates became part of them."""

    dev: list[Pair]
    test: list[Pair] | None
    sentences: HeldSentences
    taken: frozenset[int]


def prepare(
    data: DataConfig,
    *,
    tokenizer: TokenizerConfig | None,
    folder: Path,
    fit: FitTokenizers,
    report: Callable[[str], None],
    progress: Progress | None = None,
) -> PreparedCorpus:
    """Reads, cleans, splits and encodes the corpora into `folder`; the same input, the same bytes.

    `fit` gets the cleaned training text of either side and returns the tokenizers; `tokenizer` is
    what they were fitted with (None: they came ready-made) and is only recorded. Raises
    CorpusError for damaged input or when nothing is left; an OSError passes through. Either way
    the folder does not appear.
    """
    progress = progress or _no_progress
    for leftover in folder.parent.glob(f".{folder.name}.*.tmp"):
        shutil.rmtree(leftover)  # of an attempt that was killed, maybe as large as the corpus
    with replaced_folder(folder) as work:
        inputs = describe_inputs(data)
        dev = _read_held("dev", data.dev, data)
        test = _read_held("test", data.test, data)
        tallies = [_Tally(_name(corpus), corpus.weight) for corpus in data.train]
        _scan(data, work, tallies, progress)
        _refuse_if_empty(tallies, [tally.candidates for tally in tallies])
        hashes = np.memmap(work / "hashes.bin", dtype="<u8", mode="r").view(np.ndarray)
        repeats = mark_repeats(hashes)
        splits = _hold_out(data, work, hashes, ~repeats, dev, test)
        _write_train_text(data, work, tallies, repeats, splits, progress)
        _refuse_if_empty(tallies, [tally.texts for tally in tallies])
        _write_held(work, "dev", splits.dev)
        if splits.test is not None:
            _write_held(work, "test", splits.test)

        tokenizers = fit(
            lambda: lines_of(work / "train.source"), lambda: lines_of(work / "train.target")
        )
        with replaced_folder(work / "tokenizers") as models:
            tokenizers.save(models)
        _encode(data, work, tallies, tokenizers, progress)
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


def _name(corpus: CorpusConfig) -> str:
    return " + ".join(path.name for path in corpus.files())


def _read_held(split: str, corpus: CorpusConfig | None, data: DataConfig) -> list[Pair] | None:
    """All pairs of a dev or test corpus; a blank side is refused, since nothing is cleaned here."""
    if corpus is None:
        return None
    pairs = []
    languages = {
        "source_language": data.source_language,
        "target_language": data.target_language,
    }
    for number, raw in enumerate(read_pairs(corpus, **languages), start=1):
        pair = Pair(one_line(raw.source), one_line(raw.target))
        if not pair.source.strip() or not pair.target.strip():
            side = "target" if pair.source.strip() else "source"
            raise CorpusError(
                f"{split}: pair {number:,} of {_name(corpus)} has a blank {side}; dev and test are "
                "not cleaned, so remove the pair or complete it"
            )
        if number > MAX_HELD_PAIRS:
            raise CorpusError(
                f"{split}: {_name(corpus)} has more than {MAX_HELD_PAIRS:,} pairs; a few thousand "
                "are enough, give the rest to train"
            )
        pairs.append(pair)
    if not pairs:
        raise CorpusError(f"{split}: {_name(corpus)} holds no pairs")
    return pairs


def _scan(data: DataConfig, work: Path, tallies: list[_Tally], progress: Progress) -> None:
    """First pass: what survives the rules on text, and a hash of each such pair, to disk."""
    num_read = 0
    with (
        new_text(work / "candidates.source") as sources,
        new_text(work / "candidates.target") as targets,
        (work / "hashes.bin").open("wb") as hashes,
    ):
        for corpus, tally in zip(data.train, tallies, strict=True):
            pairs = read_pairs(
                corpus,
                source_language=data.source_language,
                target_language=data.target_language,
            )
            for raw in pairs:
                tally.read += 1
                num_read += 1
                if num_read % _PROGRESS_PAIRS == 0:
                    progress("reading", num_read, None)
                pair = Pair(one_line(raw.source).strip(), one_line(raw.target).strip())
                rule = broken_text_rule(pair, data.cleaning)
                if rule is not None:
                    tally.removed[rule] += 1
                    continue
                tally.candidates += 1
                sources.write(pair.source + "\n")
                targets.write(pair.target + "\n")
                hashes.write(pair_hash(pair))
    progress("reading", num_read, num_read)


def _hold_out(
    data: DataConfig,
    work: Path,
    hashes: NDArray[np.uint64],
    eligible: Bool[np.ndarray, " candidates"],
    dev: list[Pair] | None,
    test: list[Pair] | None,
) -> _Splits:
    """Dev and test: the pairs given, else candidates by smallest hash, no sentence in both."""
    sentences = HeldSentences()
    for pairs in (dev, test):
        sentences.add(pairs or [])
    at_most = int(eligible.sum()) // 10
    num_test = min(data.test_size, at_most) if test is None else 0
    num_dev = min(data.dev_size, at_most) if dev is None else 0
    taken: dict[int, Pair] = {}
    # Four times as many are looked at, since some are passed by.
    for index, pair in _pairs_at(work, smallest(hashes, eligible, 4 * (num_dev + num_test))):
        if len(taken) == num_dev + num_test:
            break
        longer = max(len(pair.source), len(pair.target))
        if longer <= _HELD_CHARS_PER_TOKEN * data.cleaning.max_tokens and not sentences.leak(pair):
            sentences.add([pair])
            taken[index] = pair
    chosen = list(taken.values())
    if chosen:  # fewer than wanted are shared in proportion
        num_test = len(chosen) * num_test // (num_test + num_dev)
    if dev is None:
        dev = chosen[num_test:]
        if not dev:
            raise CorpusError(
                f"{int(eligible.sum()):,} different pairs are too few to hold a dev split out of; "
                "give dev and test files of their own"
            )
    if test is None:
        test = chosen[:num_test] or None
    return _Splits(dev, test, sentences, frozenset(taken))


def _pairs_at(work: Path, indices: NDArray[np.int64]) -> Iterator[tuple[int, Pair]]:
    """The candidates at these places, in the order given."""
    wanted = frozenset(indices.tolist())
    found = {
        number: pair
        for number, pair in enumerate(_pairs_of(work, "candidates"))
        if number in wanted
    }
    for index in indices.tolist():
        yield index, found[index]


def _write_train_text(
    data: DataConfig,
    work: Path,
    tallies: list[_Tally],
    repeats: Bool[np.ndarray, " candidates"],
    splits: _Splits,
    progress: Progress,
) -> None:
    """Second pass: candidates without dev, test, leaks and repeats become the training text."""
    candidates = enumerate(_pairs_of(work, "candidates"))
    with (
        new_text(work / "train.source") as sources,
        new_text(work / "train.target") as targets,
    ):
        for tally in tallies:
            for index, pair in islice(candidates, tally.candidates):
                if index % _PROGRESS_PAIRS == 0:
                    progress("splitting", index, len(repeats))
                if index in splits.taken:
                    tally.removed[Rule.HELD_OUT] += 1
                elif splits.sentences.leak(pair):
                    tally.removed[Rule.LEAKED] += 1
                elif data.cleaning.drop_duplicates and repeats[index]:
                    tally.removed[Rule.DUPLICATES] += 1
                else:
                    tally.texts += 1
                    sources.write(pair.source + "\n")
                    targets.write(pair.target + "\n")
    for name in ("candidates.source", "candidates.target", "hashes.bin"):
        (work / name).unlink()
    progress("splitting", len(repeats), len(repeats))


def _write_held(work: Path, split: str, pairs: list[Pair]) -> None:
    with (
        new_text(work / f"{split}.source") as sources,
        new_text(work / f"{split}.target") as targets,
    ):
        for pair in pairs:
            sources.write(pair.source + "\n")
            targets.write(pair.target + "\n")


def _encode(
    data: DataConfig,
    work: Path,
    tallies: list[_Tally],
    tokenizers: TokenizerPair,
    progress: Progress,
) -> None:
    """Third pass: training text to token ids; the rules on pieces."""
    num_texts = sum(tally.texts for tally in tallies)
    num_done = 0
    pairs = _pairs_of(work, "train")
    with write_token_store(
        work / "train",
        source_vocab_size=tokenizers.source.size,
        target_vocab_size=tokenizers.target.size,
        weights=[tally.weight for tally in tallies],
    ) as writer:
        for corpus_index, tally in enumerate(tallies):
            of_corpus = islice(pairs, tally.texts)
            while chunk := list(islice(of_corpus, _ENCODE_PAIRS)):
                all_source_ids = tokenizers.source.encode_many([pair.source for pair in chunk])
                all_target_ids = tokenizers.target.encode_many([pair.target for pair in chunk])
                for source_ids, target_ids in zip(all_source_ids, all_target_ids, strict=True):
                    rule = broken_piece_rule(len(source_ids), len(target_ids), data.cleaning)
                    if rule is not None:
                        tally.removed[rule] += 1
                        continue
                    writer.append(source_ids, target_ids, corpus_index)
                    tally.kept += 1
                    tally.source_pieces += len(source_ids)
                    tally.target_pieces += len(target_ids)
                num_done += len(chunk)
                progress("encoding", num_done, num_texts)


def _pairs_of(work: Path, split: str) -> Iterator[Pair]:
    sides = (lines_of(work / f"{split}.source"), lines_of(work / f"{split}.target"))
    for source, target in zip(*sides, strict=True):
        yield Pair(source, target)


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
