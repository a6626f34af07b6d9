"""Files and folders appear whole or not at all, even if the writer fails or is killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from model.system import atomic_files as files
from model.system.atomic_files import replaced_file, replaced_folder, write_json, write_text

ROOT = Path(__file__).parents[3]
# Of a process that does not exist: Linux hands out no number above 4,194,304.
DEAD = 999_999_999


class Failure(Exception):
    """An error while writing."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def begin_file(path: Path, error: BaseException) -> None:
    with replaced_file(path) as temporary:
        temporary.write_bytes(b"half")
        raise error


def begin_folder(path: Path, error: BaseException) -> None:
    with replaced_folder(path) as temporary:
        (temporary / "text").write_text("half", encoding="utf-8")
        raise error


def write_folder(path: Path, text: str) -> None:
    with replaced_folder(path) as temporary:
        (temporary / "text").write_text(text, encoding="utf-8")


def test_a_file_appears_with_its_content(tmp_path: Path) -> None:
    with replaced_file(tmp_path / "a") as temporary:
        temporary.write_bytes(b"new")
        assert not (tmp_path / "a").exists()
        assert temporary.name.startswith(".")  # hidden, so that it is not taken for a finished file
    assert (tmp_path / "a").read_bytes() == b"new"
    assert names(tmp_path) == ["a"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(Failure):
        begin_file(tmp_path / "a", Failure())
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_a_failure_leaves_no_file_where_there_was_none(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        begin_file(tmp_path / "a", KeyboardInterrupt())
    assert names(tmp_path) == []


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    write_text(tmp_path / "a", "old")
    monkeypatch.setattr(os, "fsync", full)  # where a delayed write shows
    with pytest.raises(OSError, match="No space left"):
        write_text(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == ["a"]


def test_a_file_behind_a_link_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "behind").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "behind" / "a")
    for text in ("first", "second"):  # a link to nothing, a link to a file
        write_text(tmp_path / "link", text)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "behind" / "a").read_text(encoding="utf-8") == text
    assert names(tmp_path) == ["behind", "link"]
    assert names(tmp_path / "behind") == ["a"]


def test_a_folder_or_a_device_is_no_file_to_replace(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # stands for /dev/null, which root could really replace
    for path in (tmp_path, tmp_path / "pipe"):
        with (
            pytest.raises(FileExistsError, match="no regular file") as refusal,
            replaced_file(path),
        ):
            pytest.fail("nothing should be written for it")
        assert str(path) in str(refusal.value)
    assert names(tmp_path) == ["pipe"]


def test_text_is_utf_8_with_plain_newlines(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "Grüße\r\n\u2028你好\n")
    assert (tmp_path / "a").read_bytes() == "Grüße\r\n\u2028你好\n".encode()


def test_json_is_readable(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"name": "Grüße", "numbers": [1]})
    expected = '{\n  "name": "Grüße",\n  "numbers": [\n    1\n  ]\n}\n'
    assert (tmp_path / "a").read_text(encoding="utf-8") == expected


def test_a_folder_appears_with_its_content(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down" / "a"
    write_folder(path, "new")
    assert names(path.parent) == ["a"]
    assert (path / "text").read_text(encoding="utf-8") == "new"


@pytest.fixture(params=["exchange", "two renames"])
def _way_of_replacing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "two renames":
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)


@pytest.mark.usefixtures("_way_of_replacing")
def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    write_folder(tmp_path / "a", "old")
    (tmp_path / "a" / "more").mkdir()
    write_folder(tmp_path / "a", "new")
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["text"]
    assert (tmp_path / "a" / "text").read_text(encoding="utf-8") == "new"


@pytest.mark.usefixtures("_way_of_replacing")
def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    write_folder(tmp_path / "a", "old")
    with pytest.raises(Failure):
        begin_folder(tmp_path / "a", Failure())
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a" / "text").read_text(encoding="utf-8") == "old"


