"""One precision in a process of its own: its memory and its loading are nobody else's.

The task goes in as a JSON file; every line that comes out is JSON with one key:
`progress` (measurements done), and last of all `report`, `unsupported` (why this precision cannot
be had) or `error`. Whatever else the process prints goes to its standard error.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import IO

from pydantic import TypeAdapter

from model.errors import ConfigError, DragomanError
from model.system.process import exit_reason, python_command, tune_process
from service.bench.plan import Task
from service.bench.report import PrecisionReport, Unsupported


class BenchError(DragomanError):
    """A measurement that could not be made."""


def measure_apart(task: Task, *, progress: Callable[[int], None]) -> PrecisionReport | Unsupported:
    """Measures in a new process, which never outlives this call; BenchError says why it failed."""
    command, environment = python_command("service.bench.process")
    with (
        tempfile.NamedTemporaryFile("w") as question,
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints,
    ):
        json.dump(asdict(task), question, default=str)
        question.flush()
        # In a process group of its own: Ctrl-C reaches us alone, and we end it.
        with subprocess.Popen(
            [*command, question.name],
            stdin=subprocess.PIPE,  # never written to; its end tells the process that we are gone
            stdout=subprocess.PIPE,
            stderr=complaints,
            encoding="utf-8",
            process_group=0,
            env=environment,
        ) as process:
            assert process.stdout is not None
            try:
                answer = _listen(process.stdout, task, progress)
                if answer is None:
                    process.wait()  # its own ending is the news
            finally:
                process.kill()
                process.wait()
        if answer is None:
            complaints.seek(0)
            raise BenchError(
                f"measuring {task.loading.precision} {exit_reason(process.returncode)}: "
                f"{_last_line(complaints)}"
            )
    return answer


def _listen(
    lines: Iterable[str], task: Task, progress: Callable[[int], None]
) -> PrecisionReport | Unsupported | None:
    """The process' answer; None when it ended without one."""
    for line in lines:
        ((kind, content),) = json.loads(line).items()
        if kind == "progress":
            progress(content)
        elif kind == "report":
            return TypeAdapter(PrecisionReport).validate_python(content)
        elif kind == "unsupported":
            return Unsupported(task.loading.precision, content)
        else:
            raise BenchError(content)
    return None


def _last_line(complaints: IO[str]) -> str:
    lines = [line.strip() for line in complaints if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _leave_with_parent() -> None:
    """Waits for the end of standard input, which comes when whoever started us is gone."""
    os.read(0, 1)
    os._exit(1)


def main() -> None:
    """Inside the new process."""
    tune_process()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # a library that prints must not disturb the conversation

    def say(kind: str, content: object) -> None:
        print(json.dumps({kind: content}), file=answers, flush=True)

    threading.Thread(target=_leave_with_parent, daemon=True).start()
    task = TypeAdapter(Task).validate_json(Path(sys.argv[1]).read_bytes())
    answer(task, say)


def answer(task: Task, say: Callable[[str, object], None]) -> None:
    """Measures, and tells how far it is and what came out."""
    from service.bench.measure import measure

    try:
        report = measure(task, progress=lambda num_done: say("progress", num_done))
    except ConfigError as error:
        say("unsupported", str(error))
    except DragomanError as error:
        say("error", str(error))
    else:
        say("report", asdict(report))


if __name__ == "__main__":
    main()
