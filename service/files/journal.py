"""The unfinished output of a file job, which is its own journal.

OUTPUT.part holds the translations so far, one line for each input line. OUTPUT.journal is a small
JSON file that says what job they belong to. To resume, the lines of OUTPUT.part are counted and
what follows the last whole window is cut off: a kill at any moment costs one window. OUTPUT itself
only ever appears whole, by renaming.
"""

import fcntl
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from model.errors import DragomanError
from model.system.atomic_files import sync

_VERSION = 2
_BLOCK = 1 << 20


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
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise self._not_written(error) from error
        self.num_lines += num_lines

    def finish(self) -> None:
        """Makes the part file the output; an older output is replaced."""
        part, journal = job_paths(self._output)
        try:
            sync(part)
            os.replace(part, self._output)
            sync(self._output.parent)
        except OSError as error:
            raise self._not_written(error) from error
        journal.unlink()

    def _not_written(self, error: OSError) -> JobError:
        return JobError(
            f"cannot write {self._file.name}: {error.strerror}; {self.num_lines:,} lines are safe: "
            f"make room and give the same command with --resume"
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
    part_path, journal_path = job_paths(output)
    if _size(part_path) and not _size(journal_path):
        raise JobError(
            f"{part_path} exists and no journal belongs to it, so it may be yours; "
            f"move it away or choose another output"
        )
    with _open_locked(journal_path) as journal:
        recorded = _read_journal(journal, journal_path)
        done, num_bytes = _whole_windows(part_path, num_lines, window_lines)
        if done:
            _check_resumable(output, recorded, identity, done, resume=resume)
        file = _open_part(part_path, num_bytes)
        try:
            if not done:
                _write_journal(journal, identity)
            yield PartFile(output, file, done)
        finally:
            with suppress(OSError):  # a full disk fails again, over lines that do not count
                file.close()


def job_paths(output: Path) -> tuple[Path, Path]:
    """OUTPUT.part and OUTPUT.journal."""
    return output.with_name(output.name + ".part"), output.with_name(output.name + ".journal")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _open_locked(path: Path) -> IO[bytes]:
    try:
        journal = path.open("a+b", buffering=0)
    except OSError as error:
        raise JobError(f"cannot write {path}: {error.strerror}") from error
    try:
        fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        journal.close()
        raise JobError(
            f"another process is writing {path.with_suffix('')} now; wait for it or choose "
            f"another output"
        ) from None
    return journal


def _read_journal(journal: IO[bytes], path: Path) -> dict[str, Any]:
    """The identity of the job that the part file belongs to; empty for a new job."""
    journal.seek(0)
    content = journal.read()
    if not content:
        return {}
    try:
        recorded = json.loads(content)
        recorded["version"]
    except (ValueError, KeyError, TypeError):
        raise JobError(f"{path} is not the journal of a file job; move it away") from None
    return dict(recorded)


def _write_journal(journal: IO[bytes], identity: Mapping[str, object]) -> None:
    journal.truncate(0)
    try:
        journal.write(json.dumps({"version": _VERSION, **identity}).encode())
    except OSError as error:
        journal.truncate(0)
        raise JobError(f"cannot write {journal.name}: {error.strerror}") from error


def _open_part(path: Path, num_bytes: int) -> IO[bytes]:
    """The part file, cut off after so many bytes and ready for more."""
    try:
        file = path.open("r+b" if num_bytes else "w+b")
    except OSError as error:
        raise JobError(f"cannot write {path}: {error.strerror}") from error
    file.truncate(num_bytes)
    file.seek(num_bytes)
    return file


def _check_resumable(
    output: Path,
    recorded: Mapping[str, object],
    identity: Mapping[str, object],
    num_lines: int,
    *,
    resume: bool,
) -> None:
    part, journal = job_paths(output)
    remove = f"remove {journal} and {part} to start over"
    if not resume:
        raise JobError(
            f"an earlier job for {output} stopped after {num_lines:,} lines; "
            f"go on with --resume, or {remove}"
        )
    wanted = json.loads(json.dumps({"version": _VERSION, **identity}))
    changed = [key for key in {**recorded, **wanted} if recorded.get(key) != wanted.get(key)]
    if changed:
        raise JobError(
            f"cannot resume: since the job stopped, this changed: {', '.join(changed)}; "
            f"change it back, or {remove}"
        )


def _whole_windows(part: Path, num_lines: int, window_lines: int) -> tuple[int, int]:
    """The number of lines and bytes up to the end of the last whole window of a part file."""
    done = num_bytes = 0
    if not part.exists():
        return done, num_bytes
    with part.open("rb") as file:
        lines = _ends_of_members(file) if part.name.endswith(".gz.part") else _ends_of_lines(file)
        for count, end in lines:
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
    num_lines = end = 0
    with suppress(zlib.error):  # bytes that no job wrote: what comes before them counts
        while block := file.read(_BLOCK):
            while block:
                num_lines += member.decompress(block).count(b"\n")
                block = member.unused_data
                if member.eof:
                    end = file.tell() - len(block)
                    yield num_lines, end
                    member = zlib.decompressobj(wbits=31)
