"""Tests that an unusable corpus is named in the error and leaves no files."""

import multiprocessing
import os
import resource

import pytest

from model.errors import InputError
from tests.training.corpora import Maker, numbered
from training.config import DataConfig
from training.data import held_out
from training.errors import CorpusError


def refused(maker: Maker, data: DataConfig, num_workers: int | None = None) -> str:
    before = sorted(maker.folder.iterdir())
    with pytest.raises((CorpusError, InputError)) as caught:
        maker.prepare(data, num_workers)
    assert sorted(maker.folder.iterdir()) == before
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_an_empty_corpus_is_refused(maker: Maker) -> None:
    data = maker.config(maker.corpus("train", []))
    said = "the training corpus is empty: no pairs in train.jsonl; name other files"
    assert refused(maker, data) == said


@pytest.mark.parametrize(
    ("pairs", "rule"),
    [
        ([("", "x"), ("a", "a"), ("", "y")], "rule empty removed 2, the most"),
        ([("a", "a"), ("b", "b"), ("", "y")], "rule identical removed 2, the most"),
        ([("Held", "x"), ("y", "gehalten")], "rule leaked removed 2, the most"),
        ([("x " * 40, "y"), ("y", "z" * 31)], "rule too_long removed 2, the most"),
        ([("a" * 12, "b")], "rule length_ratio removed 1, the most"),
    ],
)
def test_when_no_pair_is_left_the_error_names_the_rule(
    maker: Maker, pairs: list[tuple[str, str]], rule: str
) -> None:
    data = maker.config(
        maker.corpus("train", pairs),
        dev=maker.corpus("dev", [("held", "Gehalten")]),
        test_size=0,
        cleaning={"max_tokens": 30},
    )
    assert f"of {len(pairs)} read, {rule}" in refused(maker, data)


def test_a_corpus_too_small_to_hold_dev_out_is_refused(maker: Maker) -> None:
    message = refused(maker, maker.config(maker.corpus("train", numbered(9))))
    assert message.startswith("9 different pairs are too few to hold out a dev split")


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ([("a", "b"), ("c", " ")], "dev: pair 2 of dev.jsonl has a blank target"),
        ([("a", "b"), ("", "d")], "dev: pair 2 of dev.jsonl has a blank source"),
        ([], "dev: dev.jsonl holds no pairs"),
        (numbered(5), "dev: dev.jsonl has more than 4 pairs"),
    ],
)
def test_dev_is_refused_rather_than_cleaned(
    maker: Maker, monkeypatch: pytest.MonkeyPatch, pairs: list[tuple[str, str]], reason: str
) -> None:
    monkeypatch.setattr(held_out, "MAX_HELD_PAIRS", 4)
    data = maker.config(maker.corpus("train", numbered(20)), dev=maker.corpus("dev", pairs))
    assert refused(maker, data).startswith(reason)


def test_a_missing_file_is_reported_before_any_file_is_read(maker: Maker) -> None:
    train = maker.corpus("train", numbered(20))
    (maker.folder / "train.jsonl").write_bytes(b"\xff not even text")
    message = refused(maker, maker.config(train, test={"path": maker.folder / "no.tsv"}))
    assert message == f"there is no file {maker.folder / 'no.tsv'}; check the path"


def test_a_pipe_is_refused(maker: Maker) -> None:
    os.mkfifo(maker.folder / "pipe.tsv")
    data = maker.config({"path": maker.folder / "pipe.tsv"})
    assert "is a pipe or device" in refused(maker, data)


def test_damage_in_the_second_corpus_leaves_no_files(maker: Maker) -> None:
    first = maker.corpus("train", numbered(2000))
    path = maker.folder / "second.tsv"
    path.write_bytes(b"a\tb\n" * 1500 + b"a\t\xff\n")
    assert "second.tsv, line 1501: not UTF-8" in refused(maker, maker.config(first, {"path": path}))


@pytest.mark.parametrize("num_workers", [1, 2])
def test_the_first_damage_is_named_for_any_number_of_workers(
    maker: Maker, num_workers: int
) -> None:
    # Line 7001 cannot be decoded, which a worker finds; before that, reading has met the end of
    # the shorter file.
    source, target = maker.folder / "a.en", maker.folder / "a.de"
    source.write_bytes(b"a\n" * 7000 + b"\xff\n" + b"a\n" * 900)
    target.write_bytes(b"b\n" * 7500)
    data = maker.config({"source": source, "target": target})
    assert "a.en, line 7001: not UTF-8" in refused(maker, data, num_workers)
    assert not multiprocessing.active_children()


def test_a_disk_that_takes_no_more_leaves_nothing(maker: Maker) -> None:
    data = maker.config(maker.corpus("train", numbered(20_000)))
    before = sorted(maker.folder.iterdir())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            maker.prepare(data)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(maker.folder.iterdir()) == before
