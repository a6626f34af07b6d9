"""The whole road as a user walks it: two files, train, export, serve, translate, score, compare."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.training.zygote import Zygote
from training.demo.corpus import read_corpus

COMMAND = [sys.executable, "-c", "from service.cli import main; main()"]
QUICK = ("optimization.max_epochs=1", "optimization.precision=fp32", "threads=1")
SMALL = (
    "model.embedding_size=16",
    "model.encoder_hidden=16",
    "model.decoder_hidden=32",
    "model.attention_size=16",
    "tokenizer.vocab_size=500",
    "data.dev_size=20",
    "data.test_size=20",
    "optimization.batch_tokens=500",
    *QUICK,
)
TEXTS = [
    "Is there a restaurant next to the supermarket?",
    "",
    "The white camera costs 10.20 euros.",
    "  Paul does not need a green guitar.\tAnd Maria?  ",
    "👍 naïve ﬁ 日本語",
]


def run(dragoman: Zygote, *arguments: object) -> str:
    """Runs the command; its standard output. Fails the test with what it said."""
    command = dragoman.run(*arguments)
    assert command.status == 0, command.said
    assert "Traceback" not in command.said
    return command.output.read_text(encoding="utf-8")


@dataclass(frozen=True)
class Road:
    """What the first half of the road left."""

    folder: Path
    checkpoint: Path


@pytest.fixture(scope="module")
def road(dragoman: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Road:
    folder = tmp_path_factory.mktemp("road")
    pairs = read_corpus().train[:400]
    for side, language in enumerate(("en", "de")):
        text = "".join(f"{pair[side]}\n" for pair in pairs)
        (folder / f"my.{language}").write_text(text, encoding="utf-8", newline="\n")
    settings = [part for setting in SMALL for part in ("--set", setting)]
    files = ["--source", folder / "my.en", "--target", folder / "my.de"]
    languages = ["--source-language", "en", "--target-language", "de"]
    run(dragoman, "train", *files, *languages, "--run", folder / "run", *settings)
    checkpoint = folder / "models" / "mine"
    run(dragoman, "export", folder / "run", checkpoint)
    return Road(folder, checkpoint)


@pytest.fixture(scope="module")
def server(road: Road) -> Iterator[str]:
    """Address of `dragoman serve` over the models folder; SIGTERM must end it with status 0."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [*COMMAND, "serve", str(road.checkpoint.parent), "--port", str(port)],
        env={**os.environ, "DRAGOMAN_DRAIN_GRACE_S": "0"},
        stderr=subprocess.PIPE,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 60
        while not _is_ready(address):
            assert process.poll() is None, process.communicate()[1].decode()
            assert time.monotonic() < end, "the service did not become ready"
            time.sleep(0.05)
        yield address
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


def _is_ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def ask(address: str, **body: Any) -> list[dict[str, Any]]:
    body = {"source": "en", "target": "de", **body}
    answer = httpx.post(f"{address}/v1/translate", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    translations: list[dict[str, Any]] = answer.json()["translations"]
    return translations


def from_a_pipe(checkpoint: Path, source: Path) -> str:
    """What a process of its own says to this on its standard input."""
    done = subprocess.run(
        [*COMMAND, "translate", str(checkpoint), "--threads", "1"],
        input=source.read_text(encoding="utf-8"),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_same_text_gets_the_same_translation_everywhere(
    dragoman: Zygote, road: Road, server: str
) -> None:
    source = road.folder / "texts.en"
    source.write_text("".join(f"{text}\n" for text in TEXTS), encoding="utf-8", newline="\n")
    run(dragoman, "translate", road.checkpoint, source, "-o", road.folder / "texts.de")
    from_file = (road.folder / "texts.de").read_text(encoding="utf-8").split("\n")[:-1]
    from_stdin = from_a_pipe(road.checkpoint, source)
    by_line = {"segmentation": "line"}  # as the command does
    together = [translation["text"] for translation in ask(server, text=TEXTS, **by_line)]
    alone = [ask(server, text=text, **by_line)[0]["text"] for text in TEXTS]
    assert from_stdin.split("\n")[:-1] == from_file
    assert together == alone == from_file
    assert any(text.strip() for text in from_file)


def test_a_file_is_translated_alike_by_one_engine_and_by_two(dragoman: Zygote, road: Road) -> None:
    source = road.folder / "many.en"
    lines = (TEXTS + [f"Paul buys {n} lamps." for n in range(15)]) * 15  # enough for all cores
    source.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
    for threads in (1, 2):
        output = road.folder / f"many.{threads}"
        run(dragoman, "translate", road.checkpoint, source, "-o", output, "--threads", threads)
    assert (road.folder / "many.1").read_bytes() == (road.folder / "many.2").read_bytes()


def test_scores_over_http_are_those_of_the_command(
    dragoman: Zygote, road: Road, server: str
) -> None:
    pairs = [("Paul buys a lamp.", "Paul kauft eine Lampe."), ("Good morning.", "Guten Morgen.")]
    for side, name in enumerate(("score.en", "score.de")):
        text = "".join(f"{pair[side]}\n" for pair in pairs)
        (road.folder / name).write_text(text, encoding="utf-8", newline="\n")
    files = ["--source", road.folder / "score.en", "--target", road.folder / "score.de"]
    printed = run(dragoman, "score", road.checkpoint, *files, "--json")
    body = {
        "source": "en",
        "target": "de",
        "pairs": [{"source": source, "target": target} for source, target in pairs],
    }
    answer = httpx.post(f"{server}/v1/score", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    over_http = [score["log_prob"] for score in answer.json()["scores"]]
    by_command = [json.loads(line)["log_prob"] for line in printed.split("\n")[:-1]]
    assert over_http == by_command


def test_inspect_and_evaluate_tell_the_same_scores(dragoman: Zygote, road: Road) -> None:
    described = json.loads(run(dragoman, "inspect", road.checkpoint, "--json"))
    data = road.folder / "run" / "data"
    files = ["--source", data / "test.source", "--reference", data / "test.target"]
    evaluated = json.loads(run(dragoman, "evaluate", road.checkpoint, *files, "--json"))
    [system] = evaluated["systems"]
    kept = described["metrics"]["test"]["bleu"]
    assert system["bleu"]["score"] == pytest.approx(kept["score"], abs=1e-4)
    assert system["bleu"]["signature"] == kept["signature"]


def test_retraining_compares_old_and_new(dragoman: Zygote, road: Road) -> None:
    files = ["--source", road.folder / "my.en", "--target", road.folder / "my.de"]
    week = road.folder / "week"
    settings = [part for setting in QUICK for part in ("--set", setting)]
    run(dragoman, "retrain", road.checkpoint, *files, "--run", week, *settings)
    comparison = json.loads((week / "comparison.json").read_text(encoding="utf-8"))
    assert comparison["bleu"]["signature"]
    assert comparison["test_pairs"] == 20
    metrics = json.loads((week / "checkpoint" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["parent"].startswith("mine ")
