"""The packed demo corpus: its sizes, its parts, and the files written from it."""

from itertools import combinations
from pathlib import Path

import pytest

from training.demo.corpus import read_corpus, write_corpus


def words(text: str) -> set[str]:
    return {word.strip(",.?") for word in text.split()}


def test_the_sizes_are_the_documented_ones() -> None:
    corpus = read_corpus()
    assert (len(corpus.train), len(corpus.dev), len(corpus.test)) == (30_000, 500, 1_000)
    assert max(len(english.split()) for english, _ in corpus.train) <= 15
    assert len({word for english, _ in corpus.train for word in words(english)}) < 700


@pytest.mark.parametrize("column", [0, 1], ids=["English", "German"])
def test_no_sentence_is_in_two_parts_and_every_held_out_word_is_in_train(column: int) -> None:
    corpus = read_corpus()
    parts = [{pair[column] for pair in part} for part in (corpus.train, corpus.dev, corpus.test)]
    assert not [one & other for one, other in combinations(parts, 2) if one & other]
    train, dev, test = ({word for text in part for word in words(text)} for part in parts)
    assert dev | test <= train


def test_every_part_is_written_as_two_files_of_lines(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["dev.de", "dev.en", "test.de", "test.en", "train.de", "train.en"]
    english = (tmp_path / "train.en").read_bytes().decode("utf-8").split("\n")
    german = (tmp_path / "train.de").read_bytes().decode("utf-8").split("\n")
    assert len(english) == len(german) == 30_001
    assert english[-1] == german[-1] == ""
    pairs = list(zip(english[:-1], german[:-1], strict=True))
    assert pairs == read_corpus().train
