"""Choice of devices and number formats; unavailable ones are refused."""

import pytest
import torch

from model.errors import ConfigError
from model.inference import precision as precision_module
from model.inference.precision import resolve_device, resolve_precision

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
def test_an_available_gpu_is_used(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 2)
    assert resolve_device(device) == torch.device(device)
    assert resolve_device("cpu") == CPU


@pytest.mark.parametrize(("device", "count"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2)])
def test_a_missing_gpu_is_refused(device: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, count)
    with pytest.raises(ConfigError, match=f"'{device}'.*{count} GPUs"):
        resolve_device(device)


@pytest.mark.parametrize("device", ["gpu", "", "cuda:x", "cuda:-1", "0", "meta", "mps", "cpu:7"])
def test_an_unknown_device_is_named(device: str) -> None:
    with pytest.raises(ConfigError, match=f"device '{device}'.*cuda:N"):
        resolve_device(device)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_a_chosen_precision_is_used(precision: str) -> None:
    assert resolve_precision(precision, CPU) == precision


@pytest.mark.parametrize("precision", ["fp16", "int9", "", "FP32"])
def test_an_unknown_precision_is_named(precision: str) -> None:
    with pytest.raises(ConfigError, match=f"'{precision}'.*auto, fp32, bf16, int8"):
        resolve_precision(precision, CPU)


def test_int8_is_refused_where_it_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision_module, "int8_failure", lambda: "it overflows")
    with pytest.raises(
        ConfigError, match="int8 is not available on this machine: it overflows; use bf16 or fp32"
    ):
        resolve_precision("int8", CPU)
    with pytest.raises(ConfigError, match="GPU"):
        resolve_precision("int8", torch.device("cuda"))


def test_auto_takes_the_fastest_here_and_bf16_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision_module, "fastest_precision", lambda: "int8")
    assert resolve_precision("auto", CPU) == "int8"
    assert resolve_precision("auto", torch.device("cuda")) == "bf16"
