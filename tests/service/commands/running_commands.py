"""Helpers for tests of the command line."""

from pathlib import Path

import pytest


def one_line_error(capsys: pytest.CaptureFixture[str]) -> str:
    """What was said on standard error: exactly one line."""
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert output.err.startswith("error: ")
    return output.err


def lines_of(folder: Path, num_lines: int) -> Path:
    source = folder / "in.txt"
    words = ("one", "two apples", "we have three pears", "", "ten")
    source.write_bytes(b"".join(f"{words[n % 5]} {n}\n".encode() for n in range(num_lines)))
    return source
