"""The examples in docs/api.md run, and every answer has the fields that the page shows."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from service.protocol.error_table import ERROR_TABLE
from service.serving.model_folder import ModelFolder
from service.serving.registry import open_models
from service.settings import Settings
from tests.service.running import running, wait_until_ready
from tests.tiny_checkpoint import write_tiny_checkpoint

PAGE = Path(__file__).parents[1] / "docs" / "api.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
PROGRAMS = [code for language, code in BLOCKS if language == "python"]
# An answer is shown behind the command that gets it.
ANSWERED = [
    (command, json.loads(answer))
    for (first, command), (second, answer) in pairwise(BLOCKS)
    if (first, second) == ("sh", "json")
]
OTHER_COMMANDS = [
    command
    for language, command in BLOCKS
    if language == "sh" and command not in {answered for answered, _ in ANSWERED}
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with one small model from English to German, `en-de`."""
    models = tmp_path_factory.mktemp("models")
    write_tiny_checkpoint(models / "en-de")
    settings = Settings(threads_per_model=1, max_slots=8)
    registry = open_models(ModelFolder(models, settings))
    with running(registry, settings) as port:
        wait_until_ready(registry)
        yield f"127.0.0.1:{port}"


def run(command: str, address: str) -> str:
    command = command.replace("127.0.0.1:8000", address)
    done = subprocess.run(
        ["sh", "-ec", command], check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout


def shape(value: Any) -> Any:
    """The fields and types of a JSON value; of a list those of its first element."""
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value[:1]]
    return float if type(value) is int else type(value)


def test_it_has_examples() -> None:
    assert len(ANSWERED) >= 5
    assert PROGRAMS
    assert OTHER_COMMANDS


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
@pytest.mark.parametrize("command", OTHER_COMMANDS)
def test_a_command_gets_an_answer(command: str, address: str) -> None:
    for line in re.split(r"\n(?=curl )", command.strip()):
        assert json.loads(run(line, address))


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
@pytest.mark.parametrize(("command", "shown"), ANSWERED)
def test_an_answer_has_the_shown_fields(command: str, shown: Any, address: str) -> None:
    answer = json.loads(run(command, address))
    assert shape(answer) == shape(shown)
    if "error" in answer:
        assert answer == shown


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_prints_translations(program: str, address: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program.replace("127.0.0.1:8000", address)],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert len(done.stdout.splitlines()) == program.count("print(")


def test_the_table_lists_every_error() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("<!-- errors:")[2]
    rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", table.partition("<!-- end")[0], re.M)
    known = {(str(status), code) for _, status, code, _ in ERROR_TABLE}
    assert set(rows) == known
    assert len(rows) == len(known)
