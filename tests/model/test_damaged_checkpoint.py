"""Damaged checkpoints are refused, and the message names the damaged file."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.checkpoint import CONFIG, FORMAT_VERSION, METRICS, WEIGHTS, load_checkpoint
from model.errors import CheckpointError
from model.inference.shortlist import Shortlist
from model.text.tokenizer import JOINT_FILE, SOURCE_FILE, TokenizerPair
from model.version import SUMS
from tests.model.checkpoints import FILES, build, contents, save, small_config


def refusal(folder: Path) -> str:
    """Returns the message with which `folder` is refused."""
    with pytest.raises(CheckpointError) as refused:
        load_checkpoint(folder)
    message = str(refused.value)
    assert "\n" not in message
    assert str(folder) in message
    assert len(message) < len(str(folder)) + 300
    return message


def sum_up(folder: Path) -> None:
    """Writes SHA256SUMS again, as after a change by hand."""
    sums = [
        f"{hashlib.sha256(content).hexdigest()}  {name}\n"
        for name, content in sorted(contents(folder).items())
        if name != SUMS
    ]
    (folder / SUMS).write_text("".join(sums), encoding="utf-8")


def edit_config(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((folder / CONFIG).read_bytes())
    edit(content)
    (folder / CONFIG).write_text(json.dumps(content), encoding="utf-8")
    sum_up(folder)


def edit_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / WEIGHTS)
    edit(weights)
    save_file(weights, folder / WEIGHTS)
    sum_up(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", ["start", "middle", "end"])
def test_a_flipped_bit_is_found(name: str, place: str, folder: Path) -> None:
    content = bytearray((folder / name).read_bytes())
    index = {"start": 0, "middle": len(content) // 2, "end": len(content) - 1}[place]
    content[index] ^= 1
    (folder / name).write_bytes(content)
    assert name in refusal(folder)


def test_a_flipped_bit_in_the_sums_is_found(folder: Path) -> None:
    whole = (folder / SUMS).read_bytes()
    for index in range(0, len(whole), 7):
        content = bytearray(whole)
        content[index] ^= 1
        (folder / SUMS).write_bytes(content)
        assert SUMS in refusal(folder)


@pytest.mark.parametrize("name", [*FILES, SUMS])
@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_a_truncated_file_is_refused(name: str, kept: float, folder: Path) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(len(content) * kept)])
    assert name in refusal(folder)


@pytest.mark.parametrize("name", [*FILES, SUMS])
def test_a_missing_file_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    assert name in refusal(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_not_summed_is_refused(name: str, folder: Path) -> None:
    lines = (folder / SUMS).read_text(encoding="utf-8").split("\n")
    kept = [line for line in lines if not line.endswith(f"  {name}")]
    (folder / SUMS).write_text("\n".join(kept), encoding="utf-8")
    assert f"does not list {name}" in refusal(folder)


def test_a_tokenizer_that_came_from_elsewhere_is_refused(folder: Path) -> None:
    shutil.copy(folder / JOINT_FILE, folder / SOURCE_FILE)
    assert f"does not list {SOURCE_FILE}" in refusal(folder)


@pytest.mark.parametrize(
    "path", ["../outside", "/etc/hostname", "sub/../../outside", "..", ".", "", "a\0b"]
)
def test_the_sums_lead_nowhere_else(path: str, folder: Path) -> None:
    content = b"outside"
    (folder.parent / "outside").write_bytes(content)
    with (folder / SUMS).open("a", encoding="utf-8") as file:
        file.write(f"{hashlib.sha256(content).hexdigest()}  {path}\n")
    assert repr(path) in refusal(folder)


@pytest.mark.parametrize(
    "sums", [b"\xff\xfe", b"no two spaces\n", b"\n\n", b"<html>\n", b"{}", b"\0" * 100]
)
def test_invalid_sums_are_refused(sums: bytes, folder: Path) -> None:
    (folder / SUMS).write_bytes(sums)
    assert SUMS in refusal(folder)


@pytest.mark.parametrize(
    ("version", "way_out"),
    [(FORMAT_VERSION + 1, "upgrade"), (FORMAT_VERSION - 1, "export"), (-3, "export")],
)
def test_another_format_version_says_what_to_do(version: int, way_out: str, folder: Path) -> None:
    edit_config(folder, lambda config: config.update(format_version=version))
    message = refusal(folder)
    assert f"version {version}" in message
    assert f"reads {FORMAT_VERSION}" in message
    assert way_out in message


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"{}", b"\xff", b"[" * 100_000, b'{"format_version": "1"}'],
    ids=lambda content: content[:10].decode(errors="replace"),
)
def test_an_invalid_config_is_refused(content: bytes, folder: Path) -> None:
    (folder / CONFIG).write_bytes(content)
    sum_up(folder)
    assert f"{CONFIG} is damaged" in refusal(folder)


@pytest.mark.parametrize(
    ("edit", "culprit"),
    [
        (lambda config: config.update(depth=3), "depth"),
        (lambda config: config["model"].update(depth=3), "model.depth"),
        (lambda config: config["tokenizer"].update(code="x"), "tokenizer.code"),
        (lambda config: config.pop("source_language"), "source_language"),
        (lambda config: config["model"].update(cell="lstn"), "model.cell"),
        (lambda config: config["search"].update(beam_size=0), "search.beam_size"),
        (lambda config: config.update(max_source_tokens="many"), "max_source_tokens"),
        (lambda config: config["model"].update(attention_heads=3), "attention_heads"),
    ],
)
def test_a_config_that_cannot_work_is_refused_by_key(
    edit: Callable[[dict[str, Any]], object], culprit: str, folder: Path
) -> None:
    edit_config(folder, edit)
    message = refusal(folder)
    assert f"{CONFIG} is not valid" in message
    assert culprit in message


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_invalid_metrics_are_refused(content: bytes, folder: Path) -> None:
    (folder / METRICS).write_bytes(content)
    sum_up(folder)
    assert METRICS in refusal(folder)


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_network_for_another_tokenizer_is_refused(
    side: str, folder: Path, tiny_tokenizers: TokenizerPair
) -> None:
    size = getattr(tiny_tokenizers, side).size
    edit_config(folder, lambda config: config["model"].update({f"{side}_vocab_size": size + 1}))
    message = refusal(folder)
    for culprit in (f"{size + 1} {side} pieces", f"has {size}"):
        assert culprit in message


def test_a_broken_tokenizer_is_refused(folder: Path) -> None:
    (folder / JOINT_FILE).write_bytes(b"no SentencePiece model")
    sum_up(folder)
    assert JOINT_FILE in refusal(folder)


def test_a_checkpoint_without_a_tokenizer_is_refused(folder: Path) -> None:
    (folder / JOINT_FILE).unlink()
    sum_up(folder)
    assert JOINT_FILE in refusal(folder)


def test_a_pickle_is_never_opened(folder: Path, tmp_path: Path) -> None:
    # What unpickling would run, written out: os.system("touch .../ran")
    (folder / WEIGHTS).write_bytes(f"cos\nsystem\n(S'touch {tmp_path}/ran'\ntR.".encode())
    sum_up(folder)
    assert WEIGHTS in refusal(folder)
    assert not (tmp_path / "ran").exists()


NAME = "decoder.readout.weight"


@pytest.mark.parametrize(
    ("edit", "culprit"),
    [
        (lambda weights: weights.pop(NAME), f"{NAME} is missing"),
        (lambda weights: weights.update({"extra.weight": torch.ones(2)}), "extra.weight"),
        (lambda weights: weights.update({NAME: weights[NAME][:-1].clone()}), NAME),
        (lambda weights: weights.update({NAME: weights[NAME].T.contiguous()}), NAME),
        (lambda weights: weights.update({NAME: weights[NAME].flatten()}), NAME),
        (lambda weights: weights[NAME].view(-1)[3].fill_(float("nan")), f"{NAME} holds NaN"),
        (lambda weights: weights[NAME].view(-1)[3].fill_(float("-inf")), f"{NAME} holds NaN"),
        (lambda weights: weights.clear(), "is missing"),
    ],
)
def test_weights_of_another_network_are_refused_by_parameter(
    edit: Callable[[dict[str, torch.Tensor]], object], culprit: str, folder: Path
) -> None:
    edit_weights(folder, edit)
    message = refusal(folder)
    assert WEIGHTS in message
    assert culprit in message


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 8, b"\xff" * 64, b"\x02\0\0\0\0\0\0\0{}", b"\x08\0\0\0\0\0\0\0[1,2,3] "],
)
def test_invalid_weights_are_refused(content: bytes, folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(content)
    sum_up(folder)
    assert WEIGHTS in refusal(folder)


def test_a_shorter_weights_file_with_right_sums_is_refused(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])
    sum_up(folder)
    assert WEIGHTS in refusal(folder)


def test_folders_that_are_no_checkpoints_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_bytes(b"text")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "pytorch_model.bin").write_bytes(b"text")
    (tmp_path / "foreign" / CONFIG).write_text('{"model_type": "marian"}', encoding="utf-8")
    assert f"no {SUMS}" in refusal(tmp_path / "empty")
    assert f"no {SUMS}" in refusal(tmp_path / "foreign")
    assert "no checkpoint folder" in refusal(tmp_path / "file")
    assert "no checkpoint folder" in refusal(tmp_path / "absent")


def test_a_folder_in_the_place_of_a_file_is_refused(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()
    assert WEIGHTS in refusal(folder)


def test_a_shortlist_of_other_vocabularies_is_refused(
    tmp_path: Path, tiny_tokenizers: TokenizerPair
) -> None:
    config = small_config(tiny_tokenizers)
    shortlist = Shortlist(torch.zeros(3, 1, dtype=torch.int32), torch.zeros(0, dtype=torch.int32))
    folder = save(
        tmp_path / "new", build(config), tiny_tokenizers, config=config, shortlist=shortlist
    )
    with pytest.raises(CheckpointError, match=r"shortlist\.safetensors cannot be read: its shape"):
        load_checkpoint(folder)
