"""The self-check of a loaded network: true of ours, false where a batch changes a sentence."""

import pytest
import torch

from model.inference import self_check
from model.inference.packed_network import PackedNetwork, PackedStep
from model.inference.self_check import is_batch_invariant
from model.network.batch import SourceBatch
from model.network.decoder import DecoderState
from tests.model.decoding.engines import NETWORKS, network_of


@pytest.fixture(autouse=True)
def tried_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_check, "_results", {})


@pytest.mark.parametrize("choices", NETWORKS[:3])
def test_a_network_is_exact(choices: dict[str, object]) -> None:
    assert PackedNetwork(network_of(choices), "fp32").exact


def test_a_last_bit_that_depends_on_the_batch_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = PackedNetwork(network_of(NETWORKS[0]), "fp32")
    step = packed.step

    def other_step(*args: object) -> PackedStep:
        output = step(*args)  # type: ignore[arg-type]
        output.logits[:, 7] += 1e-5 * len(output.logits)
        return output

    monkeypatch.setattr(packed, "step", other_step)
    assert not packed.exact


def test_a_product_that_cannot_be_exact_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = PackedNetwork(network_of(NETWORKS[0]), "fp32")
    monkeypatch.setattr(packed._output.products[0]._counts(), "exact", False)
    assert not packed.exact


def test_networks_of_one_shape_are_tested_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network = network_of(NETWORKS[0])
    assert is_batch_invariant(PackedNetwork(network, "fp32"))
    second = PackedNetwork(network, "fp32")

    def encode(source: SourceBatch) -> DecoderState:
        raise AssertionError("this network is checked again")

    monkeypatch.setattr(second, "encode", encode)
    assert is_batch_invariant(second)


def test_every_number_of_threads_is_tested() -> None:
    packed = PackedNetwork(network_of(NETWORKS[0]), "fp32")
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            assert is_batch_invariant(packed)
    finally:
        torch.set_num_threads(before)
    assert {key[-1] for key in self_check._results} == {1, 2}
