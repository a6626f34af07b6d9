"""Which folders become models."""

import hashlib
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from model.errors import CheckpointError
from model.version import read_version
from service.serving import model_folder
from service.serving.model_folder import FoundCheckpoint, ModelFolder, num_engine_processes
from service.serving.registry import open_models
from service.serving.served_model import LoadedModel, ModelState
from service.settings import Settings
from tests.tiny_checkpoint import write_tiny_checkpoint


def make(folder: Path, file: str = "config.json") -> Path:
    folder.mkdir(parents=True)
    (folder / file).write_text("{}", encoding="utf-8")
    return folder


def names(folder: Path) -> list[str]:
    registry = open_models(ModelFolder(folder, Settings()))
    return [served_model.name for served_model in registry.served_models]


def test_folder_of_checkpoints(tmp_path: Path) -> None:
    make(tmp_path / "fr-en")
    make(tmp_path / "en-de", "SHA256SUMS")  # damaged, to be reported when it is loaded
    make(tmp_path / ".en-fr.77.tmp")  # just being written
    make(tmp_path / "notes", "README.md")
    (tmp_path / "file.txt").write_text("x", encoding="utf-8")
    assert names(tmp_path) == ["en-de", "fr-en"]


def test_a_folder_without_a_checkpoint_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path / "fr-en")
    make(tmp_path / "notes", "README.md")
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "zh-en").symlink_to(tmp_path / "nowhere")
    folder = ModelFolder(tmp_path, Settings())
    for _ in range(3):
        folder.look(["fr-en"])
    nowhere, notes = sorted(caplog.messages, reverse=True)
    assert notes.startswith(f"{tmp_path / 'notes'} is not served: it holds no config.json")
    assert nowhere.startswith(
        f"{tmp_path / 'zh-en'} is not served: it is a link that leads nowhere"
    )
    shutil.rmtree(tmp_path / "fr-en")
    (tmp_path / "fr-en").mkdir()  # damaged while it is served: the reload reports it
    with pytest.raises(CheckpointError):
        folder.look(["fr-en"])
    assert len(caplog.messages) == 2


def test_a_single_checkpoint_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_folder_without_models_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for folder in (tmp_path, tmp_path / "file", tmp_path / "none"):
        with pytest.raises(CheckpointError):
            open_models(ModelFolder(folder, Settings()))


def versions(found: list[FoundCheckpoint]) -> dict[str, str | None]:
    return {each.name: each.version for each in found}


def test_looking_into_the_folder_gives_names_versions_and_link_targets(tmp_path: Path) -> None:
    models = tmp_path / "models"
    dated = make(tmp_path / "kept" / "2026-11-21", "SHA256SUMS")
    (dated / "SHA256SUMS").write_bytes(b"sums")
    make(models / "fr-en")
    (models / "en-de").symlink_to(dated)
    folder = ModelFolder(models, Settings())
    expected = hashlib.sha256(b"sums").hexdigest()[:12]
    assert versions(folder.look()) == {"en-de": expected, "fr-en": None}
    assert folder.look()[0].folder == dated


def test_a_damaged_checkpoint_does_not_count_as_deleted(tmp_path: Path) -> None:
    make(tmp_path / "fr-en")
    (tmp_path / "en-de").symlink_to(
        tmp_path / "nowhere"
    )  # a broken link, as while folders are moved
    folder = ModelFolder(tmp_path, Settings())
    assert list(versions(folder.look())) == ["fr-en"]
    assert list(versions(folder.look(["en-de", "fr-en", "zh-en"]))) == ["en-de", "fr-en"]
    shutil.rmtree(tmp_path / "fr-en")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        folder.look(["en-de", "fr-en"])


def test_a_checkpoint_exchanged_while_it_is_loaded_is_loaded_again(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "en-de"
    shutil.copytree(tiny_checkpoint, folder)
    load_once = model_folder._load
    loaded: list[str] = []

    def load_and_exchange(*args: Any) -> LoadedModel:
        found = load_once(*args)
        loaded.append(found.info.version)
        if len(loaded) == 1:  # now `dragoman export` puts another there
            write_tiny_checkpoint(folder, seed=2)
        return found

    monkeypatch.setattr(model_folder, "_load", load_and_exchange)
    settings = Settings(threads_per_model=1)
    (model,) = open_models(ModelFolder(folder, settings)).served_models
    model.start()
    while model.state is ModelState.LOADING:
        time.sleep(0.01)
    assert model.known_info is not None
    assert loaded == [read_version(tiny_checkpoint), model.known_info.version]
    assert read_version(folder) == model.known_info.version
    assert model.close(5)


@pytest.mark.parametrize(
    ("asked", "num_cores", "num_models", "num_processes"),
    [
        (None, 1, 1, 0),  # no core besides the event loop's
        (None, 2, 1, 2),
        (None, 2, 2, 1),  # a core for each
        (None, 2, 3, 0),
        (None, 8, 3, 2),
        (1, 8, 1, 0),  # the smallest memory
        (2, 2, 5, 2),
    ],
)
def test_models_get_engine_processes_if_there_are_enough_cores(
    asked: int | None, num_cores: int, num_models: int, num_processes: int
) -> None:
    settings = Settings(threads_per_model=asked)
    assert num_engine_processes(settings, num_cores, num_models) == num_processes
