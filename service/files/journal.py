"""The unfinished output of a file job, which is its own journal.

OUTPUT.part holds the translations so far, one line for each input line. OUTPUT.journal is a small
JSON file that says which job they belong to. To resume, the lines of OUTPUT.part are counted and
those after the last whole window are cut off, so a kill at any moment costs one window. OUTPUT
itself only ever appears whole, by renaming.
"""

import fcntl
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO

from model.errors import DragomanError
from model.system.atomic_files import sync

_VERSION = 2
_BLOCK = 1 << 20
_REMEDY = "make room, change the permissions or choose another output"


class JobError(DragomanError):
    """A file job that cannot start, go on or be resumed."""


class PartFile:
    """The output of an unfinished job; `open_part` makes it."""

    def __init__(self, output: Path, file: IO[bytes], num_lines: int) -> None:
        self.num_lines = num_lines  # translated so far
        self._output = output
        self._file = file

    def append(self, num_lines: int, data: bytes) -> None:
        """Adds one window; when this returns, it survives a kill of the process."""
        with self._written():
            self._file.write(data)
            self._file.flush()
        self.num_lines += num_lines

    def finish(self) -> None:
        """Makes the part file the output; an older output is replaced."""
        part, journal = job_paths(self._output)
        with self._written():
            sync(part)
            os.replace(part, self._output)
            sync(self._output.parent)
            journal.unlink()

    def _written(self) -> AbstractContextManager[None]:
        safe = f"{self.num_lines:,} lines are safe"
        return _written(
            self._file.name, f"{safe}: make room and give the same command with --resume"
        )


@contextmanager
def open_part(
    output: Path,
    identity: Mapping[str, object],
    *,
    num_lines: int,
    window_lines: int,
    resume: bool,
) -> Iterator[PartFile]:
    """Begins a job of num_lines lines, or continues one after its last whole window.

    `identity` is everything that the output depends on; a job is resumed only if it is unchanged.
    Only one process may have the files of an output open. Raises JobError, and changes nothing, if
    there are files of another job.
    """
    part, journal = job_paths(output)
    if _size(part) and not _size(journal):
        raise JobError(
            f"{part} exists and no journal belongs to it, so it may be yours; move it away or "
            f"choose another output"
        )
    with _locked(journal):
        recorded = _read_journal(journal)
        done, num_bytes = _whole_windows(part, num_lines, window_lines)
        wanted = json.loads(json.dumps({"version": _VERSION, **identity}))
        obstacle = _obstacle(recorded, wanted, done, resume=resume) if done else None
        if obstacle is not None:
            raise JobError(f"{output}: {obstacle}, or remove {journal} and {part} to start over")
        with _written(part, _REMEDY):
            file = part.open("r+b" if done else "w+b")
        try:
            file.truncate(num_bytes)
            file.seek(num_bytes)
            if not done:
                with _written(journal, _REMEDY):
                    journal.write_text(json.dumps(wanted))
            yield PartFile(output, file, done)
        finally:
            with suppress(OSError):  # a full disk fails again, over lines that do not count
                file.close()


def job_paths(output: Path) -> tuple[Path, Path]:
    """OUTPUT.part and OUTPUT.journal."""
    return output.with_name(output.name + ".part"), output.with_name(output.name + ".journal")


@contextmanager
def _written(path: object, remedy: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise JobError(f"cannot write {path}: {error.strerror}; {remedy}") from error


@contextmanager
def _locked(journal: Path) -> Iterator[None]:
    with _written(journal, _REMEDY):
        file = journal.open("ab")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JobError(
                f"another process is writing {journal.with_suffix('')} now; wait for it or choose "
                f"another output"
            ) from None
        yield


def _read_journal(journal: Path) -> dict[str, object]:
    """The identity of the job that the part file belongs to; empty for a new job."""
    try:
        recorded = json.loads(journal.read_bytes() or b"{}")
    except ValueError:
        recorded = None
    if not isinstance(recorded, dict):
        raise JobError(f"{journal} is not the journal of a file job; move it away")
    return recorded


def _obstacle(
    recorded: Mapping[str, object], wanted: Mapping[str, object], num_lines: int, *, resume: bool
) -> str | None:
    """Why a job that stopped after num_lines lines cannot be resumed now."""
    changed = [key for key in {**recorded, **wanted} if recorded.get(key) != wanted.get(key)]
    if not resume:
        return f"an earlier job stopped after {num_lines:,} lines; go on with --resume"
    if changed:
        what = ", ".join(changed)
        return f"cannot resume: since the job stopped, this changed: {what}; change it back"
    return None


def _whole_windows(part: Path, num_lines: int, window_lines: int) -> tuple[int, int]:
    """The number of lines and bytes up to the end of the last whole window of a part file."""
    done = num_bytes = 0
    if part.exists():
        with part.open("rb") as file, suppress(zlib.error):  # after an error nothing is whole
            is_gzip = part.name.endswith(".gz.part")
            for count, end in _ends_of_members(file) if is_gzip else _ends_of_lines(file):
                if count % window_lines == 0 or count == num_lines:
                    done, num_bytes = count, end
    return done, num_bytes


def _ends_of_lines(file: IO[bytes]) -> Iterator[tuple[int, int]]:
    """For each whole line: its number, counted from 1, and the offset of its end."""
    end = 0
    for number, line in enumerate(file, start=1):
        end += len(line)
        if line.endswith(b"\n"):
            yield number, end


def _ends_of_members(file: IO[bytes]) -> Iterator[tuple[int, int]]:
    """For each whole gzip member: the number of lines up to its end, and the offset of its end."""
    member = zlib.decompressobj(wbits=31)
    num_lines = 0
    while block := file.read(_BLOCK):
        while block:
            num_lines += member.decompress(block).count(b"\n")
            block = member.unused_data
            if member.eof:
                yield num_lines, file.tell() - len(block)
                member = zlib.decompressobj(wbits=31)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
