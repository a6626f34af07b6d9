"""Logs a run: log.jsonl, TensorBoard, a progress bar on a terminal, plain lines elsewhere.

All of them show the same numbers; log.jsonl in the run folder is the one to read by programs. A
resumed run drops the lines after the state it resumes from, so its log equals that of an unbroken
run.
"""

import json
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from model.system.atomic_files import write_text

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG = "log.jsonl"


class Journal:
    """The log of one run, open for appending; use it in a `with` statement."""

    def __init__(self, run: Path, *, total_steps: int, resumed_step: int, console: Console) -> None:
        self._console = console
        self._path = run / LOG
        _drop_lines_after(self._path, resumed_step)
        self._file = self._path.open("a", encoding="utf-8", newline="\n")
        self._board = _open_board(run / "tensorboard", resumed_step)
        self._progress = Progress(
            TextColumn("{task.fields[state]}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(
            "training", total=total_steps, completed=resumed_step, state="starting"
        )
        self._last_line = time.monotonic()
        self._dev = ""  # the latest dev score, shown in the bar

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()
        self._file.close()
        if self._board is not None:
            self._board.close()

    def say(self, message: str) -> None:
        """Prints a line; log.jsonl does not get it."""
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)

    def training(self, step: int, epoch: int, remaining_s: float, **numbers: float) -> None:
        """Logs the numbers of the updates since the last call; their names hold the units."""
        self._record("training", step, epoch, {**numbers, "remaining_s": round(remaining_s, 1)})
        state = (
            f"epoch {epoch + 1}  loss {numbers['loss']:.3f}{self._dev}  "
            f"{numbers['tokens_per_s']:,.0f} tokens/s"
        )
        self._progress.update(self._task, completed=step, state=state)
        if not self._console.is_terminal and time.monotonic() - self._last_line > 20:
            self._last_line = time.monotonic()
            waiting = f"waiting for data {100 * numbers['waiting_share']:.1f} %"
            self.say(f"step {step}  {state}  {waiting}  about {_duration(remaining_s)} left")

    def validation(self, step: int, epoch: int, example: str, **numbers: float) -> None:
        """Logs the scores on the dev split, and prints one translation."""
        self._record("validation", step, epoch, numbers)
        self._dev = f"  dev BLEU {numbers['bleu']:.1f}"
        scores = "  ".join(f"{name} {value:.3f}" for name, value in numbers.items())
        self.say(f"step {step}  epoch {epoch + 1}  dev: {scores}")
        if example:
            self.say(f"    {example}")

    def _record(self, kind: str, step: int, epoch: int, numbers: dict[str, float]) -> None:
        line = {"kind": kind, "step": step, "epoch": epoch + 1, **numbers}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(f"{kind}/{name}", value, step)


def read_log(run: Path) -> list[dict[str, Any]]:
    """Returns every line of a run's log; an incomplete last line is left out."""
    path = run / LOG
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]


def _drop_lines_after(path: Path, step: int) -> None:
    if path.is_file():
        kept = [line for line in read_log(path.parent) if line["step"] <= step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))


def _open_board(folder: Path, resumed_step: int) -> "SummaryWriter | None":
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # the `training` extra is not installed; log.jsonl has the same numbers
        return None
    return SummaryWriter(str(folder), purge_step=resumed_step + 1 if resumed_step else None)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
