"""Tests the preparation of small corpora whose right result was counted by hand."""

import gzip
import hashlib
import json
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.training.corpora import Maker, numbered
from training.data.cleaning import Rule
from training.data.prepare import prepare_corpus
from training.data.readers import Pair
from training.errors import CorpusError

DATA = Path(__file__).parents[4] / "shared" / "data"


def test_every_rule_removes_the_right_pairs(maker: Maker) -> None:
    train = [
        *numbered(5),
        (" number 0", "nummer 0 "),  # a repeat, once the edges are stripped
        ("", "leer"),
        ("blank", " \t"),
        ("same", "same"),
        ("held  SOURCE", "etwas"),
        ("something", "Gehaltenes Ziel"),
        ("testing", "egal"),
        ("x " * 40, "kurz"),
        ("long " * 2000, "lang"),
        ("a" * 12, "b"),
        ("one\nline", "eine\r\nZeile"),
    ]
    data = maker.config(
        maker.corpus("train", train),
        maker.corpus("more", [("number 4", "nummer 4"), ("more", "mehr")], weight=2.5),
        dev=maker.corpus("dev", [("Held source", "Gehaltene Quelle"), ("x", "gehaltenes ziel")]),
        test=maker.corpus("test", [("testing", "Test"), ("", "")][:1]),
        cleaning={"max_tokens": 30},
    )
    prepared = maker.prepare(data)
    first, second = prepared.report.corpora
    assert first.removed == {
        Rule.EMPTY: 2,
        Rule.IDENTICAL: 1,
        Rule.TOO_LONG: 2,
        Rule.HELD_OUT: 0,
        Rule.LEAKED: 3,
        Rule.DUPLICATES: 1,
        Rule.LENGTH_RATIO: 1,
    }
    assert (first.read, first.kept) == (16, 6)
    assert (second.read, second.kept, second.weight) == (2, 1, 2.5)
    assert second.removed[Rule.DUPLICATES] == 1  # of the first corpus
    assert maker.train_pairs(prepared) == [
        *numbered(5),
        ("one line", "eine Zeile"),
        ("more", "mehr"),
    ]
    assert prepared.train.corpus_index.tolist() == [0] * 6 + [1]
    assert prepared.train.weights == (1.0, 2.5)
    assert prepared.dev_pairs == [
        Pair("Held source", "Gehaltene Quelle"),
        Pair("x", "gehaltenes ziel"),
    ]
    assert prepared.test_pairs == [Pair("testing", "Test")]
    assert first.source_pieces + second.source_pieces == prepared.train.source_lengths.sum()
    assert first.target_pieces + second.target_pieces == prepared.train.target_lengths.sum()


def test_the_tokenizer_is_fitted_on_training_text_only(maker: Maker) -> None:
    train = [*numbered(100), ("dev source", "leaks"), ("twice", "zwei"), ("twice", "zwei")]
    dev = maker.corpus("dev", [("dev source", "dev target")])
    maker.prepare(maker.config(maker.corpus("train", train), dev=dev, test_size=0))
    assert maker.fitted_on == (
        [*(source for source, _ in numbered(100)), "twice"],
        [*(target for _, target in numbered(100)), "zwei"],
    )


def test_cleaning_can_be_turned_off(maker: Maker) -> None:
    pairs = [("same", "same"), ("two", "zwei"), ("two", "zwei")]
    data = maker.config(
        maker.corpus("train", pairs),
        dev=maker.corpus("dev", [("a", "b")]),
        test_size=0,
        cleaning={"drop_identical": False, "drop_duplicates": False},
    )
    assert maker.train_pairs(maker.prepare(data)) == pairs


def test_dev_and_test_are_held_out_of_train(maker: Maker) -> None:
    pairs = [*numbered(300), ("number 7", "andere 7"), *numbered(10)]
    prepared = maker.prepare(
        maker.config(maker.corpus("train", pairs), dev_size=20, test_size=1000)
    )
    assert prepared.test_pairs is not None
    dev, test = set(prepared.dev_pairs), set(prepared.test_pairs)
    assert (len(dev), len(test)) == (20, 30)  # test: a tenth at most
    assert not {pair.source for pair in dev} & {pair.source for pair in test}
    train = {Pair(*pair) for pair in maker.train_pairs(prepared)}
    assert not train & (dev | test)
    assert not {pair.source for pair in train} & {pair.source for pair in dev | test}
    assert train | dev | test >= {Pair(*pair) for pair in numbered(300)}
    total = prepared.report.total
    assert total.removed[Rule.HELD_OUT] == 50
    assert total.read == 311 == total.kept + sum(total.removed.values())
    assert prepared.report.dev.held_out


