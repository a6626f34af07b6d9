"""The `dragoman` command as a person meets it: help, one-line errors, scores, descriptions."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service import cli
from tests.service.commands.running_commands import lines_of, one_line_error
from tests.service.echo_translator import EchoModel

VERBS = (
    *("demo", "train", "export", "retrain", "evaluate"),
    *("translate", "score", "inspect", "bench", "doctor", "serve"),
)


def test_help_is_quick_and_needs_no_torch() -> None:
    script = (
        "import sys, time; start = time.perf_counter();"
        "from service.cli import run; run(['--help']);"
        "heavy = {'torch', 'sacrebleu', 'fastapi', 'numpy'} & set(sys.modules);"
        "sys.exit(f'{heavy} {time.perf_counter() - start}' if heavy else 0)"
    )
    started = time.perf_counter()
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert all(f"\n  {verb} " in answer.stdout for verb in VERBS)
    assert time.perf_counter() - started < 2  # 0.2 s on an idle machine


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([verb, "--help"]) == 0
    assert "Usage: dragoman " + verb in capsys.readouterr().out


def test_without_a_verb_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([]) == 0
    assert "Commands:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["translate", "ckpt", "--beem-size", "3"], "--beam-size"),
        (["tranlate"], "Did you mean 'translate'"),
        (["translate"], "CHECKPOINT"),
        (["translate", "ckpt", "--beam-size", "many"], "--beam-size"),
        (["translate", "ckpt", "--beam-size", "0"], "--beam-size"),
        (["score", "ckpt", "--source", "a"], "--target"),
        (["train", "--run", "r"], "no corpus given: name a recipe"),
        (["train", "recipe.toml"], "a folder for the run is required"),
        (["train", "--run", "r", "--source", "a"], "--source and --target need each other"),
        (["serve", "models", "--port", "70000"], "--port"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(arguments) == 2
    error = one_line_error(capsys)
    assert said in error
    assert "--help" in error


def test_bad_input_is_one_line_and_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    latin, nul = tmp_path / "latin.txt", tmp_path / "nul.txt"
    latin.write_bytes(b"good\nL\xe4tin\n")
    nul.write_bytes(b"N\0L\n")
    (tmp_path / "good.txt").write_bytes(b"one\n")
    for arguments, said in (
        (["translate", "ckpt", str(tmp_path / "no.txt")], "there is no file"),
        (["translate", "ckpt", str(tmp_path)], "is a folder"),
        (["translate", "ckpt", str(latin)], "latin.txt, line 2: not UTF-8"),
        (["translate", "ckpt", str(nul)], "nul.txt, line 1: holds a NUL"),
        (["translate", "ckpt", str(nul), "-o", str(tmp_path / "o")], "nul.txt, line 1"),
        (["translate", "ckpt", "--resume"], "--resume needs an INPUT file"),
        (
            ["translate", "ckpt", str(tmp_path / "good.txt"), "-o", str(tmp_path / "good.txt")],
            "is the input itself",
        ),
        (["inspect", str(tmp_path / "nowhere")], "there is no checkpoint folder"),
        (["translate", str(tmp_path), str(tmp_path / "good.txt")], "is no checkpoint"),
        (
            ["train", str(tmp_path / "no.toml"), "--run", str(tmp_path / "r")],
            "does not exist; check the path",
        ),
        (["export", str(tmp_path / "r"), str(tmp_path / "c")], "is no run folder"),
    ):
        assert cli.run(arguments) == 1, arguments
        assert said in one_line_error(capsys)


def test_unequal_line_counts_name_both_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "a.txt", tmp_path / "b.txt"
    source.write_bytes(b"one\ntwo\n")
    target.write_bytes(b"eins\nzwei\ndrei\n")
    files = ["--source", str(source)]
    assert cli.run(["score", "ckpt", *files, "--target", str(target)]) == 1
    assert "has 2 lines but" in one_line_error(capsys)
    assert cli.run(["evaluate", "ckpt", *files, "--reference", str(target)]) == 1
    assert "has 2 lines but" in one_line_error(capsys)


def test_score_prints_tab_separated_lines_in_order(
    echo: EchoModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "a.txt", tmp_path / "b.txt"
    lengths = [(number * 7) % 50 for number in range(600)]
    source.write_bytes(b"x\n" * 600)
    target.write_bytes(b"".join(b"y" * length + b"\n" for length in lengths))
    files = ["--source", str(source), "--target", str(target)]
    assert cli.run(["score", "ckpt", *files]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [float(row[0]) for row in rows] == [-length for length in lengths]
    assert {row[1] for row in rows} == {"-1.000000"}
    assert cli.run(["score", "ckpt", *files, "--json"]) == 0
    parsed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["log_prob"] for row in parsed] == [-length for length in lengths]


def test_forced_scores_come_in_order_with_their_pieces(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = lines_of(tmp_path, 20), tmp_path / "target.txt"
    targets = [("drei Birnen", "Wir haben eins", "", "Äpfel und Birnen.")[n % 4] for n in range(20)]
    target.write_bytes("".join(f"{text}\n" for text in targets).encode())
    files = ["--source", str(source), "--target", str(target)]
    assert cli.run(["score", str(tiny_checkpoint), *files, "--json", "--threads", "1"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.split("\n")[:-1]]
    assert [row["line"] for row in rows] == list(range(1, 21))
    for row, text in zip(rows, targets, strict=True):
        assert row["log_prob"] == pytest.approx(sum(row["token_log_probs"]))
        assert len(row["token_log_probs"]) == len(row["pieces"]) + 1  # EOS
        assert "".join(row["pieces"]).replace("▁", " ").strip() == text


def test_inspect_shows_what_a_checkpoint_is(
    tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["inspect", str(tiny_checkpoint)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("tiny: en → de\n")
    assert "We have one apples" in shown
    assert cli.run(["inspect", str(tiny_checkpoint), "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["config"]["target_language"] == "de"
    assert described["version"] in shown
    assert f"{described['parameters']:,} (F32)" in shown


def test_evaluate_scores_and_compares(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = lines_of(tmp_path, 10)
    scores, kept = tmp_path / "scores.json", tmp_path / "kept.txt"
    command = ["evaluate", str(tiny_checkpoint), "--source", str(source), "--beam-size", "1"]
    same = ["--reference", str(source), "--output", str(scores), "--hypotheses", str(kept)]
    assert cli.run([*command, *same]) == 0
    shown = capsys.readouterr().out
    report = json.loads(scores.read_bytes())
    (system,) = report["systems"]
    assert system["bleu"]["signature"] in shown
    assert system["search"]["beam_size"] == 1
    assert system["segments"] == 10
    hypotheses = kept.read_bytes()
    assert hypotheses.count(b"\n") == 10

    command += ["--threads", "1"]  # without engine processes; the scores are the same
    assert cli.run([*command, "--reference", str(kept), "--json"]) == 0
    (perfect,) = json.loads(capsys.readouterr().out)["systems"]
    assert perfect["exact_match"] == 100
    assert perfect["chrf"]["score"] == 100

    command.insert(2, str(tiny_checkpoint))
    assert cli.run([*command, "--reference", str(source), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert len(report["systems"]) == 2
    assert report["comparison"]["bleu"]["p_value"] == 1


def test_evaluate_refuses_an_empty_test_set(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_bytes(b"")
    files = ["--source", str(empty), "--reference", str(empty)]
    assert cli.run(["evaluate", str(tiny_checkpoint), *files]) == 1
    assert "nothing to score" in one_line_error(capsys)


@pytest.mark.parametrize("option", ["--hypotheses", "--output"])
def test_evaluate_never_writes_over_its_input(
    option: str, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, reference = tmp_path / "a.en", tmp_path / "a.de"
    source.write_text("one\n", encoding="utf-8")
    reference.write_text("eins\n", encoding="utf-8")
    files = ["--source", str(source), "--reference", str(reference)]
    assert cli.run(["evaluate", str(tiny_checkpoint), *files, option, str(source)]) == 1
    assert "choose another output" in capsys.readouterr().err
    assert source.read_text(encoding="utf-8") == "one\n"
