"""The study of detection, on a few lines."""

import json
import sys
from pathlib import Path

import pytest

from tests.studies import detection_accuracy


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["detection_accuracy", *arguments])
    detection_accuracy.main()


def test_correct_detections_are_counted_by_language(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    german, english = tmp_path / "a", tmp_path / "b"
    german.write_text("Wir haben gestern lange geschlafen.\n\nThis line is English, not German.\n")
    english.write_text("We slept for a long time yesterday.\n12345\n")
    run(monkeypatch, f"de={german}", f"en={english}")
    report = json.loads(capsys.readouterr().out)
    assert report["texts"] == 4
    assert report["detected_by_language"] == {"de": 0.5, "en": 0.5}  # digits belong to no language
    assert report["detected"] == 0.5


def test_wrong_usage_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines, empty = tmp_path / "lines", tmp_path / "empty"
    lines.write_text("Hello.\n")
    empty.write_text("\n")
    with pytest.raises(SystemExit, match="two"):
        run(monkeypatch, f"en={lines}")
    with pytest.raises(SystemExit, match="no text"):
        run(monkeypatch, f"en={lines}", f"de={empty}")
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, str(lines))
