"""Checkpoints: what is saved is what is loaded, and whatever is damaged is refused by name."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from model import checkpoint as checkpoint_module
from model.batch import SourceBatch
from model.checkpoint import (
    CARD,
    CONFIG,
    FORMAT_VERSION,
    METRICS,
    WEIGHTS,
    Checkpoint,
    CheckpointConfig,
    TokenizerDescription,
    check_replaceable,
    load_checkpoint,
    read_description,
    save_checkpoint,
)
from model.config import ModelConfig, SearchDefaults
from model.errors import CheckpointError, ConfigError
from model.seq2seq import Seq2Seq
from model.shortlist import Shortlist
from model.tokenizer import BOS, EOS, JOINT_FILE, SOURCE_FILE, TARGET_FILE, TokenizerPair
from model.version import SUMS
from tests.tiny_checkpoint import fit_tiny_tokenizers

ROOT = Path(__file__).parents[2]
FILES = (CONFIG, WEIGHTS, METRICS, CARD, JOINT_FILE)
METRICS_OF_OLD: dict[str, Any] = {"dev": {"bleu": 41.5}, "examples": ["Grüße, 你好"]}


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint to damage."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "models" / "tiny"))


@pytest.fixture(scope="module")
def separate_tokenizers(tmp_path_factory: pytest.TempPathFactory) -> TokenizerPair:
    return fit_tiny_tokenizers(tmp_path_factory.mktemp("separate"), joint=False)


def small_config(tokenizers: TokenizerPair, **choices: Any) -> CheckpointConfig:
    return CheckpointConfig(
        source_language="en",
        target_language="de",
        model=ModelConfig(
            source_vocab_size=tokenizers.source.size,
            target_vocab_size=tokenizers.target.size,
            embedding_size=6,
            encoder_hidden=4,
            decoder_hidden=8,
            attention_size=8,
            **choices,
        ),
        tokenizer=TokenizerDescription(
            kind="unigram",
            joint=tokenizers.joint,
            source_normalization="nmt_nfkc",
            target_normalization="nmt_nfkc",
        ),
        search=SearchDefaults(beam_size=3, length_penalty=0.6),
        max_source_tokens=77,
    )


def save(
    folder: Path,
    network: Seq2Seq,
    tokenizers: TokenizerPair,
    *,
    config: CheckpointConfig | None = None,
    weights: dict[str, torch.Tensor] | None = None,
    card: str = "# old\n",
    shortlist: Shortlist | None = None,
) -> Path:
    save_checkpoint(
        folder,
        config=config or small_config(tokenizers),
        weights=dict(network.named_parameters()) if weights is None else weights,
        tokenizers=tokenizers,
        metrics=METRICS_OF_OLD,
        card=card,
        shortlist=shortlist,
    )
    return folder


def build(config: CheckpointConfig) -> Seq2Seq:
    torch.manual_seed(0)
    # torch takes another kernel while gradients are asked for, and its last bit may differ
    return Seq2Seq(config.model).eval().requires_grad_(False)


def log_probs(network: Seq2Seq) -> torch.Tensor:
    with torch.no_grad():
        targets = torch.tensor([[BOS, 17, 18], [BOS, 19, 20]])
        logits: torch.Tensor = network(SourceBatch.from_ids([[5, 6, 7, EOS], [8, EOS]]), targets)
        return logits.log_softmax(-1)


def saved_again(folder: Path, loaded: Checkpoint, card: str = "# new\n") -> None:
    save(folder, loaded.network, loaded.tokenizers, config=loaded.config, card=card)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# What is saved is what is loaded


@pytest.mark.parametrize("tied", ["none", "target", "all"])
def test_a_loaded_network_gives_equal_log_probs(
    tied: str, tmp_path: Path, tiny_tokenizers: TokenizerPair
) -> None:
    config = small_config(tiny_tokenizers, tied_embeddings=tied)
    network = build(config)
    save(tmp_path / "new", network, tiny_tokenizers, config=config)
    loaded = load_checkpoint(tmp_path / "new", precision="fp32")
    assert torch.equal(log_probs(loaded.network), log_probs(network))
    assert loaded.config == config
    assert loaded.metrics == METRICS_OF_OLD
    assert (loaded.name, loaded.precision) == ("new", "fp32")
    assert not loaded.network.training
    assert not any(parameter.requires_grad for parameter in loaded.network.parameters())
    text = "We have two apples."
    assert loaded.tokenizers.source.encode(text) == tiny_tokenizers.source.encode(text)


def test_two_tokenizers_keep_their_sides(
    tmp_path: Path, separate_tokenizers: TokenizerPair
) -> None:
    config = small_config(separate_tokenizers)
    network = build(config)
    loaded = load_checkpoint(save(tmp_path / "new", network, separate_tokenizers, config=config))
    assert {SOURCE_FILE, TARGET_FILE} < set(names(tmp_path / "new"))
    assert JOINT_FILE not in names(tmp_path / "new")
    for side in ("source", "target"):
        before, after = getattr(separate_tokenizers, side), getattr(loaded.tokenizers, side)
        for text in ("We have two apples.", "Wir haben zwei Äpfel."):
            assert after.encode(text) == before.encode(text)
    assert torch.equal(log_probs(loaded.network), log_probs(network))


@pytest.mark.parametrize(
    ("tied", "absent"),
    [
        ("none", set()),
        ("target", {"output.weight"}),
        ("all", {"output.weight", "decoder.embedding.weight"}),
    ],
)
def test_a_tied_matrix_is_stored_once(
    tied: str, absent: set[str], tmp_path: Path, tiny_tokenizers: TokenizerPair
) -> None:
    config = small_config(tiny_tokenizers, tied_embeddings=tied)
    network = build(config)
    given: dict[str, dict[str, torch.Tensor]] = {
        "parameters": dict(network.named_parameters()),
        "state": network.state_dict(),  # which names a tied matrix twice
    }
    stored = []
    for name, weights in given.items():
        folder = tmp_path / name
        save(folder, network, tiny_tokenizers, config=config, weights=weights)
        stored.append(load_file(folder / WEIGHTS))
        loaded = load_checkpoint(folder)
        assert torch.equal(log_probs(loaded.network), log_probs(network))
        assert (loaded.network.output.weight is loaded.network.decoder.embedding.weight) == (
            tied != "none"
        )
    every = {"encoder.embedding.weight", "decoder.embedding.weight", "output.weight"}
    assert stored[0].keys() == stored[1].keys()
    assert every - stored[0].keys() == absent


def test_weights_may_be_stored_in_half_precision(
    tmp_path: Path, tiny_tokenizers: TokenizerPair
) -> None:
    config = small_config(tiny_tokenizers)
    network = build(config)
    halves = {name: weight.bfloat16() for name, weight in network.named_parameters()}
    loaded = load_checkpoint(save(tmp_path / "new", network, tiny_tokenizers, weights=halves))
    for name, weight in loaded.network.named_parameters():
        assert torch.equal(weight, halves[name].float()), name


def test_precision_is_chosen_when_loading(tiny_checkpoint: Path) -> None:
    loaded = load_checkpoint(tiny_checkpoint, precision="bf16")
    assert loaded.precision == "bf16"
    # What scores and what can be trained further stays exact.
    assert loaded.network.output.weight.dtype == torch.float32
    with pytest.raises(ConfigError, match="'int9'"):
        load_checkpoint(tiny_checkpoint, precision="int9")
    with pytest.raises(ConfigError, match="'tpu'"):
        load_checkpoint(tiny_checkpoint, device="tpu")


def test_every_file_but_the_sums_is_summed(tiny_checkpoint: Path) -> None:
    expected = [
        f"{hashlib.sha256(content).hexdigest()}  {name}\n"  # as sha256sum writes and checks it
        for name, content in sorted(contents(tiny_checkpoint).items())
        if name != SUMS
    ]
    assert (tiny_checkpoint / SUMS).read_bytes() == "".join(expected).encode()
    assert set(names(tiny_checkpoint)) == {*FILES, SUMS}


def test_equal_content_has_an_equal_version(tiny_checkpoint: Path, tmp_path: Path) -> None:
    loaded = load_checkpoint(tiny_checkpoint)
    versions = []
    for name, card in (("a", "# one\n"), ("b", "# one\n"), ("c", "# other\n")):
        saved_again(tmp_path / name, loaded, card)
        versions.append(load_checkpoint(tmp_path / name).version)
    assert versions[0] == versions[1] != versions[2]
    assert re.fullmatch("[0-9a-f]{12}", versions[0])


def test_a_description_needs_no_weights_to_be_built(tiny_checkpoint: Path) -> None:
    loaded = load_checkpoint(tiny_checkpoint)
    assert read_description(tiny_checkpoint) == (loaded.config, loaded.metrics, loaded.version)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_all_files_have_the_mode_that_the_umask_gives(
    mask: int, mode: int, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    loaded = load_checkpoint(tiny_checkpoint)
    before = os.umask(mask)
    try:
        saved_again(tmp_path / "new", loaded)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "new").iterdir()}
    assert modes == dict.fromkeys(names(tiny_checkpoint), mode)


# Whatever is damaged is refused by name


def refusal(folder: Path) -> str:
    """The one sentence with which `folder` is refused."""
    with pytest.raises(CheckpointError) as refused:
        load_checkpoint(folder)
    message = str(refused.value)
    assert "\n" not in message
    assert str(folder) in message
    assert len(message) < len(str(folder)) + 300
    return message


def sum_up(folder: Path) -> None:
    """Writes SHA256SUMS anew, as someone would who changed a checkpoint by hand."""
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
def test_sums_that_are_none_are_refused(sums: bytes, folder: Path) -> None:
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
def test_a_config_that_is_none_is_refused(content: bytes, folder: Path) -> None:
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
def test_metrics_that_are_none_are_refused(content: bytes, folder: Path) -> None:
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
def test_weights_that_are_none_are_refused(content: bytes, folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(content)
    sum_up(folder)
    assert WEIGHTS in refusal(folder)


def test_a_shorter_weights_file_with_right_sums_is_refused(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])
    sum_up(folder)
    assert WEIGHTS in refusal(folder)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
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


# Replacing


def test_a_newer_checkpoint_takes_the_place_of_an_older_one(
    folder: Path, separate_tokenizers: TokenizerPair
) -> None:
    old = load_checkpoint(folder)
    config = small_config(separate_tokenizers)
    network = build(config)
    save(folder, network, separate_tokenizers, config=config, card="# new\n")
    new = load_checkpoint(folder)
    assert new.version != old.version
    assert torch.equal(log_probs(new.network), log_probs(network))
    assert JOINT_FILE not in names(folder)  # nothing of the old one stays
    assert names(folder.parent) == [folder.name]


def test_a_damaged_checkpoint_can_be_replaced(tiny_checkpoint: Path, folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"damaged")
    saved_again(folder, load_checkpoint(tiny_checkpoint))
    load_checkpoint(folder)


def test_an_empty_folder_can_become_a_checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    saved_again(tmp_path / "new", load_checkpoint(tiny_checkpoint))
    load_checkpoint(tmp_path / "new")


def test_a_checkpoint_behind_a_link_is_replaced_and_the_link_stays(folder: Path) -> None:
    link = folder.parent / "current"
    link.symlink_to(folder.name)
    saved_again(link, load_checkpoint(link))
    assert link.is_symlink()
    assert (folder / CARD).read_text(encoding="utf-8") == "# new\n"
    assert load_checkpoint(link).name == folder.name
    assert names(folder.parent) == ["current", folder.name]


def test_what_is_no_checkpoint_is_never_overwritten(tiny_checkpoint: Path, tmp_path: Path) -> None:
    loaded = load_checkpoint(tiny_checkpoint)
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"mine")
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / SUMS).write_bytes(b"mine")  # a common name
    before = contents(tmp_path / "photos") | contents(tmp_path / "downloads")
    for name in ("file", "photos", "downloads"):
        with pytest.raises(CheckpointError, match=f"{name} exists and is no checkpoint"):
            saved_again(tmp_path / name, loaded)
    assert (tmp_path / "file").read_bytes() == b"mine"
    assert contents(tmp_path / "photos") | contents(tmp_path / "downloads") == before
    assert names(tmp_path) == ["downloads", "file", "photos"]


@pytest.mark.parametrize("name", ["notes.txt", ".git"])
def test_what_someone_put_into_a_checkpoint_is_not_lost(name: str, folder: Path) -> None:
    loaded = load_checkpoint(folder)
    (folder / name).write_bytes(b"mine")
    with pytest.raises(CheckpointError, match=f"'{name}'.*lost"):
        saved_again(folder, loaded)
    with pytest.raises(CheckpointError, match=f"'{name}'.*lost"):
        check_replaceable(folder)
    assert (folder / name).read_bytes() == b"mine"
    load_checkpoint(folder)  # a file that is nobody's does no harm


@pytest.mark.parametrize("failing", ["save_file", "file_hash", "_write"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_checkpoint(
    failing: str, error: BaseException, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_checkpoint(folder)
    before = contents(folder)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(checkpoint_module, failing, fail)
    for path in (folder, folder.parent / "other"):
        with pytest.raises(type(error)):
            saved_again(path, loaded)
    assert contents(folder) == before
    assert names(folder.parent) == [folder.name]


def test_killed_at_any_moment_a_checkpoint_stays_whole(folder: Path) -> None:
    command = [sys.executable, "-m", "tests.model.kill_writers", "checkpoint", str(folder.parent)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)


def test_a_shortlist_travels_with_the_checkpoint(
    tmp_path: Path, tiny_tokenizers: TokenizerPair
) -> None:
    config = small_config(tiny_tokenizers)
    size = tiny_tokenizers.source.size
    shortlist = Shortlist(
        torch.arange(size, dtype=torch.int32)[:, None], torch.tensor([7, 9], dtype=torch.int32)
    )
    folder = save(tmp_path / "new", build(config), tiny_tokenizers, config=config)
    assert load_checkpoint(folder).shortlist is None
    save(tmp_path / "new", build(config), tiny_tokenizers, config=config, shortlist=shortlist)
    found = load_checkpoint(folder).shortlist
    assert found is not None
    check_replaceable(folder)
    assert found.choose([20, 30]).tolist() == [EOS, 7, 9, 20, 30]


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
