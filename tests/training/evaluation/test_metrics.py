"""Tests that scores equal those of the sacrebleu command, and comparisons find real differences."""

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from model.errors import InputError
from tests.service.echo_translator import EchoTranslator
from training.evaluation.metrics import bleu, chrf, compare, corpus_scores, translate_all

if TYPE_CHECKING:
    from model.translator import Translator

REFERENCES = ["the cat sat on the mat", "a dog barks at night", "we leave at nine", "so it is"]
GOOD = ["the cat sat on the mat", "a dog barks at night", "we leave at ten", "so it was"]


def noisy(sentences: Sequence[str], share: float, seed: int) -> list[str]:
    generator = random.Random(seed)
    return [
        " ".join("oops" if generator.random() < share else word for word in sentence.split())
        for sentence in sentences
    ]


def test_scores_equal_those_of_the_sacrebleu_command(tmp_path: Path) -> None:
    (tmp_path / "ref").write_text("\n".join(REFERENCES) + "\n", encoding="utf-8")
    (tmp_path / "hyp").write_text("\n".join(GOOD) + "\n", encoding="utf-8")
    command = [
        *(sys.executable, "-m", "sacrebleu", str(tmp_path / "ref"), "-i", str(tmp_path / "hyp")),
        *("-m", "bleu", "chrf", "ter", "-w", "4"),
    ]
    answer = subprocess.run(command, capture_output=True, check=True).stdout
    scores = corpus_scores(GOOD, REFERENCES, target_language="en").to_json()
    for theirs, name in zip(json.loads(answer), ("bleu", "chrf", "ter"), strict=True):
        assert scores[name]["score"] == pytest.approx(theirs["score"], abs=1e-4)
        assert scores[name]["signature"] == theirs["signature"]
    assert bleu(GOOD, REFERENCES, "en") == pytest.approx(scores["bleu"]["score"], abs=1e-4)
    assert chrf(GOOD, REFERENCES) == pytest.approx(scores["chrf"]["score"], abs=1e-4)


def test_ter_and_exact_match_equal_hand_arithmetic() -> None:
    scores = corpus_scores(GOOD, REFERENCES, target_language="en")
    assert scores.ter.value == pytest.approx(100 * 2 / 18)  # two words of eighteen replaced
    assert scores.exact_match == 50.0
    assert scores.num_segments == 4


@pytest.mark.parametrize(
    ("language", "tokenizer"),
    [("de", "13a"), ("pt-BR", "13a"), ("zh-Hans", "zh"), ("yue", "zh"), ("th", "char")],
)
def test_bleu_tokenizer_follows_the_target_language(language: str, tokenizer: str) -> None:
    scores = corpus_scores(["a b"], ["a b"], target_language=language)
    assert f"tok:{tokenizer}|" in scores.bleu.signature


def test_chinese_is_scored_by_characters() -> None:
    scores = corpus_scores(["我喜欢红茶和面包。"], ["我喜欢绿茶和面包。"], target_language="zh")
    assert 0 < scores.bleu.value < 100
    assert scores.ter.value == pytest.approx(100 / 9)  # one character of nine, full stop included


def test_comparison_finds_only_real_differences() -> None:
    references = REFERENCES * 30
    worse, better = noisy(references, 0.5, seed=1), noisy(references, 0.1, seed=2)
    found = compare(worse, better, references, target_language="en")
    assert found.bleu.difference > 0 > found.ter.difference
    assert found.bleu.p_value < 0.05
    assert found.bleu.first == pytest.approx(bleu(worse, references, "en"))
    assert found.bleu.second == pytest.approx(bleu(better, references, "en"))
    assert all("second is better" in line for line in found.lines()[1:4])
    back = compare(better, worse, references, target_language="en")
    assert all("first is better" in line for line in back.lines()[1:4])

    same = compare(better, better, references, target_language="en")
    assert same.bleu.difference == 0
    assert same.bleu.p_value == 1
    assert all("no significant difference" in line for line in same.lines()[1:4])

    similar = compare(better, noisy(references, 0.1, seed=3), references, target_language="en")
    assert similar.bleu.p_value > 0.05


def test_comparison_is_deterministic_and_its_signature_has_the_seed() -> None:
    worse, better = noisy(REFERENCES, 0.5, seed=1), noisy(REFERENCES, 0.1, seed=2)
    first = compare(worse, better, REFERENCES, target_language="en").to_json()
    assert first == compare(worse, better, REFERENCES, target_language="en").to_json()
    assert "bs:1000|seed:12345" in first["bleu"]["signature"]


def test_empty_input_and_unequal_counts_are_refused() -> None:
    with pytest.raises(InputError, match="3 translations cannot be scored against 4 references"):
        corpus_scores(GOOD[:3], REFERENCES, target_language="en")
    with pytest.raises(InputError, match="3 translations"):
        compare(GOOD, GOOD[:3], REFERENCES, target_language="en")
    with pytest.raises(InputError, match="nothing to score"):
        corpus_scores([], [], target_language="en")


def test_translate_all_keeps_order_gives_one_line_each_and_reports_progress() -> None:
    sources = [f"{number}-" * (number % 5) + "x\u2028y" for number in range(50)]
    done: list[int] = []
    translator = cast("Translator", EchoTranslator())
    texts = translate_all(translator, sources, progress=done.append)
    assert texts == [source[::-1] for source in sources]
    assert done == sorted(done)
    assert done[-1] == 50
    with pytest.raises(InputError, match="source, line 2: text is refused"):
        translate_all(translator, ["fine", "refuse"])
