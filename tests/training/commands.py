"""Helpers for tests of training commands: options, errors, waiting for a run state."""

from collections.abc import Sequence
from pathlib import Path

from tests.training.zygote import Command


def options(settings: Sequence[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def complaint(command: Command, *, lines: int | None = 1) -> str:
    """Returns the one-line error of a failed command, which must have printed `lines` in all."""
    assert command.wait() == 1, command.said
    assert "Traceback" not in command.said
    said = command.said.removesuffix("\n").split("\n")
    assert lines is None or len(said) == lines, command.said
    assert [line.startswith("error: ") for line in said] == [False] * (len(said) - 1) + [True]
    return said[-1].removeprefix("error: ")


def wait_for_state(run: Path, command: Command) -> None:
    command.wait_for((run / "states" / "last.safetensors").is_file)
