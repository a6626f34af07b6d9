"""Writers that are killed at every moment; tests run each in a separate process.

python -m tests.model.system.kill_writers WRITER FOLDER
"""

import os
import sys
from pathlib import Path

from model.system import atomic_files as files
from tests.killed import kill_everywhere

PARTS = ("a", "b")


def kill_replaced_file(folder: Path) -> None:
    """Checks that the file holds the old or the new text, and that no files are left over."""
    path = folder / "note.txt"
    files.write_text(path, "0" * 1000)

    def check(attempt: int) -> None:
        text = path.read_text(encoding="utf-8")
        assert text in {f"{number}" * 1000 for number in range(attempt + 1)}
        assert len(list(folder.iterdir())) <= 2  # it, and what this kill left

    kill_everywhere(lambda attempt: files.write_text(path, f"{attempt}" * 1000), check)
    assert list(folder.iterdir()) == [path]


def kill_replaced_folder(folder: Path) -> None:
    """Checks that the folder exists at every moment, whole."""
    path = folder / "data"
    _write_folder(path, 0)

    def check(attempt: int) -> None:
        assert _written_by(path) <= attempt
        assert len(list(folder.iterdir())) <= 2

    attempts = kill_everywhere(lambda attempt: _write_folder(path, attempt), check)
    assert _written_by(path) == attempts
    assert list(folder.iterdir()) == [path]


def kill_replaced_folder_without_exchange(folder: Path) -> None:
    """Checks that, where names cannot be swapped, the next writer restores a missing folder."""
    files._exchange = lambda one, other: False
    path = folder / "data"
    _write_folder(path, 0)
    missing = 0

    def check(attempt: int) -> None:
        nonlocal missing
        missing += not path.exists()
        try:
            with files.replaced_folder(path):
                raise KeyboardInterrupt  # a writer that only begins
        except KeyboardInterrupt:
            assert _written_by(path) <= attempt
        assert list(folder.iterdir()) == [path]

    attempts = kill_everywhere(lambda attempt: _write_folder(path, attempt), check)
    assert missing > 0, "no kill fell between the two renames; the test tests nothing"
    assert _written_by(path) == attempts


def kill_checkpoint(folder: Path) -> None:
    """Checks that a checkpoint can be loaded at every moment while it is replaced."""
    from model.checkpoint import CARD, load_checkpoint, read_description, save_checkpoint

    path = folder / "tiny"
    old = load_checkpoint(path)

    def save(attempt: int) -> None:
        save_checkpoint(
            path,
            config=old.config,
            weights=dict(old.network.named_parameters()),
            tokenizers=old.tokenizers,
            metrics={"attempt": attempt},
            card=f"{attempt}\n",
        )

    def check(attempt: int) -> None:
        metrics = read_description(path).metrics  # checks all hashes
        assert metrics.get("attempt", 0) <= attempt
        assert len(list(folder.iterdir())) <= 2

    attempts = kill_everywhere(save, check)
    assert (path / CARD).read_text(encoding="utf-8") == f"{attempts}\n"
    load_checkpoint(path)
    assert list(folder.iterdir()) == [path]


def _write_folder(path: Path, number: int) -> None:
    with files.replaced_folder(path) as temporary:
        for part in PARTS:
            (temporary / part).write_text(f"{number}\n", encoding="utf-8")


def _written_by(path: Path) -> int:
    """Returns the number of the writer; fails when parts are missing or of different writers."""
    assert sorted(part.name for part in path.iterdir()) == sorted(PARTS)
    [number] = {(path / part).read_text(encoding="utf-8") for part in PARTS}
    return int(number)


WRITERS = {
    "file": kill_replaced_file,
    "folder": kill_replaced_folder,
    "folder-without-exchange": kill_replaced_folder_without_exchange,
    "checkpoint": kill_checkpoint,
}

if __name__ == "__main__":
    os.fsync = lambda fd: None  # slow, and a kill takes nothing from the page cache
    WRITERS[sys.argv[1]](Path(sys.argv[2]))
