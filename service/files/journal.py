"""The two files of an unfinished file job, and how they become the output.

OUTPUT.part holds the lines written so far; OUTPUT.journal says what the job is and, after every
window, how much of OUTPUT.part is good. A window counts once its journal line is on the disk, so
whatever kills the job, `--resume` cuts OUTPUT.part back to the last line of the journal and goes
on. OUTPUT itself only ever appears whole, by renaming.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from model.errors import DragomanError

_VERSION = 1
_BLOCK = 1 << 20


class JobError(DragomanError):
    """A file job that cannot start, go on or be resumed."""


@dataclass(frozen=True)
class Mark:
    """One window's end: everything before it is on the disk."""

    num_lines: int
    num_bytes: int
    sha256: str  # of the first num_bytes of OUTPUT.part


_START = Mark(0, 0, hashlib.sha256().hexdigest())


class JobFiles:
    """Owns OUTPUT.part and OUTPUT.journal from `open` until `finish`; only one process may."""

    def __init__(self, output: Path, part: IO[bytes], journal: IO[bytes], mark: Mark) -> None:
        self.mark = mark
        self._output = output
        self._part = part
        self._journal = journal
        self._digest = _digest(part, mark.num_bytes)

    @classmethod
    def open(
        cls, output: Path, identity: Mapping[str, object], *, num_lines: int, resume: bool
    ) -> Self:
        """Begin a job of num_lines lines, or go on where its journal ends.

        `identity` is all that the output depends on; a job is resumed only if it is unchanged.
        Raises JobError, and touches nothing, if files of another job are in the way.
        """
        part_path, journal_path = job_paths(output)
        if not journal_path.exists() and part_path.exists():
            raise JobError(
                f"{part_path} exists and no journal belongs to it, so it may be yours; "
                f"move it away or choose another output"
            )
        journal = _open_locked(journal_path)
        try:
            mark = _read_journal(journal, journal_path, identity, resume=resume)
            if mark is None:
                mark = _START
                journal.truncate(0)
                _append(journal, {"version": _VERSION, **identity})
            part: IO[bytes]
            if mark.num_lines == num_lines > 0 and not part_path.exists() and output.exists():
                part = output.open("rb")  # killed between the last rename and the journal's end
            else:
                part = part_path.open("r+b" if mark.num_bytes else "w+b")
        except FileNotFoundError:
            journal.close()
            raise JobError(
                f"{part_path} is gone, so the job cannot go on; remove {journal_path} to start over"
            ) from None
        except BaseException:
            journal.close()
            raise
        files = cls(output, part, journal, mark)
        if files._digest.hexdigest() != mark.sha256:
            files._close()
            raise JobError(
                f"{part.name} was changed since the job stopped; remove {journal_path} and "
                f"{part_path} to start over"
            )
        if part.writable():
            part.truncate(mark.num_bytes)
            part.seek(mark.num_bytes)
        return files

    def append(self, num_lines: int, data: bytes) -> None:
        """Add one window; when this returns, it survives a power cut."""
        try:
            self._part.write(data)
            _to_disk(self._part)
            self._digest.update(data)
            mark = Mark(
                self.mark.num_lines + num_lines,
                self.mark.num_bytes + len(data),
                self._digest.hexdigest(),
            )
            _append(self._journal, asdict(mark))
        except OSError as error:
            raise JobError(
                f"cannot write {self._part.name}: {error.strerror}; {self.mark.num_lines:,} lines "
                f"are safe: make room and give the same command with --resume"
            ) from error
        self.mark = mark

    def finish(self) -> None:
        """Make the part file the output, replacing what was there."""
        part_path, journal_path = job_paths(self._output)
        if self._part.writable():
            os.replace(part_path, self._output)
        folder = os.open(self._output.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        journal_path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        for file in (self._part, self._journal):
            try:
                file.close()
            except OSError:
                # A full disk fails once more here, over bytes that no journal line counts.
                continue


def job_paths(output: Path) -> tuple[Path, Path]:
    """OUTPUT.part and OUTPUT.journal."""
    return output.with_name(output.name + ".part"), output.with_name(output.name + ".journal")


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


def _read_journal(
    journal: IO[bytes], path: Path, identity: Mapping[str, object], *, resume: bool
) -> Mark | None:
    """Where the job stands; None when nothing is done yet and the job starts afresh."""
    journal.seek(0)
    *lines, cut_off = journal.read().split(b"\n")
    if not lines:
        return None
    try:
        header, *records = [json.loads(line) for line in lines]
        recorded = {key: value for key, value in header.items() if key != "version"}
        version = header["version"]
        mark = Mark(**records[-1]) if records else None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise JobError(f"{path} is not the journal of a file job; move it away") from None
    if mark is None:
        return None
    if not resume:
        raise JobError(
            f"an earlier job for {path.with_suffix('')} stopped after {mark.num_lines:,} lines; "
            f"go on with --resume, or remove {path} and {path.with_suffix('.part')} to start over"
        )
    wanted = json.loads(json.dumps(identity))
    changed = [key for key in {**recorded, **wanted} if recorded.get(key) != wanted.get(key)]
    if version != _VERSION:
        changed.append("journal format")
    if changed:
        raise JobError(
            f"cannot resume: since the job stopped, this changed: {', '.join(changed)}; "
            f"change it back, or remove {path} and {path.with_suffix('.part')} to start over"
        )
    if cut_off:  # a full disk or a power failure in the middle of a record
        journal.truncate(journal.tell() - len(cut_off))
    return mark


def _append(journal: IO[bytes], record: Mapping[str, object]) -> None:
    journal.write(json.dumps(record).encode() + b"\n")
    os.fsync(journal.fileno())


def _to_disk(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _digest(part: IO[bytes], num_bytes: int) -> "hashlib._Hash":
    digest = hashlib.sha256()
    part.seek(0)
    while num_bytes > 0 and (block := part.read(min(_BLOCK, num_bytes))):
        digest.update(block)
        num_bytes -= len(block)
    return digest
