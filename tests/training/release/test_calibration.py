"""The bound of confidence that is measured on dev: by hand, and through a checkpoint's scores."""

from pathlib import Path

import pytest

from model.checkpoint import load_checkpoint
from model.quality import least_word_confidence
from model.translator import Translator
from tests.tiny_checkpoint import ENGLISH, GERMAN
from training.data.readers import Pair
from training.release import calibration as module
from training.release.calibration import calibration
from training.release.export import score_pairs


def test_at_most_half_a_percent_of_the_right_translations_is_flagged() -> None:
    # 500 right ones with confidences 0.500, 0.501, ..., of which two may be flagged; 20 wrong ones.
    confidences = [0.5 + number / 1000 for number in range(500)] + [0.1] * 15 + [0.9] * 5
    hypotheses = ["the right one"] * 500 + ["a wrong word"] * 20
    measured = calibration(confidences, hypotheses, ["the right one"] * 520)
    assert measured == {
        "unsure_below": 0.502,
        "split": "dev",
        "max_flagged_percent_of_right": 0.5,
        "right_from_chrf": 100.0,
        "right": 500,
        "right_flagged": 2,
        "others": 20,
        "others_flagged": 15,
    }


def test_where_no_translation_is_the_reference_the_better_half_is_right() -> None:
    reference = "one two three four five six seven eight nine ten"
    words = reference.split()
    hypotheses = [" ".join(words[: 1 + number % 9]) for number in range(180)]
    confidences = [0.1 * (1 + number % 9) for number in range(180)]
    measured = calibration(confidences, hypotheses, [reference] * 180)
    assert measured is not None
    assert measured["right"] == 100  # those of five words and more
    assert measured["unsure_below"] == pytest.approx(0.5, abs=1e-6)
    assert (measured["right_flagged"], measured["others_flagged"]) == (0, 80)


def test_equal_confidences_are_flagged_together_or_not_at_all() -> None:
    measured = calibration([0.5] * 400, ["right"] * 400, ["right"] * 400)
    assert measured is not None
    assert (measured["unsure_below"], measured["right_flagged"]) == (0.5, 0)


def test_few_pairs_give_no_bound() -> None:
    assert calibration([0.5] * 99, ["right"] * 99, ["right"] * 99) is None


def test_a_checkpoint_is_measured_on_the_translations_that_it_is_scored_on(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FEWEST_PAIRS", 5)
    pairs = [Pair(*both) for both in zip(ENGLISH[:6], GERMAN[:6], strict=True)]
    checkpoint = load_checkpoint(tiny_checkpoint, precision="fp32")
    judged = score_pairs(checkpoint, pairs)
    assert judged.scores["segments"] == 6
    assert judged.calibration is not None
    assert judged.calibration["right"] + judged.calibration["others"] == 6
    with Translator.load(tiny_checkpoint, precision="fp32") as translator:
        found = [least_word_confidence(each.segments) for each in translator.translate(ENGLISH[:6])]
    # Of so few right ones none may be flagged: the bound is the confidence of one of them.
    assert any(judged.calibration["unsure_below"] == pytest.approx(c, abs=2e-6) for c in found)
