"""Tests the cleaning rules at their limits, and the search for repeats against a slow one."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.config import CleaningConfig
from training.data import cleaning
from training.data.cleaning import (
    HeldSentences,
    Rule,
    broken_piece_rule,
    broken_text_rule,
    mark_repeats,
    pair_hash,
    smallest,
)
from training.data.readers import Pair

CONFIG = CleaningConfig(max_tokens=20, max_length_ratio=2.0)


@pytest.mark.parametrize(
    ("source", "target", "rule"),
    [
        ("a", "b", None),
        ("", "b", Rule.EMPTY),
        ("a", "", Rule.EMPTY),
        ("", "", Rule.EMPTY),
        ("same", "same", Rule.IDENTICAL),
        ("Same", "same", None),
        ("x" * 64 * 20, "b", None),
        ("a", "x" * (64 * 20 + 1), Rule.TOO_LONG),
    ],
)
def test_rules_on_text(source: str, target: str, rule: Rule | None) -> None:
    assert broken_text_rule(Pair(source, target), CONFIG) == rule


def test_identical_sides_are_kept_on_request() -> None:
    config = CONFIG.model_copy(update={"drop_identical": False})
    assert broken_text_rule(Pair("same", "same"), config) is None


@pytest.mark.parametrize(
    ("num_source", "num_target", "rule"),
    [
        (1, 1, None),
        (0, 5, Rule.EMPTY),
        (5, 0, Rule.EMPTY),
        (20, 20, None),
        (21, 20, Rule.TOO_LONG),
        (20, 21, Rule.TOO_LONG),
        (1, 10, None),  # too short for a ratio to say anything
        (1, 11, Rule.LENGTH_RATIO),
        (11, 1, Rule.LENGTH_RATIO),
        (6, 12, None),  # exactly twice
        (6, 13, Rule.LENGTH_RATIO),
    ],
)
def test_rules_on_pieces(num_source: int, num_target: int, rule: Rule | None) -> None:
    assert broken_piece_rule(num_source, num_target, CONFIG) == rule


def test_a_pair_leaks_by_either_side_ignoring_case_and_white_space() -> None:
    held = HeldSentences()
    held.add([Pair("Good  morning.", "Guten Morgen, STRASSE")])
    assert held.leak(Pair(" good morning. ", "Anderes"))
    assert held.leak(Pair("Something else", "guten\u00a0Morgen, Straße"))
    assert not held.leak(Pair("Guten Morgen, Straße", "Good morning."))  # sides swapped
    assert not held.leak(Pair("Good morning", "Anderes"))


def test_pair_hashes_depend_on_the_split_into_sides_and_are_stable() -> None:
    assert pair_hash(Pair("ab", "c")) != pair_hash(Pair("a", "bc"))
    program = (
        "import json; from training.data.cleaning import pair_hash;"
        "from training.data.readers import Pair;"
        "print(json.dumps(pair_hash(Pair('Grüße', '問候')).hex()))"
    )
    # another process has another seed for Python's own hash()
    elsewhere = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert json.loads(elsewhere.stdout) == pair_hash(Pair("Grüße", "問候")).hex()


@given(
    values=st.lists(st.integers(0, 30) | st.integers(2**64 - 5, 2**64 - 1), max_size=200),
    chunk=st.integers(1, 50),
    max_bytes=st.sampled_from([40, 400, 1 << 20]),
)
def test_repeats_are_values_that_occur_earlier(
    values: list[int], chunk: int, max_bytes: int
) -> None:
    expected = [value in values[:place] for place, value in enumerate(values)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cleaning, "_SORT_CHUNK", chunk)
        repeats = mark_repeats(np.array(values, dtype=np.uint64), max_bytes=max_bytes)
    assert repeats.tolist() == expected


@given(
    values=st.lists(st.integers(0, 2**64 - 1), unique=True, max_size=100),
    count=st.integers(0, 120),
    chunk=st.integers(1, 50),
)
def test_smallest_equals_the_head_of_the_sorted_list(
    values: list[int], count: int, chunk: int
) -> None:
    eligible = np.array([value % 3 != 0 for value in values], dtype=np.bool_)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cleaning, "_SORT_CHUNK", chunk)
        chosen = smallest(np.array(values, dtype=np.uint64), eligible, count)
    expected = sorted(value for value in values if value % 3 != 0)[:count]
    assert [values[index] for index in chosen.tolist()] == expected
