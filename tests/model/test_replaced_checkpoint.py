"""A checkpoint replaces another whole or not at all, and no other file."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model import checkpoint as checkpoint_module
from model.checkpoint import CARD, WEIGHTS, check_replaceable, load_checkpoint
from model.errors import CheckpointError
from model.text.tokenizer import JOINT_FILE, TokenizerPair
from model.version import SUMS
from tests.model.checkpoints import (
    build,
    contents,
    log_probs,
    names,
    save,
    saved_again,
    small_config,
)

ROOT = Path(__file__).parents[2]


def test_a_newer_checkpoint_takes_the_place_of_an_older_one(
    folder: Path, separate_tokenizers: TokenizerPair
) -> None:
    old = load_checkpoint(folder)
    config = small_config(separate_tokenizers)
    network = build(config)
    save(folder, network, separate_tokenizers, config=config, card="# new\n")
    new = load_checkpoint(folder)
    assert new.version != old.version
    assert torch.equal(log_probs(new.network), log_probs(network))
    assert JOINT_FILE not in names(folder)  # nothing of the old one stays
    assert names(folder.parent) == [folder.name]


def test_a_damaged_checkpoint_can_be_replaced(tiny_checkpoint: Path, folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"damaged")
    saved_again(folder, load_checkpoint(tiny_checkpoint))
    load_checkpoint(folder)


def test_an_empty_folder_can_become_a_checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    saved_again(tmp_path / "new", load_checkpoint(tiny_checkpoint))
    load_checkpoint(tmp_path / "new")


def test_a_checkpoint_behind_a_link_is_replaced_and_the_link_stays(folder: Path) -> None:
    link = folder.parent / "current"
    link.symlink_to(folder.name)
    saved_again(link, load_checkpoint(link))
    assert link.is_symlink()
    assert (folder / CARD).read_text(encoding="utf-8") == "# new\n"
    assert load_checkpoint(link).name == folder.name
    assert names(folder.parent) == ["current", folder.name]


def test_other_files_and_folders_are_never_overwritten(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    loaded = load_checkpoint(tiny_checkpoint)
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"mine")
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / SUMS).write_bytes(b"mine")  # a common name
    before = contents(tmp_path / "photos") | contents(tmp_path / "downloads")
    for name in ("file", "photos", "downloads"):
        with pytest.raises(CheckpointError, match=f"{name} exists and is no checkpoint"):
            saved_again(tmp_path / name, loaded)
    assert (tmp_path / "file").read_bytes() == b"mine"
    assert contents(tmp_path / "photos") | contents(tmp_path / "downloads") == before
    assert names(tmp_path) == ["downloads", "file", "photos"]


@pytest.mark.parametrize("name", ["notes.txt", ".git"])
def test_foreign_files_in_a_checkpoint_are_not_lost(name: str, folder: Path) -> None:
    loaded = load_checkpoint(folder)
    (folder / name).write_bytes(b"mine")
    with pytest.raises(CheckpointError, match=f"'{name}'.*lost"):
        saved_again(folder, loaded)
    with pytest.raises(CheckpointError, match=f"'{name}'.*lost"):
        check_replaceable(folder)
    assert (folder / name).read_bytes() == b"mine"
    load_checkpoint(folder)  # a file that belongs to no checkpoint does no harm


@pytest.mark.parametrize("failing", ["save_file", "file_hash", "_write"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_checkpoint(
    failing: str, error: BaseException, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_checkpoint(folder)
    before = contents(folder)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(checkpoint_module, failing, fail)
    for path in (folder, folder.parent / "other"):
        with pytest.raises(type(error)):
            saved_again(path, loaded)
    assert contents(folder) == before
    assert names(folder.parent) == [folder.name]


def test_killed_at_any_moment_a_checkpoint_stays_whole(folder: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.model.system.kill_writers",
        "checkpoint",
        str(folder.parent),
    ]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
