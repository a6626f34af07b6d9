"""Tests tokenizers: sizes, normalisation, sampling; same input, same bytes."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.errors import ConfigError
from model.text.tokenizer import TokenizerPair
from training.config import TokenizerConfig
from training.data import fit_tokenizer
from training.data.fit_tokenizer import default_vocab_size, fit_tokenizers, normalizations, sample
from training.errors import CorpusError

WORDS = ["the", "man", "woman", "dog", "cat", "sees", "likes", "big", "red", "house", "street"]
ZEICHEN = "我你他们的是了在有人这中大来上国个到说时要就出会可也对生能而子那得于着下自之年"


def english(num_sentences: int) -> Iterator[str]:
    generator = random.Random(5)
    for _ in range(num_sentences):
        yield " ".join(generator.choices(WORDS, k=8)).capitalize() + "."


def chinese(num_sentences: int) -> Iterator[str]:
    generator = random.Random(6)
    for _ in range(num_sentences):
        yield "".join(generator.choices(ZEICHEN, k=10)) + "，！。"


def fit(
    folder: Path, *, target_language: str = "zh", seed: int = 1, **config: object
) -> TokenizerPair:
    return fit_tokenizers(
        lambda: english(500),
        lambda: chinese(500),
        config=TokenizerConfig.model_validate(config),
        source_language="en",
        target_language=target_language,
        folder=folder,
        seed=seed,
        report=lambda line: None,
    )


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("joint", [True, False])
def test_the_same_input_gives_the_same_model_bytes(tmp_path: Path, kind: str, joint: bool) -> None:
    first = fit(tmp_path / "first", kind=kind, joint=joint, vocab_size=400)
    second = fit(tmp_path / "second", kind=kind, joint=joint, vocab_size=400)
    assert first.source.size == second.source.size
    names = ["joint.model"] if joint else ["source.model", "target.model"]
    for name in names:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin cores")
def test_the_number_of_cores_does_not_change_the_model_bytes(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:int(sys.argv[2])])\n"
        "from pathlib import Path\n"
        "from tests.training.data.test_fit_tokenizer import fit\n"
        "fit(Path(sys.argv[1]), vocab_size=400)"
    )
    models = []
    for num_cores in ("1", "2"):
        folder = tmp_path / num_cores
        subprocess.run([sys.executable, "-c", program, str(folder), num_cores], check=True)
        models.append((folder / "joint.model").read_bytes())
    assert models[0] == models[1]


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("vocab_size", [None, 32_000])
@pytest.mark.parametrize("num_sentences", [1, 10, 50])
def test_small_corpora_shrink_the_vocabulary(
    tmp_path: Path, kind: str, vocab_size: int | None, num_sentences: int
) -> None:
    reports: list[str] = []
    pair = fit_tokenizers(
        lambda: english(num_sentences),
        lambda: chinese(num_sentences),
        config=TokenizerConfig.model_validate({"kind": kind, "vocab_size": vocab_size}),
        source_language="en",
        target_language="zh",
        folder=tmp_path,
        seed=1,
        report=reports.append,
    )
    assert 260 < pair.source.size < 2000
    assert len(reports) == 1
    assert f"joint tokenizer: {pair.source.size} {kind} pieces" in reports[0]
    assert f"too small for {vocab_size or 2000})" in reports[0]
    text = "The man, 一 unknown 字."
    assert pair.source.decode(pair.source.encode(text)) == text


def test_a_vocabulary_smaller_than_the_characters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"vocab_size = 300 is too small.*need 3\d\d; raise it"):
        fit(tmp_path, vocab_size=300, character_coverage=1.0)


def test_the_default_vocabulary_grows_to_hold_all_characters(tmp_path: Path) -> None:
    han = [chr(0x4E00 + number) for number in range(4000)]
    pair = fit_tokenizers(
        lambda: iter(han),
        lambda: iter(han),
        config=TokenizerConfig(character_coverage=1.0),
        source_language="zh",
        target_language="ja",
        folder=tmp_path,
        seed=1,
        report=lambda line: None,
    )
    assert pair.source.size >= 4000
    assert len(pair.source.encode(han[-1])) <= 2  # a space and the character, not its bytes


def test_default_sizes_grow_with_the_corpus() -> None:
    sizes = [default_vocab_size(n) for n in (0, 14_999, 15_000, 60_000, 500_000, 10**6, 10**9)]
    assert sizes == [2000, 2000, 4000, 8000, 16_000, 16_000, 32_000]


def test_a_side_without_text_is_refused(tmp_path: Path) -> None:
    for joint in (True, False):
        with pytest.raises(CorpusError, match="no text to learn from"):
            fit_tokenizers(
                lambda: iter(["", " ", "\t\x01"]),
                lambda: iter([]),
                config=TokenizerConfig(joint=joint),
                source_language="en",
                target_language="de",
                folder=tmp_path,
                seed=1,
                report=lambda line: None,
            )


def test_text_that_normalisation_empties_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="cannot learn pieces from 2 sentences"):
        fit_tokenizers(
            lambda: iter(["\u200b"]),
            lambda: iter(["\u200b"]),
            config=TokenizerConfig(),
            source_language="en",
            target_language="de",
            folder=tmp_path,
            seed=1,
            report=lambda line: None,
        )


@pytest.mark.parametrize(
    ("target_language", "rule"),
    [
        ("de", "nmt_nfkc"),
        ("zh-Hant", "identity"),
        ("ja", "identity"),
        ("ko", "identity"),
        ("th", "identity"),
    ],
)
def test_automatic_normalisation(tmp_path: Path, target_language: str, rule: str) -> None:
    def rules(**config: object) -> tuple[str, str]:
        return normalizations(TokenizerConfig.model_validate(config), target_language)

    assert rules() == (rule, rule)
    assert rules(joint=False) == ("nmt_nfkc", rule)
    assert rules(normalization="nfkc") == ("nfkc", "nfkc")
    # "½" tells the rules apart: only NFKC makes three characters of it.
    half = {"identity": "½", "nmt_nfkc": "1⁄2"}
    pair = fit(tmp_path / "sides", target_language=target_language, joint=False)
    assert (pair.source.normalize("½"), pair.target.normalize("½")) == ("1⁄2", half[rule])
    pair = fit(tmp_path / "joint", target_language=target_language)
    assert pair.source.normalize("½") == half[rule]


def test_full_width_punctuation_survives_in_a_chinese_target(tmp_path: Path) -> None:
    pair = fit(tmp_path)
    assert pair.target.decode(pair.target.encode("你好，世界！（好）")) == "你好，世界！（好）"


def test_rare_characters_of_large_scripts_are_spelt_in_bytes(tmp_path: Path) -> None:
    def pieces(target_language: str) -> list[str]:
        texts = ["常" * 50] * 100 + ["稀常"]
        pair = fit_tokenizers(
            lambda: iter(texts),
            lambda: iter(texts),
            config=TokenizerConfig(),
            source_language="en",
            target_language=target_language,
            folder=tmp_path,
            seed=1,
            report=lambda line: None,
        )
        return pair.target.pieces(pair.target.encode("稀"))

    assert "<0xE7>" in pieces("zh")
    assert "<0xE7>" not in pieces("vi")


def test_very_long_lines_are_used_for_fitting(tmp_path: Path) -> None:
    line = " ".join(english(20_000))
    pair = fit_tokenizers(
        lambda: iter([line]),
        lambda: iter([line]),
        config=TokenizerConfig(vocab_size=350),
        source_language="en",
        target_language="de",
        folder=tmp_path,
        seed=1,
        report=lambda line: None,
    )
    assert pair.source.pieces(pair.source.encode("street house")) == ["▁street", "▁house"]


def test_digits_are_pieces_of_their_own(tmp_path: Path) -> None:
    texts = ["The year 2016 was 2016 times 2016."] * 100
    pair = fit_tokenizers(
        lambda: iter(texts),
        lambda: iter(texts),
        config=TokenizerConfig(),
        source_language="en",
        target_language="de",
        folder=tmp_path,
        seed=1,
        report=lambda line: None,
    )
    pieces = pair.source.pieces(pair.source.encode("2016"))
    assert [piece for piece in pieces if piece != "▁"] == ["2", "0", "1", "6"]


def test_the_sample_is_limited_seeded_and_uniform() -> None:
    texts = [str(number) for number in range(100)]
    assert sample(texts, 100, seed=1) == texts
    assert sample(["a", " ", "\x01", "b\tc\n"], 10, seed=1) == ["a", "b c"]
    counts = dict.fromkeys(texts, 0)
    for seed in range(1000):
        chosen = sample(iter(texts), 10, seed=seed)
        assert len(set(chosen)) == 10
        for text in chosen:
            counts[text] += 1
    # 1000 draws with chance 0.1: mean 100, standard deviation 9.5
    assert all(50 < count < 150 for count in counts.values())
    assert sample(texts, 10, seed=1) == sample(texts, 10, seed=1) != sample(texts, 10, seed=2)


def test_at_most_the_stated_number_of_sentences_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_tokenizer, "MAX_SENTENCES", 100)
    used: list[int] = []
    train = fit_tokenizer._train

    def counting_train(texts: list[str], *args: str | int, **kwargs: float | str) -> bytes:
        used.append(len(texts))
        return train(texts, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(fit_tokenizer, "_train", counting_train)
    fit(tmp_path, vocab_size=400)
    fit(tmp_path, vocab_size=400, joint=False)
    assert used == [100, 100, 100]


def test_long_texts_are_sampled_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["a" * 10, "b" * 30, "c" * 10, "d" * 30]
    assert fit_tokenizer._thinned(texts, 80) == texts
    assert fit_tokenizer._thinned(texts, 79) == texts[:3]
    assert fit_tokenizer._thinned(texts, 40) == ["a" * 10, "c" * 10]
    used: list[int] = []
    train = fit_tokenizer._train

    def counting_train(texts: list[str], *args: str | int, **kwargs: float | str) -> bytes:
        used.append(sum(map(len, texts)))
        return train(texts, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(fit_tokenizer, "_train", counting_train)
    monkeypatch.setattr(fit_tokenizer, "MAX_TOTAL_CHARACTERS", 3000)
    fit(tmp_path, vocab_size=400)
    assert 2500 < used[0] < 3500


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path, vocab_size=400)
    assert capfd.readouterr() == ("", "")
