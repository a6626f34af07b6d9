"""`dragoman translate`: chooses between a file job and a stream.

From a file to a file it is a job that can be resumed. From a pipe to a file, the file appears whole
or not at all. Everything else is a stream.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from model.errors import InputError
from model.system.progress import line_progress
from model.text.segmenter import Segmentation
from model.text.text_file import open_file
from service.commands.loading import Loading, load_translator, search_settings
from service.files.lines import FileLines, LineSource, PipeLines, Survey, survey
from service.files.output_format import LineFormat
from service.files.translate_file import (
    FileJob,
    JobReport,
    translate_file,
    translate_stream,
    write_whole,
)

_MANY_LINES = 300  # one engine has translated fewer before an engine process has started

Chosen = Mapping[str, int | float | None]  # search settings; None: the checkpoint's own


def translate_text(
    loading: Loading,
    source: Path | None,
    output: Path | None,
    form: LineFormat,
    chosen: Chosen,
    *,
    segmentation: Segmentation,
    resume: bool,
) -> None:
    """Translates `source` (None: standard input) to `output` (None: standard output).

    Paths and the whole text of a file are checked before the checkpoint is loaded.
    """
    found = None if source is None or _is_special(source) else survey(source)
    whole = output is not None and not _is_special(output)
    if source is not None and found is not None and output is not None and whole:
        job = FileJob(source, output.resolve(), form, segmentation=segmentation)
        job.check_paths()
        _run_job(loading, job, found, chosen, resume=resume)
        return
    if resume:
        raise InputError("--resume needs an INPUT file and an --output file; a pipe cannot go back")
    with (
        load_translator(loading, many_texts=_may_have_many_lines(source, found)) as translator,
        _lines(source) as (lines, name),
    ):
        search = search_settings(translator, chosen)

        def write_all(write: Callable[[bytes], object]) -> None:
            report = translate_stream(
                translator, lines, name, form, search, segmentation=segmentation, write=write
            )
            _warn_of_truncation(report)

        if output is None:
            write_all(_write_stdout)
        elif whole:
            write_whole(output.resolve(), write_all)
        else:
            with output.open("wb", buffering=0) as device:
                write_all(device.write)


def _run_job(
    loading: Loading, job: FileJob, found: Survey, chosen: Chosen, *, resume: bool
) -> None:
    with load_translator(loading, many_texts=_may_have_many_lines(job.source, found)) as translator:
        job = replace(job, search=search_settings(translator, chosen))
        settings: dict[str, object] = {
            "checkpoint": translator.checkpoint.version,
            "precision": translator.checkpoint.precision,
            "shortlist": translator.checkpoint.shortlist is not None,
            "device": loading.device,
            "search settings": repr(job.search),
            "segmentation": job.segmentation,
            "output form": asdict(job.form),
        }
        started = time.monotonic()
        with line_progress("translating", found.num_lines) as progress:
            report = translate_file(
                translator, job, found, settings, resume=resume, progress=progress
            )
    seconds = time.monotonic() - started
    fresh = report.num_lines - report.num_resumed
    resumed = f" ({report.num_resumed:,} were done before)" if report.num_resumed else ""
    print(
        f"{report.num_lines:,} lines{resumed} in {job.output}; "
        f"{seconds:,.1f} s, {fresh / max(seconds, 1e-9):,.1f} lines/s",
        file=sys.stderr,
    )
    _warn_of_truncation(report)


def _may_have_many_lines(source: Path | None, found: Survey | None) -> bool:
    """Whether engine processes are worth their start: false for short files and for a terminal."""
    if found is not None:
        return found.num_lines >= _MANY_LINES
    return source is not None or not sys.stdin.isatty()


def _warn_of_truncation(report: JobReport) -> None:
    if report.num_truncated:
        print(
            f"warning: {report.num_truncated:,} of {report.num_lines:,} translations were cut at "
            f"the length limit; --json marks them, --max-length-ratio raises it",
            file=sys.stderr,
        )


@contextmanager
def _lines(source: Path | None) -> Iterator[tuple[LineSource, str]]:
    if source is None:
        if sys.stdin.isatty():
            print("Type a line and press Enter; Ctrl-D ends.", file=sys.stderr)
        yield PipeLines(sys.stdin.fileno(), "standard input"), "standard input"
    elif _is_special(source):
        with open_file(source) as pipe:
            yield PipeLines(pipe.fileno(), str(source)), str(source)
    else:
        yield FileLines(source), str(source)


def _is_special(path: Path) -> bool:
    """True for a pipe or device, which can be read or written only once."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _write_stdout(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
