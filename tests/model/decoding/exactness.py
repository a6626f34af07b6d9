"""Tries the engine's promise in a process of its own: equal results alone and in any batch.

Run by test_exactness.py under every instruction set of the machine; alone it takes what the machine
has: `python -m tests.model.decoding.exactness`. Prints one line per network; the first
difference raises AssertionError.
"""

import dataclasses
import random
import sys
import time
from typing import Any, get_args

import torch

from model.decoding.engine import Engine
from model.decoding.forced_scoring import score_targets
from model.decoding.request import SegmentRequest
from model.decoding.search_config import Hypothesis, SearchConfig
from model.inference.packed_network import PackedNetwork
from model.inference.products import ProductPrecision, pack
from model.network.seq2seq import Seq2Seq
from tests.model.decoding.engines import NETWORKS, VOCAB, network_of, run, some_shortlist, source

_WIDE_VOCAB = 2000
# Networks tried, by number. Precisions differ in their products alone, so fp32 stands for most.
_SMALL: dict[ProductPrecision, tuple[int, ...]] = {
    "fp32": tuple(range(len(NETWORKS))),
    "bf16": (0,),
    "int8": (1, 2, 5),
}
_WIDE: dict[ProductPrecision, tuple[int, ...]] = {"fp32": (0, 1), "bf16": (), "int8": (0,)}
_PRODUCTS = ((256, 1024), (36, 20), (2000, 256))  # outputs, inputs


def main() -> None:
    """Every cell and attention, small, and some networks at real sizes, in every precision."""
    torch.set_num_threads(1)
    for precision in get_args(ProductPrecision):
        started = time.monotonic()
        try:
            check_products(precision)
        except RuntimeError as error:  # of torch: there are none of this precision
            print(f"{precision}: {str(error).splitlines()[0]}")
            continue
        for number in _SMALL[precision]:
            network = network_of(NETWORKS[number])
            check_network(network, precision, VOCAB, shortlist=number % 2 == 0)
        for number in _WIDE[precision]:
            network = network_of(NETWORKS[number], wide=True)
            check_network(network, precision, _WIDE_VOCAB, shortlist=number % 2 == 0)
        print(f"{precision}: {time.monotonic() - started:.1f} s")
    print("all equal")


def check_products(precision: ProductPrecision) -> None:
    """A row alone, in few rows and in many."""
    generator = torch.Generator().manual_seed(0)
    for outputs, inputs in _PRODUCTS:
        weight = torch.rand(outputs, inputs, generator=generator) - 0.5
        product = pack(weight, torch.rand(outputs, generator=generator), precision)
        rows = 2 * torch.rand(200, inputs, generator=generator) - 1
        together = product(rows)
        if not product.exact:
            assert precision == "bf16", f"{precision} must be exact everywhere"
            continue
        for num in (1, 2, 3, 5, 7, 8, 11, 40, 77):
            assert torch.equal(product(rows[num : 2 * num]), together[num : 2 * num]), (
                f"{precision}: {num} rows of {outputs}x{inputs} differ alone"
            )


def check_network(
    network: Seq2Seq, precision: ProductPrecision, vocab: int, *, shortlist: bool
) -> None:
    """Runs requests alone and in batches where requests arrive and are cancelled at any step."""
    packed = PackedNetwork(network, precision)
    if not packed.exact:
        assert precision == "bf16", f"{precision} must be exact everywhere: {network.config}"
        print(f"{precision}: not exact here")
        return
    settings: dict[str, Any] = {"shortlist": some_shortlist(vocab) if shortlist else None}
    randomly = random.Random(1)
    requests = random_requests(randomly, 6, vocab)
    alone = {r.request_id: run(Engine(packed, **settings), [r])[r.request_id] for r in requests}
    engine = Engine(packed, max_slots=7, **settings)
    found = run_with_random_arrivals(engine, requests, randomly)
    for number, hypotheses in alone.items():
        assert found[number] == hypotheses, f"{precision}, request {number}: {network.config}"
    assert len({len(found[0].token_ids) for found in alone.values()}) > 2
    pairs = [(request.source_ids, request.source_ids[:9]) for request in requests]
    assert score_targets(packed, pairs)[:2] == [
        score_targets(packed, [pair])[0] for pair in pairs[:2]
    ]


def random_requests(randomly: random.Random, num: int, vocab: int = VOCAB) -> list[SegmentRequest]:
    """Sources short and long, unequal settings."""
    requests = []
    for request_id in range(num):
        beam_size = [1, 5, randomly.choice([2, 8])][request_id % 3]
        search = SearchConfig(
            beam_size=beam_size,
            n_best=randomly.randint(1, beam_size),
            length_penalty=randomly.choice([0.0, 0.6, 1.0]),
            min_length_ratio=randomly.choice([0.0, 0.3]),
            max_length_ratio=randomly.choice([0.5, 1.0]),
            max_length_extra=randomly.choice([2, 10]),
        )
        longest = randomly.choice([4, 15, 16, 20])
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
    """Adds the requests in any order at any step, with other requests that are cancelled."""
    coming = list(requests)
    randomly.shuffle(coming)
    others = [dataclasses.replace(r, request_id=1000 + r.request_id) for r in coming[::4]]
    found = {}
    while coming or not engine.idle:
        for _ in range(min(len(coming), randomly.choice([0, 0, 1, 3, 10]))):
            engine.submit(coming.pop())
        if others and randomly.random() < 0.3:
            engine.submit(others.pop())
        if randomly.random() < 0.2:
            engine.cancel(1000 + randomly.randrange(len(requests)))
        found.update({done.request_id: done.hypotheses for done in engine.step()})
        assert engine.num_busy <= engine.max_slots
    return {request_id: found[request_id] for request_id in range(len(requests))}


if __name__ == "__main__":
    main()
    sys.exit(0)
