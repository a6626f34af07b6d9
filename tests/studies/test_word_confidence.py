"""The study of word confidence."""

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.studies import word_confidence
from tests.studies.word_confidence import Bin, bins, judged
from tests.tiny_checkpoint import ENGLISH, GERMAN


def translation(text: str, pieces: list[str], confidences: list[float]) -> Any:
    segment = SimpleNamespace(
        source="x",
        text=text,
        source_span=SimpleNamespace(start=0, end=1),
        target_span=SimpleNamespace(start=0, end=len(text)),
        source_pieces=("▁x",),
        target_pieces=tuple(pieces),
        token_log_probs=tuple(map(math.log, confidences)),
        alignment=None,
    )
    return SimpleNamespace(segments=(segment,))


def test_a_word_of_the_reference_counts_once() -> None:
    found = translation(
        "Der Hund, der bellt .", ["▁Der", "▁Hund,", "▁der", "▁bellt", "▁."], [0.5] * 5
    )
    correct = [each for _, each in judged(found, "„Der Hund“ schläft.")]
    assert correct == [True, True, False, False]  # punctuation alone is not a word


def test_without_spaces_a_word_may_be_any_substring() -> None:
    found = translation("狗在睡", ["▁狗", "在", "睡"], [0.9, 0.8, 0.7])
    assert [each for _, each in judged(found, "狗睡觉。")] == [True, False, True]


def test_bins_hold_every_word_once() -> None:
    confidences = [0.25, 0.26, 0.9, 1.0]
    found = translation("a b c d", ["▁a", "▁b", "▁c", "▁d"], confidences)
    assert bins([(found, "a c x y")]) == [
        Bin(0.0, 0.25, 1, 1.0),
        Bin(0.25, 0.5, 1, 0.0),
        Bin(0.5, 0.75, 0, None),
        Bin(0.75, 1.0, 2, 0.5),
    ]


def test_the_command(
    tmp_path: Path,
    tiny_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, reference = tmp_path / "en", tmp_path / "de"
    source.write_text("\n".join(ENGLISH[:3]), encoding="utf-8")
    command = ["x", str(tiny_checkpoint), "--source", str(source), "--reference", str(reference)]
    monkeypatch.setattr(sys, "argv", command)
    reference.write_text("\n".join(GERMAN[:3]), encoding="utf-8")
    word_confidence.main()
    assert sum(each["words"] for each in json.loads(capsys.readouterr().out)) > 0
    reference.write_text("\n".join(GERMAN[:2]), encoding="utf-8")
    with pytest.raises(SystemExit, match="3 lines but the reference 2"):
        word_confidence.main()
