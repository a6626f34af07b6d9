"""Starts `dragoman` commands as forked processes, in milliseconds instead of seconds.

    python -m tests.training.zygote

imports what training needs once; every command is a fork of that, with its own standard streams
and signals, so it can be interrupted and killed like any other. One JSON object a line comes in,
one goes out; `Zygote` is the other end.
"""

import gc
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from service.cli import run

SLOW_IMPORTS = (
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "torch._dynamo",  # torch imports it for the first optimizer
    "torch.utils.tensorboard",
    "training.demo.demo",
    "training.release.retrain",
)
TIMEOUT_S = 180.0  # for commands that take a second or two on an idle machine


@dataclass
class Command:
    """A `dragoman` process, running or ended."""

    zygote: "Zygote"
    pid: int
    output: Path
    status: int | None = None

    @property
    def running(self) -> bool:
        if self.status is None:
            self.status = self.zygote.ask(poll=self.pid)
        return self.status is None

    def wait(self) -> int:
        """Waits for the exit status; negative for the signal that ended the process."""
        end = time.monotonic() + TIMEOUT_S
        while self.running:
            if time.monotonic() > end:
                self.send(signal.SIGKILL)
                raise TimeoutError(f"a command did not end; it said: {self.said}")
            time.sleep(0.005)
        assert self.status is not None
        return self.status

    def wait_for(self, happened: Callable[[], bool]) -> None:
        """Waits until `happened` returns true; fails if the command ends before."""
        end = time.monotonic() + TIMEOUT_S
        while not happened():
            assert self.running, self.said
            assert time.monotonic() < end, self.said
            time.sleep(0.001)

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    @property
    def said(self) -> str:
        """Text written to standard error; standard output has its own file."""
        return self.output.with_suffix(".err").read_text(encoding="utf-8")


class Zygote:
    """The process from which all commands are forked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._num_started = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.training.zygote"],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def start(
        self,
        *arguments: object,
        max_file_bytes: int | None = None,
        environment: dict[str, str] | None = None,
    ) -> Command:
        """Starts `dragoman` with these arguments; max_file_bytes simulates a full disk.

        `environment` is added to the variables of this process.
        """
        self._num_started += 1
        output = self._folder / f"{self._num_started}.out"
        pid = self.ask(
            start=list(map(str, arguments)),
            output=str(output),
            max_file_bytes=max_file_bytes,
            environment=environment or {},
        )
        return Command(self, pid, output)

    def run(self, *arguments: object, max_file_bytes: int | None = None) -> Command:
        """Starts `dragoman` with these arguments and waits for its end."""
        command = self.start(*arguments, max_file_bytes=max_file_bytes)
        command.wait()
        return command

    def ask(self, **request: Any) -> Any:
        """Sends a request and returns the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """Ends the process, but not commands that still run."""
        self._process.communicate(timeout=TIMEOUT_S)


def main() -> None:
    """Answers requests until standard input is closed."""
    for module in SLOW_IMPORTS:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # no command looks through all of that again
    for line in sys.stdin:
        request = json.loads(line)
        if "start" in request:
            answer: int | None = _fork(request)
        else:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        print(json.dumps(answer), flush=True)


def _fork(request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        output = Path(request["output"])
        _redirect(0, Path(os.devnull), "rb")
        _redirect(1, output, "wb")
        _redirect(2, output.with_suffix(".err"), "wb")
        if (limit := request["max_file_bytes"]) is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        os.environ.update(request["environment"])
        status = run(request["start"])
        sys.stdout.flush()
        os._exit(status)
    finally:  # only where an exception got through: what the interpreter does at its end
        traceback.print_exc()
        os._exit(1)


def _redirect(descriptor: int, path: Path, mode: str) -> None:
    file: IO[bytes]
    with path.open(mode) as file:
        os.dup2(file.fileno(), descriptor)


if __name__ == "__main__":
    main()
