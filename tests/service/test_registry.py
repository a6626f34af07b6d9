"""Which folders become models."""

from pathlib import Path

import pytest

from model.errors import CheckpointError
from service.registry import open_models
from service.settings import Settings


def make(folder: Path, file: str = "config.json") -> Path:
    folder.mkdir(parents=True)
    (folder / file).write_text("{}", encoding="utf-8")
    return folder


def names(folder: Path) -> list[str]:
    return [dispatcher.name for dispatcher in open_models(folder, Settings()).dispatchers]


def test_folder_of_checkpoints(tmp_path: Path) -> None:
    make(tmp_path / "fr-en")
    make(tmp_path / "en-de", "SHA256SUMS")  # damaged, to be reported when it is loaded
    make(tmp_path / ".en-fr.77.tmp")  # just being written
    make(tmp_path / "notes", "README.md")
    (tmp_path / "file.txt").write_text("x", encoding="utf-8")
    assert names(tmp_path) == ["en-de", "fr-en"]


def test_one_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = make(tmp_path / "en-de")
    assert names(checkpoint) == ["en-de"]
    monkeypatch.chdir(checkpoint)
    assert names(Path()) == ["en-de"]


def test_a_link_serves_under_its_own_name(tmp_path: Path) -> None:
    make(tmp_path / "kept" / "2026-11-21")
    models = tmp_path / "models"
    models.mkdir()
    (models / "en-de").symlink_to(tmp_path / "kept" / "2026-11-21")
    assert names(models) == ["en-de"]


def test_nothing_to_serve(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for folder in (tmp_path, tmp_path / "file", tmp_path / "none"):
        with pytest.raises(CheckpointError):
            open_models(folder, Settings())
