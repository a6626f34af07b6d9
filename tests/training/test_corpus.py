"""The whole road on small corpora whose right outcome is counted by hand."""

import gzip
import hashlib
import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.tokenizer import Tokenizer, TokenizerPair
from training import corpus as corpus_module
from training import held_out
from training.cleaning import Rule
from training.config import DataConfig, TokenizerConfig
from training.corpus import PreparedCorpus, open_prepared, prepare
from training.errors import CorpusError
from training.parallel import MAX_WORKERS
from training.prepared import SourceFile
from training.readers import Pair

DATA = Path(__file__).parents[3] / "shared" / "data"
TOKENIZER = TokenizerConfig()


@pytest.fixture(scope="session")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> TokenizerPair:
    """Bytes and a few letters: every word takes about as many pieces as it has characters."""
    prefix = tmp_path_factory.mktemp("tokenizer") / "tiny"
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
        return prepare(
            data,
            tokenizer=TOKENIZER,
            folder=self.prepared,
            fit=self.fit,
            report=self.reported.append,
            num_workers=num_workers,
        )

    def open(self, data: DataConfig, tokenizer: TokenizerConfig = TOKENIZER) -> PreparedCorpus:
        return open_prepared(self.prepared, data, tokenizer=tokenizer, report=self.reported.append)

    def train_pairs(self, prepared: PreparedCorpus) -> list[tuple[str, str]]:
        store, decode = prepared.train, prepared.tokenizers.source.decode
        return [
            (decode(store.source(i).tolist()), decode(store.target(i).tolist()))
            for i in range(len(store))
        ]


@pytest.fixture
def maker(tmp_path: Path, tokenizers: TokenizerPair) -> Maker:
    return Maker(tmp_path, tokenizers)


def numbered(count: int, start: int = 0) -> list[tuple[str, str]]:
    return [(f"number {n}", f"nummer {n}") for n in range(start, start + count)]


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.json"  # that one holds paths and times
    }


def test_every_rule_takes_what_it_should(maker: Maker) -> None:
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


def test_the_tokenizer_sees_training_text_only(maker: Maker) -> None:
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


def test_what_is_held_out_does_not_depend_on_the_order(maker: Maker) -> None:
    pairs = numbered(200)
    first = maker.prepare(maker.config(maker.corpus("train", pairs)))
    random.Random(3).shuffle(pairs)
    second = maker.prepare(maker.config(maker.corpus("train", pairs)))
    assert second.dev_pairs == first.dev_pairs
    assert second.test_pairs == first.test_pairs
    assert len(first.dev_pairs) == 20


