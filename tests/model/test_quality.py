"""Confidence of a translation's words from its pieces: by hand, and as readers are given it."""

import math
from types import SimpleNamespace
from typing import Any

import pytest

from model.quality import least_word_confidence, unsure_below, word_log_probs


def confidences(pieces: list[str], probabilities: list[float]) -> list[float]:
    return [math.exp(each) for each in word_log_probs(pieces, list(map(math.log, probabilities)))]


@pytest.mark.parametrize(
    ("pieces", "probabilities", "expected"),
    [
        (["▁rot", "er", "▁", "Hut", "."], [0.5, 0.8, 0.9, 0.5, 0.5], [0.4, 0.225]),
        (["▁a", "▁b"], [0.5, 0.25, 0.1], [0.5, 0.25]),  # the end is no word
        (["▁", "▁a"], [0.5, 0.5], [0.25]),  # two spaces before one word
        (["▁狗", "在", "睡觉"], [0.9, 0.8, 0.7], [0.9, 0.8, 0.7]),
        (["▁a", "<0xC3>", "<0xA9>", "▁b"], [0.5, 0.5, 0.5, 0.9], [0.125, 0.9]),  # aé b
        (["▁狗", "<0xE7>", "<0x9D>", "<0xA1>"], [0.9, 0.5, 0.5, 0.5], [0.9, 0.125]),  # 狗睡
        ([], [0.5], []),
    ],
)
def test_words_from_pieces_by_hand(
    pieces: list[str], probabilities: list[float], expected: list[float]
) -> None:
    assert confidences(pieces, probabilities) == pytest.approx(expected)


def test_the_least_sure_word_of_all_segments_counts() -> None:
    def segment(*probabilities: float) -> Any:
        pieces = tuple(f"▁{number}" for number in range(len(probabilities)))
        log_probs = tuple(map(math.log, (*probabilities, 0.01)))
        return SimpleNamespace(target_pieces=pieces, token_log_probs=log_probs)

    found: Any = SimpleNamespace(segments=(segment(0.9, 0.8), segment(0.7)))
    assert least_word_confidence(found.segments) == pytest.approx(0.7)
    assert least_word_confidence(()) == 1.0


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"calibration": {"unsure_below": 0.25}}, 0.25),
        ({}, None),
        ({"calibration": None}, None),
        ({"calibration": {}}, None),
        ({"calibration": {"unsure_below": "0.25"}}, None),
        ({"calibration": {"unsure_below": True}}, None),
    ],
)
def test_a_checkpoint_without_a_bound_has_none(metrics: Any, expected: float | None) -> None:
    assert unsure_below(metrics) == expected
