"""Measures one precision in a process of its own, so that its memory and start time are its own.

The process gets the task as a JSON file. Every line that it prints is JSON with one key: `progress`
(measurements done), and at the end `report`, `unsupported` (the reason why this precision is not
available) or `error`. Everything else that it prints goes to its standard error.
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
    """A measurement failed, or its picture cannot be written."""


def measure_apart(task: Task, *, progress: Callable[[int], None]) -> PrecisionReport | Unsupported:
    """Measures in a new process, which never outlives this call. BenchError: it failed."""
    command, environment = python_command("service.bench.process")
    with (
        tempfile.NamedTemporaryFile("w") as task_file,
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as standard_error,
    ):
        json.dump(asdict(task), task_file, default=str)
        task_file.flush()
        # In a process group of its own: Ctrl-C reaches only this process, which then kills it.
        with subprocess.Popen(
            [*command, task_file.name],
            stdin=subprocess.PIPE,  # never written to; its end tells the process to exit
            stdout=subprocess.PIPE,
            stderr=standard_error,
            encoding="utf-8",
            process_group=0,
            env=environment,
        ) as process:
            assert process.stdout is not None
            try:
                answer = _read_answer(process.stdout, task, progress)
                if answer is None:
                    process.wait()  # it has failed: its own exit status says how
            finally:
                process.kill()
                process.wait()
        if answer is None:
            standard_error.seek(0)
            raise BenchError(
                f"measuring {task.loading.precision} {exit_reason(process.returncode)}: "
                f"{_last_line(standard_error)}"
            )
    return answer


def _read_answer(
    lines: Iterable[str], task: Task, progress: Callable[[int], None]
) -> PrecisionReport | Unsupported | None:
    """Returns the report of the process, or None if it ended without one."""
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


def _last_line(standard_error: IO[str]) -> str:
    lines = [line.strip() for line in standard_error if line.strip()]
    return lines[-1] if lines else "it printed no error"


def _exit_with_parent() -> None:
    """Exits when standard input ends, which happens when the parent process has ended."""
    os.read(0, 1)
    os._exit(1)


def main() -> None:
    """Runs in the new process."""
    tune_process()
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not come between the messages

    def send(kind: str, content: object) -> None:
        print(json.dumps({kind: content}), file=messages, flush=True)

    threading.Thread(target=_exit_with_parent, daemon=True).start()
    task = TypeAdapter(Task).validate_json(Path(sys.argv[1]).read_bytes())
    run_task(task, send)


def run_task(task: Task, send: Callable[[str, object], None]) -> None:
    """Measures, and sends the progress and then the report or the error."""
    from service.bench.measure import measure

    try:
        report = measure(task, progress=lambda num_done: send("progress", num_done))
    except ConfigError as error:
        send("unsupported", str(error))
    except DragomanError as error:
        send("error", str(error))
    else:
        send("report", asdict(report))


if __name__ == "__main__":
    main()
