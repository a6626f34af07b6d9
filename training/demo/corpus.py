"""Reads the demo corpus: the English-German sentence pairs that `dragoman demo` learns from.

The pairs are packed in corpus.tsv.bz2: English, tab, German, a pair a line; first the training
pairs, then dev, then test. tests/demo_corpus generates that file. Some pairs of words (red + coat,
Berlin + Rome) are held out: no training sentence contains both, every dev and test sentence
contains such a pair, so the scores tell whether the model combines known words in new ways.
"""

import bz2
from dataclasses import dataclass
from pathlib import Path

PACKED = Path(__file__).with_name("corpus.tsv.bz2")
DEV_SIZE = 500
TEST_SIZE = 1_000
Pair = tuple[str, str]  # English, German


@dataclass(frozen=True)
class DemoCorpus:
    """The pairs of each part; no sentence of either language is in two parts."""

    train: list[Pair]
    dev: list[Pair]
    test: list[Pair]


def read_corpus() -> DemoCorpus:
    """Returns the 30,000 training, 500 dev and 1,000 test pairs."""
    pairs: list[Pair] = []
    with bz2.open(PACKED, "rt", encoding="utf-8", newline="\n") as file:
        for line in file:
            english, german = line.rstrip("\n").split("\t")
            pairs.append((english, german))
    num_train = len(pairs) - DEV_SIZE - TEST_SIZE
    return DemoCorpus(pairs[:num_train], pairs[num_train:-TEST_SIZE], pairs[-TEST_SIZE:])


def write_corpus(folder: Path) -> None:
    """Writes train, dev and test as one .en and one .de file each, a sentence a line."""
    folder.mkdir(parents=True, exist_ok=True)
    corpus = read_corpus()
    for name, pairs in (("train", corpus.train), ("dev", corpus.dev), ("test", corpus.test)):
        for column, language in enumerate(("en", "de")):
            text = "".join(pair[column] + "\n" for pair in pairs)
            (folder / f"{name}.{language}").write_text(text, encoding="utf-8", newline="\n")