def test_a_failure_between_two_renames_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "a", "old")
    rename = os.replace

    def fail_for_the_new(source: Path, target: Path) -> None:
        if source.name.endswith(".tmp"):
            raise Failure
        rename(source, target)

    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    monkeypatch.setattr(os, "replace", fail_for_the_new)
    with pytest.raises(Failure):
        write_folder(tmp_path / "a", "new")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a" / "text").read_text(encoding="utf-8") == "old"


@pytest.mark.usefixtures("_way_of_replacing")
def test_a_folder_behind_a_link_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("behind")
    for text in ("first", "second"):
        write_folder(tmp_path / "link", text)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "behind" / "text").read_text(encoding="utf-8") == text
    assert names(tmp_path) == ["behind", "link"]


def test_a_file_is_no_folder_to_replace(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"mine")
    with (
        pytest.raises(NotADirectoryError, match="no folder") as refusal,
        replaced_folder(tmp_path / "a"),
    ):
        pytest.fail("nothing should be written for it")
    assert str(tmp_path / "a") in str(refusal.value)
    assert (tmp_path / "a").read_bytes() == b"mine"


def test_files_of_killed_writers_are_removed(tmp_path: Path) -> None:
    (tmp_path / f".a.{DEAD}.tmp").write_bytes(b"half")
    (tmp_path / f".a.{os.getpid()}.tmp").write_bytes(b"of an earlier process with our number")
    (tmp_path / f".b.{DEAD}.tmp").mkdir()
    (tmp_path / f".b.{DEAD}.tmp" / "text").write_bytes(b"half")
    (tmp_path / f".b.{DEAD}.old").mkdir()
    write_folder(tmp_path / "b", "whole")
    write_text(tmp_path / "a", "whole")
    assert names(tmp_path) == ["a", "b"]
    assert (tmp_path / "b" / "text").read_text(encoding="utf-8") == "whole"


def test_an_old_folder_that_a_kill_took_away_is_put_back(tmp_path: Path) -> None:
    write_folder(tmp_path / "a", "old")
    (tmp_path / "a").rename(tmp_path / f".a.{DEAD}.old")
    with pytest.raises(Failure):
        begin_folder(tmp_path / "a", Failure())
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a" / "text").read_text(encoding="utf-8") == "old"


def test_files_of_other_writers_stay(tmp_path: Path) -> None:
    others = [
        f".a.{os.getppid()}.tmp",  # a writer that is still at work
        f".a.b.{DEAD}.tmp",  # left beside another file, a.b
        f".[a].{DEAD}.tmp",
        ".a.backup.tmp",
        f".a.{DEAD}{DEAD}.tmp",  # no process number
        f"a.{DEAD}.tmp",
    ]
    for name in others:
        (tmp_path / name).write_bytes(b"other")
    write_text(tmp_path / "a", "mine")
    assert names(tmp_path) == sorted(["a", *others])


def test_a_name_with_pattern_characters_is_only_a_name(tmp_path: Path) -> None:
    (tmp_path / f".[ab]*.{DEAD}.tmp").write_bytes(b"half")
    (tmp_path / f".a.{DEAD}.tmp").write_bytes(b"other")
    write_text(tmp_path / "[ab]*", "mine")
    assert names(tmp_path) == [f".a.{DEAD}.tmp", "[ab]*"]


@pytest.mark.parametrize("writer", ["file", "folder", "folder-without-exchange"])
def test_killed_at_any_moment_nothing_is_lost(tmp_path: Path, writer: str) -> None:
    command = [sys.executable, "-m", "tests.model.system.kill_writers", writer, str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_a_file_that_a_library_made_private_gets_the_mode_of_the_umask(
    mask: int, mode: int, tmp_path: Path
) -> None:
    before = os.umask(mask)
    try:
        with files.replaced_file(tmp_path / "state") as temporary:
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
    finally:
        os.umask(before)
    assert (tmp_path / "state").stat().st_mode & 0o777 == mode
