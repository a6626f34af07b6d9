"""Devices that are there or refused, and the same network in another number format."""

from typing import Any

import pytest
import torch

from model.batch import SourceBatch
from model.errors import ConfigError
from model.precision import apply_precision, resolve_device
from model.tokenizer import BOS, EOS
from tests.networks import build

CPU = torch.device("cpu")


def with_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_auto_takes_the_gpu_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 0)
    assert resolve_device("auto") == CPU
    with_gpus(monkeypatch, 1)
    assert resolve_device("auto").type == "cuda"


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:1"])
def test_a_gpu_that_is_there_is_taken(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 2)
    assert resolve_device(device) == torch.device(device)
    assert resolve_device("cpu") == CPU


@pytest.mark.parametrize(("device", "count"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2)])
def test_a_gpu_that_is_not_there_is_refused(
    device: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gpus(monkeypatch, count)
    with pytest.raises(ConfigError, match=f"'{device}'.*{count} GPUs"):
        resolve_device(device)


@pytest.mark.parametrize("device", ["gpu", "", "cuda:x", "cuda:-1", "0", "meta", "mps", "cpu:7"])
def test_a_device_we_do_not_know_is_named(device: str) -> None:
    with pytest.raises(ConfigError, match=f"device '{device}'.*cuda:N"):
        resolve_device(device)


@pytest.mark.parametrize(
    ("precision", "taken", "dtype"),
    [
        ("auto", "fp32", torch.float32),
        ("fp32", "fp32", torch.float32),
        ("bf16", "bf16", torch.bfloat16),
    ],
)
def test_every_parameter_is_converted(precision: str, taken: str, dtype: torch.dtype) -> None:
    network = build()
    assert apply_precision(network, precision, CPU) == taken
    assert {parameter.dtype for parameter in network.parameters()} == {dtype}
    assert network.output.weight is network.decoder.embedding.weight  # still tied


@pytest.mark.parametrize("precision", ["fp16", "int9", "", "FP32"])
def test_a_precision_we_do_not_know_is_named(precision: str) -> None:
    network = build()
    with pytest.raises(ConfigError, match=f"'{precision}'.*auto, fp32, bf16"):
        apply_precision(network, precision, CPU)


@pytest.mark.parametrize(
    "choices",
    [
        {"cell": "lstm", "decoder": "feed"},
        {"cell": "gru", "decoder_layers": 2, "layer_norm": True, "attention_heads": 2},
        {"cell": "rnn", "attention": "dot"},
        {"cell": "gru", "attention": "general", "decoder": "feed"},
        {"cell": "lstm", "attention": "none"},
    ],
    ids=str,
)
def test_bf16_says_nearly_the_same_as_fp32(choices: dict[str, Any]) -> None:
    source = SourceBatch.from_ids([[5, 6, 7, 8, EOS], [9, EOS]])
    targets = torch.tensor([[BOS, 4, 5], [BOS, 6, 7]])

    def log_probs(precision: str) -> tuple[torch.Tensor, torch.Tensor]:
        network = build(**choices)
        apply_precision(network, precision, CPU)
        with torch.no_grad():
            stepped = network.step(targets[:, 0], network.encode(source)).logits
            return network(source, targets).float().log_softmax(-1), stepped.float().log_softmax(-1)

    # bf16 keeps 8 bits of a number, so states and logits around 1 are off by some hundredths
    for exact, rounded in zip(log_probs("fp32"), log_probs("bf16"), strict=True):
        assert not torch.equal(exact, rounded)
        torch.testing.assert_close(exact, rounded, atol=0.1, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_auto_is_bf16_on_a_gpu() -> None:
    network = build()
    assert apply_precision(network, "auto", torch.device("cuda")) == "bf16"
    assert {parameter.device.type for parameter in network.parameters()} == {"cuda"}
