"""Measures on the dev split below which word confidence a translation is called unsure.

A translation counts as right if its sentence chrF against the reference is at least the median of
the dev split. That works on every corpus: where most translations equal their reference the right
ones are those that do, and elsewhere, where hardly any does, they are the better half. The bound is
the highest one that flags at most MAX_FLAGGED_PERCENT of the right translations, so a reader is
seldom warned for nothing, and warned as often as that allows.
"""

import math
from collections.abc import Sequence
from statistics import median_low
from typing import Any

from sacrebleu.metrics.chrf import CHRF

MAX_FLAGGED_PERCENT = 0.5  # of the right translations
FEWEST_PAIRS = 100  # with fewer, the bound would be left to chance
_DIGITS = 6  # of the bound; more say nothing and are hard to read


def calibration(
    confidences: Sequence[float], hypotheses: Sequence[str], references: Sequence[str]
) -> dict[str, Any] | None:
    """The bound with what it flags on dev, as metrics.json keeps it; None for too few pairs.

    `confidences` are those of each translation's least sure word.
    """
    if len(references) < FEWEST_PAIRS:
        return None
    metric = CHRF()
    scores = [
        # Rounded: the same translation must not be right or wrong by the last bit of a mean.
        round(float(metric.sentence_score(hypothesis, [reference]).score), 4)
        for hypothesis, reference in zip(hypotheses, references, strict=True)
    ]
    right_from = median_low(scores)
    right: list[float] = []
    others: list[float] = []
    for confidence, score in zip(confidences, scores, strict=True):
        (right if score >= right_from else others).append(confidence)
    right.sort()
    num_allowed = math.floor(len(right) * MAX_FLAGGED_PERCENT / 100)
    # Rounded down: it flags what lies below it, so that can only be fewer.
    bound = math.floor(right[num_allowed] * 10**_DIGITS) / 10**_DIGITS
    return {
        "unsure_below": bound,
        "split": "dev",
        "max_flagged_percent_of_right": MAX_FLAGGED_PERCENT,
        "right_from_chrf": right_from,
        "right": len(right),
        "right_flagged": sum(confidence < bound for confidence in right),
        "others": len(others),
        "others_flagged": sum(confidence < bound for confidence in others),
    }