def test_held_out_pairs_do_not_depend_on_the_order_of_the_corpus(maker: Maker) -> None:
    pairs = numbered(200)
    first = maker.prepare(maker.config(maker.corpus("train", pairs)))
    random.Random(3).shuffle(pairs)
    second = maker.prepare(maker.config(maker.corpus("train", pairs)))
    assert second.dev_pairs == first.dev_pairs
    assert second.test_pairs == first.test_pairs
    assert len(first.dev_pairs) == 20


def test_test_size_0_makes_no_test_split(maker: Maker) -> None:
    prepared = maker.prepare(maker.config(maker.corpus("train", numbered(50)), test_size=0))
    assert prepared.test_pairs is None
    assert prepared.report.test is None
    assert maker.reported[-1] == "dev: 5 pairs, held out of the training corpora; no test split"


texts = st.sampled_from(["", " ", "a", "A", "b", "c d", "c  d", "e" * 40, "f\ng", "ü", "\u200b"])


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    train=st.lists(st.lists(st.tuples(texts, texts), max_size=25), min_size=1, max_size=3),
    dev=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=3),
    test_size=st.integers(0, 3),
)
def test_every_pair_is_counted_exactly_once(
    maker: Maker,
    train: list[list[tuple[str, str]]],
    dev: list[tuple[str, str]],
    test_size: int,
) -> None:
    corpora = [maker.corpus(f"train{n}", pairs) for n, pairs in enumerate(train)]
    data = maker.config(
        *corpora, dev=maker.corpus("dev", dev), test_size=test_size, cleaning={"max_tokens": 35}
    )
    try:
        prepared = maker.prepare(data)
    except CorpusError:
        return
    for counts, pairs in zip(prepared.report.corpora, train, strict=True):
        assert counts.read == len(pairs) == counts.kept + sum(counts.removed.values())
    held = [*prepared.dev_pairs, *(prepared.test_pairs or [])]
    for source, target in maker.train_pairs(prepared):
        assert source.casefold() not in {pair.source.casefold() for pair in held}
        assert target.casefold() not in {pair.target.casefold() for pair in held}


def test_the_report_can_be_printed_as_a_table_and_stored_as_json(maker: Maker) -> None:
    train = maker.corpus("train", [*numbered(1200), ("a", "a")], weight=0.5)
    data = maker.config(train, maker.corpus("b", [("p", "q")]))
    prepared = maker.prepare(data)
    header, first, second, total, splits = maker.reported
    assert header.split()[:5] == ["corpus", "read", "kept", "empty", "identical"]
    assert first.split()[:6] == ["train.jsonl", "(weight", "0.5)", "1,201", "960", "0"]
    assert second.split()[:3] == ["b.jsonl", "1", "1"]
    assert total.split()[:3] == ["total", "1,202", "961"]
    assert len({len(line) for line in (header, first, second, total)}) == 1
    assert splits.startswith("dev: 120 pairs, held out of the training corpora; test: 120 pairs")
    content = json.loads(json.dumps(prepared.report.to_json()))
    assert content["total"]["read"] == 1202
    assert content["corpora"][0]["removed"]["identical"] == 1
    path = maker.folder / "train.jsonl"
    assert content["files"][0] == {
        "name": "train.jsonl",
        "num_bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def test_every_stage_reports_progress(maker: Maker) -> None:
    calls: list[tuple[str, int, int | None]] = []
    prepare_corpus(
        maker.config(maker.corpus("train", numbered(6000))),
        tokenizer=None,
        folder=maker.prepared,
        fit=maker.fit,
        report=maker.reported.append,
        progress=lambda stage, done, total: calls.append((stage, done, total)),
    )
    assert ("reading", 5000, None) in calls
    assert ("splitting", 5000, 6000) in calls
    stages = {stage: (done, total) for stage, done, total in calls}
    assert list(stages) == ["reading", "splitting", "encoding"]
    assert all(done == total for done, total in stages.values())


@pytest.mark.skipif(not DATA.is_dir(), reason="the real corpora (../shared/data) are not here")
def test_counts_for_multi30k_match_its_documentation(maker: Maker) -> None:
    folder = DATA / "multi30k"

    def files(split: str) -> dict[str, object]:
        return {"source": folder / f"{split}.en.gz", "target": folder / f"{split}.de.gz"}

    data = maker.config(files("train"), dev=files("val"), test=files("test_2016_flickr"))
    prepared = maker.prepare(data)
    counts = prepared.report.total
    assert counts.read == 29_000
    assert counts.removed[Rule.DUPLICATES] == 3
    # 1 German and 1 English line of val stand in train: at least those pairs go
    assert counts.removed[Rule.LEAKED] >= 1
    assert counts.removed[Rule.EMPTY] == counts.removed[Rule.HELD_OUT] == 0
    expected = gzip.decompress((folder / "val.de.gz").read_bytes()).decode().split("\n")[:-1]
    assert [pair.target for pair in prepared.dev_pairs] == expected
    assert prepared.test_pairs is not None
    assert len(prepared.test_pairs) == 1000
