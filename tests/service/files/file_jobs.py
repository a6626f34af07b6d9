"""Input lines for file jobs, and the output that the echo translator gives for them."""

import random
from pathlib import Path

from tests.service.echo_translator import reverse

ODD_LINES = [
    "plain",
    "",
    "   ",
    "\t",
    "tab\tbetween\tcolumns",
    "emoji \U0001f600\U0001f468‍\U0001f469‍\U0001f467 done",
    "vertical\x0btab form\x0cfeed",
    "file\x1csep group\x1dsep record\x1esep",
    "next\x85line line\u2028sep para\u2029sep",
    "bell\x07 escape\x1b[31m delete\x7f",
    "漢字かな交じり文。",
    "עברית ‏עם סימון",
    "zero\u200bwidth\ufeffspace",
    "x" * 100_000,
    "ends with space ",
]


def long_lines() -> list[str]:
    """500 random lines of up to 29 characters, the same in every call."""
    generator = random.Random(7)
    return ["".join(generator.choices("abc défg", k=generator.randrange(30))) for _ in range(500)]


def write_lines(path: Path, lines: list[str]) -> Path:
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return path


def translated(lines: list[str]) -> bytes:
    return "".join(f"{reverse(line)}\n" for line in lines).encode()
