"""Atomic writes: a file or folder is replaced whole or not at all, even if the writer is killed.

New content is written beside the old, under a hidden name with the writer's process id, and
replaces it in one step. The next writer of the same path removes files that a killed writer left.
One process at a time may write a path. If the path is a link, its target is replaced. Every file
gets the mode of the user's umask, also where a library creates it readable by its owner alone.
"""

import ctypes
import errno
import glob
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # <fcntl.h>, <linux/fs.h>


@contextmanager
def replaced_file(path: Path, *, mode: int | None = None) -> Iterator[Path]:
    """Yields a temporary sibling to write; on success it becomes `path`, else it is removed.

    The file gets this mode; None: the mode that the umask says.
    """
    path = Path(os.path.realpath(path))
    if (
        path.exists() and not path.is_file()
    ):  # replacing a device such as /dev/null would destroy it
        raise FileExistsError(errno.EEXIST, "it exists and is no regular file", str(path))
    _remove_leftovers(path)
    temporary = _sibling(path, "tmp")
    try:
        with _blamed_on(path, temporary):
            mode = _umask_mode(temporary) if mode is None else mode
            yield temporary
            temporary.chmod(mode)
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary sibling folder to fill; on success it replaces `path`."""
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "it exists and is no folder", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary, outgoing = _sibling(path, "tmp"), _sibling(path, "old")
    try:
        with _blamed_on(path, temporary):
            temporary.mkdir()
            mode = _umask_mode(temporary / "mode")
            yield temporary
            for file in temporary.iterdir():
                file.chmod(mode)
                sync(file)
            sync(temporary)
            if not path.exists():
                os.replace(temporary, path)
            elif not _exchange(temporary, path):
                os.replace(path, outgoing)
                os.replace(temporary, path)
            sync(path.parent)
    finally:
        if outgoing.exists() and not path.exists():
            os.replace(outgoing, path)
        shutil.rmtree(outgoing, ignore_errors=True)
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _blamed_on(path: Path, temporary: Path) -> Iterator[None]:
    """Makes write errors name `path`; a full disk names no file, other errors the temporary one."""
    try:
        yield
    except OSError as error:
        name = error.filename
        if error.errno is None or (name and not str(name).startswith(str(temporary))):
            raise  # about another file
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 with plain newlines, whole or not at all."""
    with replaced_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, content: Any) -> None:
    """Writes indented JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def sync(path: Path) -> None:
    """Waits until the file (or a folder's list of names) is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask_mode(path: Path) -> int:
    """Returns the mode that the umask gives to a new file at `path`; leaves no file there."""
    path.touch()
    mode = path.stat().st_mode
    path.unlink()
    return stat.S_IMODE(mode)


def _sibling(path: Path, ending: str) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{ending}")


def _exchange(one: Path, other: Path) -> bool:
    """Swaps two paths in one step; returns False where the system cannot do that."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)  # Linux
    if renameat2 is None:
        return False
    names = os.fsencode(one), os.fsencode(other)
    return bool(renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)


def _remove_leftovers(path: Path) -> None:
    """Removes files that killed writers left beside `path`; restores a missing folder from them."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*"):
        ending = leftover.name.removeprefix(f".{path.name}")
        match = re.fullmatch(r"\.(\d{1,9})\.(tmp|old)", ending)
        if match is None or _is_running(int(match[1])):
            continue
        with suppress(OSError):  # another user's file, which does no harm
            if match[2] == "old" and not path.exists():
                os.replace(leftover, path)
            elif leftover.is_dir():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()


def _is_running(process: int) -> bool:
    if process == os.getpid():
        return False  # left by an earlier process: containers reuse process ids
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's process
    return True
