"""A loaded checkpoint equals the saved one."""

import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model.checkpoint import (
    WEIGHTS,
    CheckpointDescription,
    check_replaceable,
    load_checkpoint,
    read_description,
)
from model.errors import CheckpointError, ConfigError
from model.inference.shortlist import Shortlist
from model.text.tokenizer import EOS, JOINT_FILE, SOURCE_FILE, TARGET_FILE, TokenizerPair
from model.version import SUMS
from tests.model.checkpoints import (
    FILES,
    METRICS_OF_OLD,
    build,
    contents,
    log_probs,
    names,
    save,
    saved_again,
    small_config,
)


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
    assert read_description(tiny_checkpoint) == CheckpointDescription(
        loaded.config, loaded.metrics, loaded.version
    )


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_all_files_have_the_mode_that_the_umask_gives(
    mask: int, mode: int, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    loaded = load_checkpoint(tiny_checkpoint)
    size = loaded.tokenizers.source.size
    shortlist = Shortlist(torch.full((size, 1), 7, dtype=torch.int32), torch.tensor([7]).int())
    before = os.umask(mask)
    try:
        saved_again(tmp_path / "new", loaded, shortlist=shortlist)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "new").iterdir()}
    assert modes == dict.fromkeys([*names(tiny_checkpoint), "shortlist.safetensors"], mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_reads_a_checkpoint_or_learns_what_to_do(
    tiny_checkpoint: Path, request: pytest.FixtureRequest
) -> None:
    shared = Path(tempfile.mkdtemp())  # pytest's own folders are closed to other users
    request.addfinalizer(lambda: shutil.rmtree(shared))
    shared.chmod(0o755)
    folder = shared / "tiny"
    saved_again(folder, load_checkpoint(tiny_checkpoint))
    request.addfinalizer(lambda: os.seteuid(0))
    os.seteuid(65534)
    load_checkpoint(folder)
    os.seteuid(0)
    (folder / "weights.safetensors").chmod(0o600)
    os.seteuid(65534)
    with pytest.raises(CheckpointError, match=f"weights.safetensors cannot be read.*a.rX {folder}"):
        load_checkpoint(folder)


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