def test_no_test_split_on_request(maker: Maker) -> None:
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
def test_no_pair_is_lost_or_counted_twice(
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


# -- what is refused


def refused(maker: Maker, data: DataConfig, num_workers: int | None = None) -> str:
    before = sorted(maker.folder.iterdir())
    with pytest.raises(CorpusError) as caught:
        maker.prepare(data, num_workers)
    assert sorted(maker.folder.iterdir()) == before
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_an_empty_corpus_is_refused(maker: Maker) -> None:
    data = maker.config(maker.corpus("train", []))
    assert refused(maker, data) == "the training corpus is empty: no pairs in train.jsonl"


@pytest.mark.parametrize(
    ("pairs", "rule"),
    [
        ([("", "x"), ("a", "a"), ("", "y")], "empty removed most (2)"),
        ([("a", "a"), ("b", "b"), ("", "y")], "identical removed most (2)"),
        ([("Held", "x"), ("y", "gehalten")], "leaked removed most (2)"),
        ([("x " * 40, "y"), ("y", "z" * 31)], "too_long removed most (2)"),
        ([("a" * 12, "b")], "length_ratio removed most (1)"),
    ],
)
def test_when_nothing_is_left_the_rule_is_named(
    maker: Maker, pairs: list[tuple[str, str]], rule: str
) -> None:
    data = maker.config(
        maker.corpus("train", pairs),
        dev=maker.corpus("dev", [("held", "Gehalten")]),
        test_size=0,
        cleaning={"max_tokens": 30},
    )
    assert f"of {len(pairs)} read, the rule {rule}" in refused(maker, data)


def test_a_corpus_too_small_to_hold_dev_out_is_refused(maker: Maker) -> None:
    message = refused(maker, maker.config(maker.corpus("train", numbered(9))))
    assert message.startswith("9 different pairs are too few to hold a dev split out of")


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


def test_a_missing_file_shows_before_anything_is_read(maker: Maker) -> None:
    train = maker.corpus("train", numbered(20))
    (maker.folder / "train.jsonl").write_bytes(b"\xff not even text")
    message = refused(maker, maker.config(train, test={"path": maker.folder / "no.tsv"}))
    assert message == f"there is no file {maker.folder / 'no.tsv'}; check the path"


def test_a_pipe_is_refused(maker: Maker) -> None:
    os.mkfifo(maker.folder / "pipe.tsv")
    data = maker.config({"path": maker.folder / "pipe.tsv"})
    assert "is a pipe or device" in refused(maker, data)


def test_damage_deep_in_the_second_corpus_leaves_nothing(maker: Maker) -> None:
    first = maker.corpus("train", numbered(2000))
    path = maker.folder / "second.tsv"
    path.write_bytes(b"a\tb\n" * 1500 + b"a\t\xff\n")
    assert "second.tsv, line 1501: not UTF-8" in refused(maker, maker.config(first, {"path": path}))


@pytest.mark.parametrize("num_workers", [1, 2])
def test_the_first_damage_is_named_whoever_finds_it(maker: Maker, num_workers: int) -> None:
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


# -- the folder, opened again


def test_the_same_input_gives_the_same_bytes(maker: Maker) -> None:
    data = maker.config(maker.corpus("train", numbered(500)), maker.corpus("b", numbered(9, 900)))
    maker.prepare(data)
    first = hashes(maker.prepared)
    maker.prepare(data)
    assert hashes(maker.prepared) == first
    assert set(first) > {"train/store.json", "dev.source", "test.target", "report.json"}


def test_the_number_of_processes_changes_no_byte(maker: Maker) -> None:
    random_pairs = random.Random(1)
    first = [
        (f"number {random_pairs.randrange(15_000)}", f"nummer {n % 7}\u2028") for n in range(12_000)
    ]
    second = [*numbered(11_000), ("", "leer"), ("x " * 300, "lang"), ("one\nline", "a\r\nb")]
    data = maker.config(maker.corpus("train", first), maker.corpus("b", second, weight=2.0))
    maker.prepare(data, num_workers=1)
    alone, fitted_on = hashes(maker.prepared), maker.fitted_on
    report = maker.reported[:]
    del maker.reported[:]
    maker.prepare(data, num_workers=2)
    assert hashes(maker.prepared) == alone
    assert maker.fitted_on == fitted_on
    assert maker.reported == report
    assert not multiprocessing.active_children()


def test_small_corpora_are_prepared_by_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_module, "num_cores", lambda: 64)

    def workers(*files: tuple[str, int]) -> int:
        inputs = [
            SourceFile(path=Path(name), num_bytes=size, modified_ns=0, sha256="")
            for name, size in files
        ]
        return corpus_module.default_workers(inputs)

    assert workers(("a.en", 1 << 20), ("a.de", 1 << 20)) == 1
    assert workers(("a.en", 16 << 20), ("a.de", 16 << 20)) == 4
    assert workers(("a.en.gz", 16 << 20)) == 6
    assert workers(("a.tsv", 1 << 40)) == MAX_WORKERS
    monkeypatch.setattr(corpus_module, "num_cores", lambda: 1)
    assert workers(("a.tsv", 1 << 40)) == 1


