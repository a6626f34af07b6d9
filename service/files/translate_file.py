"""Translates lines in order: whole files, which can be resumed, and streams.

A file is translated in windows of lines, longest first within a window, and its output appears by
renaming at the end. A stream goes through a sliding window; each line is written as soon as those
before it are. Every input line becomes exactly one output line, ending in "\\n".
"""

import functools
import gzip
import itertools
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from model.batch_translate import IncrementalTranslator, translate_in_order
from model.decoding.search_config import SearchConfig
from model.errors import InputError
from model.system.atomic_files import replaced_file
from model.text.segmenter import Segmentation
from model.text.text_file import read_lines
from model.translation import Translation
from service.files.journal import JobError, job_paths, open_part
from service.files.lines import LineSource, Survey
from service.files.output_format import LineFormat

WINDOW_LINES = 2048  # what a kill can cost; at the end of each window slots stay empty
_LONGEST_WAIT_S = 0.05  # for a translation, before looking for more lines of a stream
_STREAM_LINES = 256  # in flight at once: keeps the slots busy, and bounds what waits for the head


class Interrupted(Exception):
    """Ctrl-C, with a sentence that says how to go on."""


@dataclass(frozen=True)
class FileJob:
    """One file to translate, and how."""

    source: Path
    output: Path
    form: LineFormat
    search: SearchConfig | None = None  # None: the checkpoint's own settings
    segmentation: Segmentation = "line"
    window_lines: int = WINDOW_LINES

    def check_paths(self) -> None:
        """Raises JobError for an output that cannot be written or would destroy the input."""
        part, journal = job_paths(self.output)
        if not self.output.parent.is_dir():
            raise JobError(f"there is no folder {self.output.parent}; create it first")
        if self.output.is_dir():
            raise JobError(f"{self.output} is a folder; name a file in it")
        for path in (self.output, part, journal):
            if path.exists() and path.samefile(self.source):
                raise JobError(f"{path} is the input itself; choose another output")


@dataclass(frozen=True)
class JobReport:
    """What a finished job did."""

    num_lines: int
    num_resumed: int  # of these, lines that an earlier, interrupted job had done
    num_truncated: int  # translations of this job that reached the length limit before their end


def translate_file(
    translator: IncrementalTranslator,
    job: FileJob,
    found: Survey,
    settings: Mapping[str, object],
    *,
    resume: bool,
    progress: Callable[[int], None],
) -> JobReport:
    """Translates a surveyed file; after a kill at any moment, `resume` gives the same bytes.

    `settings` is everything, beside the input, that the output depends on. `progress` is called
    with the number of lines done.
    """
    job.check_paths()
    identity = {
        "input": found.sha256,
        "output packing": "gzip" if job.output.name.endswith(".gz") else "none",
        "window": job.window_lines,
        **settings,
    }
    with open_part(
        job.output,
        identity,
        num_lines=found.num_lines,
        window_lines=job.window_lines,
        resume=resume,
    ) as part:
        num_resumed, num_truncated = part.num_lines, 0
        progress(num_resumed)
        try:
            lines = itertools.islice(read_lines(job.source), num_resumed, None)
            while window := list(itertools.islice(lines, job.window_lines)):
                done = part.num_lines
                translations = translate_in_order(
                    translator,
                    window,
                    job.search,
                    alignments=job.form.alignments,
                    segmentation=job.segmentation,
                    name_of=functools.partial(_line_name, job.source, done + 1),
                    progress=functools.partial(_after, done, progress),
                )
                part.append(len(window), _packed(job, translations, done + 1))
                num_truncated += sum(each.truncated for each in translations)
        except KeyboardInterrupt:
            raise Interrupted(
                f"stopped; {part.num_lines:,} of {found.num_lines:,} lines are safe: the "
                f"same command with --resume goes on from there"
            ) from None
        if part.num_lines != found.num_lines:
            raise JobError(
                f"{job.source} changed while it was being translated ({found.num_lines:,} lines "
                f"at the start, {part.num_lines:,} at the end); start over"
            )
        if not found.num_lines:
            part.append(0, _packed(job, [], 1))  # even an empty gzip file has a header
        part.finish()
    return JobReport(found.num_lines, num_resumed, num_truncated)


def _line_name(source: Path, first_number: int, index: int) -> str:
    return f"{source}, line {first_number + index}"


def _after(num_before: int, progress: Callable[[int], None], num_more: int) -> None:
    progress(num_before + num_more)


def _packed(job: FileJob, translations: Sequence[Translation], first_number: int) -> bytes:
    data = b"".join(
        job.form.encode(number, translation)
        for number, translation in enumerate(translations, start=first_number)
    )
    if job.output.name.endswith(".gz"):
        # One gzip member a window and no time stamp: resuming gives the bytes of an unbroken run.
        return gzip.compress(data, mtime=0)
    return data


def translate_stream(
    translator: IncrementalTranslator,
    source: LineSource,
    name: str,
    form: LineFormat,
    search: SearchConfig | None,
    *,
    segmentation: Segmentation = "line",
    write: Callable[[bytes], object],
) -> JobReport:
    """Translates lines as they arrive and writes each as soon as those before it are written.

    At a line that cannot be translated, everything before it is written first; then InputError
    names the line.
    """
    waiting: deque[tuple[int, int]] = deque()  # (line number, ticket), in line order
    done: dict[int, Translation] = {}  # by ticket
    refusal: InputError | None = None
    num_lines = num_truncated = 0
    while True:
        if refusal is None and not source.ended and len(waiting) < _STREAM_LINES:
            try:
                for number, text in source.take(_STREAM_LINES - len(waiting), wait=not waiting):
                    where = f"{name}, line {number}"
                    ticket = _add_line(translator, text, search, form, segmentation, where)
                    waiting.append((number, ticket))
                    num_lines += 1
            except InputError as error:
                refusal = error
        if not waiting:
            if refusal is not None:
                raise refusal
            if source.ended:
                return JobReport(num_lines, 0, num_truncated)
            continue
        done.update(translator.step(_LONGEST_WAIT_S))
        ready = []
        while waiting and waiting[0][1] in done:
            number, ticket = waiting.popleft()
            translation = done.pop(ticket)
            num_truncated += translation.truncated
            ready.append(form.encode(number, translation))
        if ready:
            write(b"".join(ready))


def _add_line(
    translator: IncrementalTranslator,
    text: str,
    search: SearchConfig | None,
    form: LineFormat,
    segmentation: Segmentation,
    where: str,
) -> int:
    try:
        return translator.add(text, search, alignments=form.alignments, segmentation=segmentation)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def write_whole(output: Path, chunks: Callable[[Callable[[bytes], object]], None]) -> None:
    """Writes a file that appears only whole, from input that cannot be read a second time.

    `chunks` is called with the function that writes.
    """
    try:
        with replaced_file(output) as temporary, temporary.open("xb") as file:
            if output.name.endswith(".gz"):
                with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
                    chunks(packed.write)
            else:
                chunks(file.write)
    except OSError as error:
        raise JobError(f"cannot write {output}: {error.strerror}; nothing was kept") from error
