"""The engine's promise: the same translation alone and in any company, to the last bit."""

import dataclasses
import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from model.decoding.engine import Engine
from model.decoding.forced_scoring import score_targets
from model.decoding.padding import padded_sentences
from model.decoding.request import SegmentRequest
from model.decoding.search_config import Hypothesis, SearchConfig
from model.inference.products import ProductPrecision, int8_failure
from model.inference.shortlist import Shortlist
from tests.model.decoding.engines import (
    NETWORKS,
    VOCAB,
    engine_of,
    network_of,
    run,
    some_shortlist,
    source,
)
from tests.shapes import unchecked_shapes

EXACT: list[Any] = [
    "fp32",
    pytest.param(
        "int8",
        marks=pytest.mark.skipif(int8_failure() is not None, reason=f"no int8: {int8_failure()}"),
    ),
]


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def random_requests(randomly: random.Random, num: int, vocab: int = VOCAB) -> list[SegmentRequest]:
    requests = []
    for request_id in range(num):
        beam_size = randomly.choice([1, 1, 2, 3, 4, 5, 5, 5, 8, 12])
        search = SearchConfig(
            beam_size=beam_size,
            n_best=randomly.randint(1, beam_size),
            length_penalty=randomly.choice([0.0, 0.6, 1.0]),
            min_length_ratio=randomly.choice([0.0, 0.3]),
            max_length_ratio=randomly.choice([0.5, 1.0]),
            max_length_extra=randomly.choice([2, 10]),
        )
        longest = randomly.choice([4, 15, 16, 60])
        requests.append(
            SegmentRequest(
                request_id,
                source(randomly, longest, vocab),
                search,
                attention=randomly.random() < 0.3,
                prefix_ids=source(randomly, 3, vocab) if randomly.random() < 0.2 else [],
            )
        )
    return requests


def run_with_random_arrivals(
    engine: Engine, requests: list[SegmentRequest], randomly: random.Random
) -> dict[int, tuple[Hypothesis, ...]]:
    """Requests come in any order, at any step; some company is cancelled on the way."""
    coming = list(requests)
    randomly.shuffle(coming)
    company = [dataclasses.replace(r, request_id=1000 + r.request_id) for r in coming[::4]]
    found = {}
    while coming or not engine.idle:
        for _ in range(min(len(coming), randomly.choice([0, 0, 1, 3, 10]))):
            engine.submit(coming.pop())
        if company and randomly.random() < 0.3:
            engine.submit(company.pop())
        if randomly.random() < 0.2:
            engine.cancel(1000 + randomly.randrange(len(requests)))
        found.update({done.request_id: done.hypotheses for done in engine.step()})
        assert engine.num_busy <= engine.max_slots
    return {request_id: found[request_id] for request_id in range(len(requests))}


@pytest.mark.parametrize("shortlist", [None, some_shortlist(VOCAB)], ids=["whole", "shortlist"])
@pytest.mark.parametrize("precision", EXACT)
@pytest.mark.parametrize("choices", NETWORKS)
def test_bit_equal_alone_and_in_any_company(
    choices: dict[str, Any], precision: ProductPrecision, shortlist: Shortlist | None
) -> None:
    network = network_of(choices)
    randomly = random.Random(1)
    requests = random_requests(randomly, 12)

    def engine(max_slots: int) -> Engine:
        return engine_of(network, precision, shortlist=shortlist, max_slots=max_slots)

    with unchecked_shapes():
        alone = {r.request_id: run(engine(64), [r])[r.request_id] for r in requests}
        assert run_with_random_arrivals(engine(64), requests, randomly) == alone
    assert run_with_random_arrivals(engine(7), requests, randomly) == alone


@pytest.mark.parametrize("shortlist", [None, some_shortlist(2000)], ids=["whole", "shortlist"])
@pytest.mark.parametrize("precision", EXACT)
@pytest.mark.parametrize("choices", NETWORKS[:3])
def test_bit_equal_at_sizes_as_in_earnest(
    choices: dict[str, Any], precision: ProductPrecision, shortlist: Shortlist | None
) -> None:
    network = network_of(choices, wide=True)
    randomly = random.Random(2)
    requests = random_requests(randomly, 12, vocab=2000)
    settings: dict[str, Any] = {"precision": precision, "shortlist": shortlist}
    with unchecked_shapes():
        alone = {
            r.request_id: run(engine_of(network, **settings), [r])[r.request_id] for r in requests
        }
    engine = engine_of(network, **settings, max_slots=16)
    assert run_with_random_arrivals(engine, requests, randomly) == alone
    assert len({len(found[0].token_ids) for found in alone.values()}) > 3


@pytest.mark.usefixtures("two_threads")
def test_bit_equal_with_two_threads() -> None:
    # Few and short: threads wait for each other whenever somebody else uses the cores.
    network = network_of(NETWORKS[0], wide=True)
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


@pytest.mark.parametrize("choices", NETWORKS)
def test_forced_scores_are_bit_equal_alone_and_in_any_company(choices: dict[str, Any]) -> None:
    network = network_of(choices)
    randomly = random.Random(4)
    pairs = [(source(randomly, 40), source(randomly, 40)) for _ in range(21)]
    pairs += [([5], []), ([], [6, 7]), (source(randomly, 3), source(randomly, 100))]
    together = score_targets(network, pairs)
    assert together == [score_targets(network, [pair])[0] for pair in pairs]
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