def test_a_prepared_folder_opens_as_it_was_made(maker: Maker) -> None:
    odd = [("\ufeffmark", "line\u2028separator"), ("tab\there", "form\x0cfeed \x85")]
    data = maker.config(maker.corpus("train", numbered(100)), dev=maker.corpus("dev", odd))
    made = maker.prepare(data)
    del maker.reported[:]
    opened = maker.open(data)
    assert maker.reported == []
    assert opened.dev_pairs == made.dev_pairs == [Pair(*pair) for pair in odd]
    assert opened.test_pairs == made.test_pairs
    assert opened.report == made.report
    assert maker.train_pairs(opened) == maker.train_pairs(made)


def test_settings_that_differ_are_named(maker: Maker) -> None:
    train = maker.corpus("train", numbered(100))
    data = maker.config(train)
    maker.prepare(data)
    other = maker.config(train, cleaning={"max_tokens": 100})
    with pytest.raises(CorpusError, match=r"data\.cleaning\.max_tokens was 200 and is now 100"):
        maker.open(other)
    weighted = maker.config({**train, "weight": 2.0})
    with pytest.raises(CorpusError, match=r"data\.train\.0\.weight was 1\.0 and is now 2\.0"):
        maker.open(weighted)
    with pytest.raises(CorpusError, match=r"tokenizer\.kind was 'unigram' and is now 'bpe'"):
        maker.open(data, TokenizerConfig(kind="bpe"))
    maker.open(maker.config(train, description="words for the card", licence="CC0-1.0"))


def test_changed_input_is_reported_and_the_run_goes_on(maker: Maker) -> None:
    data = maker.config(maker.corpus("train", numbered(100)))
    maker.prepare(data)
    path = maker.folder / "train.jsonl"
    del maker.reported[:]
    os.utime(path, (1, 1))
    maker.open(data)
    assert maker.reported == []  # another time, but the same content
    path.write_text(path.read_text().replace("number", "numbed"))
    os.utime(path, (1, 1))
    maker.open(data)
    path.unlink()
    maker.open(data)
    sentence = f"{path} has changed since it was read; going on with what it was then"
    assert maker.reported == [sentence, sentence]


@pytest.mark.parametrize("name", ["manifest.json", "report.json", "dev.target", "train/store.json"])
@pytest.mark.parametrize("damage", ["missing", "cut", "garbage"])
def test_a_damaged_folder_is_refused(maker: Maker, name: str, damage: str) -> None:
    data = maker.config(maker.corpus("train", numbered(100)))
    maker.prepare(data)
    path = maker.prepared / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-30] if damage == "cut" else b"\xff\xfe")
    with pytest.raises(CorpusError, match=r"damaged|holds no|is missing"):
        maker.open(data)


def test_a_killed_attempt_leaves_no_folder_and_no_litter_for_long(maker: Maker) -> None:
    data = maker.config(maker.corpus("train", numbered(50)))
    # the fit never returns: by then the cleaned text is on disk
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from training.config import DataConfig\n"
        "from training.corpus import prepare\n"
        "def fit(*texts):\n"
        "    print('fitting', flush=True)\n"
        "    time.sleep(60)\n"
        "data = DataConfig.model_validate_json(sys.argv[1])\n"
        "prepare(data, tokenizer=None, folder=Path(sys.argv[2]), fit=fit, report=print)\n"
    )
    command = [sys.executable, "-c", program, data.model_dump_json(), str(maker.prepared)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"fitting\n"
        process.send_signal(signal.SIGKILL)
    assert not maker.prepared.exists()
    assert len(list(maker.folder.iterdir())) == 2  # the corpus, and what the killed one had written
    maker.prepare(data)
    assert {path.name for path in maker.folder.iterdir()} == {"train.jsonl", "data"}


# -- the report


def test_the_report_prints_as_a_table_and_travels_as_json(maker: Maker) -> None:
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


def test_progress_is_called_through_every_stage(maker: Maker) -> None:
    calls: list[tuple[str, int, int | None]] = []
    prepare(
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


# -- real text


@pytest.mark.skipif(not DATA.is_dir(), reason="the real corpora (../shared/data) are not here")
def test_multi30k_is_cleaned_as_its_own_notes_say(maker: Maker) -> None:
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
