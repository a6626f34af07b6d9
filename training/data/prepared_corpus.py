"""Opens a prepared corpus, after checking its manifest against settings and input files."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from pydantic import BaseModel, ConfigDict, ValidationError

from model.system.atomic_files import write_json
from model.text.text_file import open_file
from model.text.tokenizer import TokenizerPair
from training.config import DataConfig, TokenizerConfig
from training.data.readers import Pair
from training.data.report import CorpusReport
from training.data.token_store import TokenStore
from training.errors import CorpusError
from training.recipe_file import differences


@dataclass(frozen=True)
class PreparedCorpus:
    """A corpus ready for training; dev and test are raw text."""

    train: TokenStore
    dev_pairs: list[Pair]
    test_pairs: list[Pair] | None
    tokenizers: TokenizerPair
    report: CorpusReport


class SourceFile(BaseModel):
    """An input file at the time when it was read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    num_bytes: int
    modified_ns: int
    sha256: str

    def changed(self) -> bool:
        """Returns whether the file differs now or is gone; reads its content only if necessary."""
        try:
            status = self.path.stat()
        except OSError:
            return True
        if status.st_size != self.num_bytes:
            return True
        return status.st_mtime_ns != self.modified_ns and _sha256(self.path) != self.sha256


class _Manifest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1]
    settings: dict[str, Any]  # of data and tokenizer, as far as they decide what is in the folder
    inputs: tuple[SourceFile, ...]


def describe_inputs(data: DataConfig) -> list[SourceFile]:
    """Returns size and hash of every input file; raises InputError for a missing one."""
    corpora = (*data.train, data.dev, data.test)
    paths = dict.fromkeys(path for corpus in corpora if corpus for path in corpus.files())
    for path in paths:  # all before the first is read, so that a missing one is found at once
        if path.exists() and not path.is_file() and not path.is_dir():
            raise CorpusError(
                f"{path} is a pipe or device; corpora are read twice, so save it as a file"
            )
        open_file(path).close()
    return [
        SourceFile(
            path=path,
            num_bytes=path.stat().st_size,
            modified_ns=path.stat().st_mtime_ns,
            sha256=_sha256(path),
        )
        for path in paths
    ]


def write_manifest(
    folder: Path, data: DataConfig, tokenizer: TokenizerConfig | None, inputs: Sequence[SourceFile]
) -> None:
    """Records the settings and input files of a prepared corpus."""
    manifest = _Manifest(
        format_version=1, settings=_settings(data, tokenizer), inputs=tuple(inputs)
    )
    write_json(folder / "manifest.json", manifest.model_dump(mode="json"))


def open_corpus(
    folder: Path,
    data: DataConfig,
    *,
    tokenizer: TokenizerConfig | None,
    report: Callable[[str], None],
) -> PreparedCorpus:
    """Opens the corpus that `prepare_corpus` wrote to `folder`.

    Raises CorpusError when it is missing, damaged, or made with other settings. Input files that
    changed since are only reported: a resumed run uses the prepared corpus.
    """
    try:
        manifest = _Manifest.model_validate_json((folder / "manifest.json").read_bytes())
        corpus_report = CorpusReport.model_validate_json((folder / "report.json").read_bytes())
    except FileNotFoundError as error:
        raise CorpusError(
            f"{folder} holds no prepared corpus: {error.filename} is missing; start a new run"
        ) from None
    except ValidationError:
        raise CorpusError(
            f"{folder} is damaged or of another version of Dragoman; start a new run"
        ) from None
    changes = differences(manifest.settings, _settings(data, tokenizer))
    change = next((text for _, text in changes), None)
    if change is not None:
        raise CorpusError(
            f"{folder} was prepared with other settings: {change}; set it back or start a new run"
        )
    for file in manifest.inputs:
        if file.changed():
            report(f"{file.path} has changed since it was read; continuing with its former content")
    return PreparedCorpus(
        train=TokenStore.open(folder / "train"),
        dev_pairs=_open_held(folder, "dev", corpus_report.dev.pairs),
        test_pairs=None
        if corpus_report.test is None
        else _open_held(folder, "test", corpus_report.test.pairs),
        tokenizers=TokenizerPair.load(folder / "tokenizers"),
        report=corpus_report,
    )


def new_text(path: Path) -> TextIO:
    """Opens a new text file; write each line with its "\\n"."""
    return path.open("w", encoding="utf-8", newline="\n")


def lines_of(path: Path) -> Iterator[str]:
    """Yields the lines of a file of `new_text`, exactly as written, byte-order marks included."""
    with path.open(encoding="utf-8", newline="\n") as stream:
        yield from map(_without_end, stream)


def _without_end(line: str) -> str:
    return line[:-1]


def _open_held(folder: Path, split: str, num_pairs: int) -> list[Pair]:
    try:
        sides = [list(lines_of(folder / f"{split}.{side}")) for side in ("source", "target")]
    except (FileNotFoundError, UnicodeDecodeError):
        sides = []
    if [len(side) for side in sides] != [num_pairs, num_pairs]:
        raise CorpusError(f"the {split} split in {folder} is damaged; start a new run")
    return [Pair(source, target) for source, target in zip(*sides, strict=True)]


def _settings(data: DataConfig, tokenizer: TokenizerConfig | None) -> dict[str, Any]:
    """Returns the settings that determine the folder's content."""
    return {
        "data": data.model_dump(mode="json", exclude={"description", "licence"}),
        "tokenizer": None if tokenizer is None else tokenizer.model_dump(mode="json"),
    }


def _sha256(path: Path) -> str:
    with open_file(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
