"""Bit-equal with several threads; forced scores; padding. The rest: test_exactness.py."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from model.decoding.forced_scoring import score_targets
from model.decoding.request import SegmentRequest
from model.decoding.search_config import SearchConfig
from model.inference.packed_network import PackedNetwork
from model.inference.padding import padded_sentences
from tests.model.decoding.engines import NETWORKS, engine_of, network_of, run, source
from tests.model.decoding.exactness import run_with_random_arrivals
from tests.shapes import unchecked_shapes


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_bit_equal_with_two_threads() -> None:
    # Few and short: threads wait for each other when other processes use the cores.
    network = PackedNetwork(network_of(NETWORKS[0], wide=True), "fp32")
    randomly = random.Random(5)
    requests = [
        SegmentRequest(
            number,
            source(randomly, 20, vocab=2000),
            SearchConfig(beam_size, max_length_ratio=0.0, max_length_extra=3),
        )
        for number, beam_size in enumerate([1, 5, 5, 2, 1])
    ]
    with unchecked_shapes():
        alone = {r.request_id: run(engine_of(network), [r])[r.request_id] for r in requests}
        assert run_with_random_arrivals(engine_of(network), requests, randomly) == alone
        pairs = [(request.source_ids, request.source_ids[::-1]) for request in requests]
        together = score_targets(network, pairs)
        assert together[:2] == [score_targets(network, [pair])[0] for pair in pairs[:2]]


@pytest.mark.parametrize("choices", NETWORKS[2:5])
def test_forced_scores_are_bit_equal_alone_and_in_any_batch(choices: dict[str, Any]) -> None:
    network = PackedNetwork(network_of(choices), "fp32")
    randomly = random.Random(4)
    pairs = [(source(randomly, 40), source(randomly, 40)) for _ in range(11)]
    pairs += [([5], []), ([], [6, 7]), (source(randomly, 3), source(randomly, 100))]
    together = score_targets(network, pairs)
    with unchecked_shapes():
        alone = [score_targets(network, [pair])[0] for pair in pairs]
    assert together == alone
    assert [len(scores) for scores in together] == [len(target) + 1 for _, target in pairs]


def test_padding_gives_kernels_enough_rows() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert [padded_sentences(n, 5) for n in (1, 2, 3, 5, 8, 9)] == [1, 2, 4, 8, 8, 16]
        assert padded_sentences(1, 1) == 4
        torch.set_num_threads(2)
        assert [padded_sentences(1, beam) for beam in (1, 2, 4, 5, 8)] == [8, 4, 2, 8, 1]
    finally:
        torch.set_num_threads(before)
