"""Tests prepared corpora: same input, same bytes; opened again, damaged, incomplete."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.corpora import Maker, hashes, numbered
from training.config import TokenizerConfig
from training.data import prepare as corpus_module
from training.data.parallel import MAX_WORKERS
from training.data.prepared_corpus import SourceFile
from training.data.readers import Pair
from training.errors import CorpusError


def test_the_same_input_gives_the_same_bytes(maker: Maker) -> None:
    data = maker.config(maker.corpus("train", numbered(500)), maker.corpus("b", numbered(9, 900)))
    maker.prepare(data)
    first = hashes(maker.prepared)
    maker.prepare(data)
    assert hashes(maker.prepared) == first
    assert set(first) > {"train/store.json", "dev.source", "test.target", "report.json"}


def test_the_number_of_processes_does_not_change_the_result(maker: Maker) -> None:
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


def test_an_opened_corpus_equals_the_prepared_one(maker: Maker) -> None:
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


def test_changed_settings_are_named_in_the_error(maker: Maker) -> None:
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


def test_changed_input_files_are_reported_but_do_not_stop_a_run(maker: Maker) -> None:
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
    sentence = f"{path} has changed since it was read; continuing with its former content"
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


def test_files_of_a_killed_attempt_are_removed_by_the_next(maker: Maker) -> None:
    data = maker.config(maker.corpus("train", numbered(50)))
    # the fit never returns: by then the cleaned text is on disk
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from training.config import DataConfig\n"
        "from training.data.prepare import prepare_corpus\n"
        "def fit(*texts):\n"
        "    print('fitting', flush=True)\n"
        "    time.sleep(60)\n"
        "data = DataConfig.model_validate_json(sys.argv[1])\n"
        "prepare_corpus(data, tokenizer=None, folder=Path(sys.argv[2]), fit=fit, report=print)\n"
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
