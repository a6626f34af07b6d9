"""Writes and prepares small corpora for tests."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import sentencepiece

from model.text.tokenizer import Tokenizer, TokenizerPair
from training.config import DataConfig, TokenizerConfig
from training.data.prepare import prepare_corpus
from training.data.prepared_corpus import PreparedCorpus, open_corpus

TOKENIZER = TokenizerConfig()


def fit_letters(folder: Path) -> TokenizerPair:
    """Fits a tokenizer of bytes and letters: a word has about as many pieces as characters."""
    prefix = folder / "tiny"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a b c d e f g h", "i j k l m n o p", "q r s t u v w x y z"] * 20),
        model_prefix=str(prefix),
        vocab_size=290,
        byte_fallback=True,
        hard_vocab_limit=False,
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=3,
        minloglevel=2,
    )
    tokenizer = Tokenizer.load(prefix.with_suffix(".model"))
    return TokenizerPair(tokenizer, tokenizer)


class Maker:
    """Writes corpora into a folder and prepares them."""

    def __init__(self, folder: Path, tokenizers: TokenizerPair) -> None:
        self.folder = folder
        self.prepared = folder / "data"
        self.tokenizers = tokenizers
        self.reported: list[str] = []
        self.fitted_on: tuple[list[str], list[str]] = ([], [])

    def corpus(self, name: str, pairs: list[tuple[str, str]], **keys: object) -> dict[str, object]:
        path = self.folder / f"{name}.jsonl"
        lines = (json.dumps({"en": source, "de": target}) + "\n" for source, target in pairs)
        path.write_text("".join(lines))
        return {"path": path, **keys}

    def config(self, *train: dict[str, object], **keys: Any) -> DataConfig:
        return DataConfig.model_validate(
            {"source_language": "en", "target_language": "de", "train": train, **keys}
        )

    def fit(
        self,
        source_texts: Callable[[], Iterator[str]],
        target_texts: Callable[[], Iterator[str]],
    ) -> TokenizerPair:
        self.fitted_on = (list(source_texts()), list(target_texts()))
        return self.tokenizers

    def prepare(self, data: DataConfig, num_workers: int | None = None) -> PreparedCorpus:
        return prepare_corpus(
            data,
            tokenizer=TOKENIZER,
            folder=self.prepared,
            fit=self.fit,
            report=self.reported.append,
            num_workers=num_workers,
        )

    def open(self, data: DataConfig, tokenizer: TokenizerConfig = TOKENIZER) -> PreparedCorpus:
        return open_corpus(self.prepared, data, tokenizer=tokenizer, report=self.reported.append)

    def train_pairs(self, prepared: PreparedCorpus) -> list[tuple[str, str]]:
        store, decode = prepared.train, prepared.tokenizers.source.decode
        return [
            (decode(store.source(i).tolist()), decode(store.target(i).tolist()))
            for i in range(len(store))
        ]


def numbered(count: int, start: int = 0) -> list[tuple[str, str]]:
    return [(f"number {n}", f"nummer {n}") for n in range(start, start + count)]


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.json"  # that one holds paths and times
    }
