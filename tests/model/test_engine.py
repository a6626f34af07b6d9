"""The engine against slow obvious searches, and the promise: alone and in any company the same."""

import dataclasses
import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from model.batch import SourceBatch
from model.beam_search import Hypothesis, SearchConfig
from model.buckets import padded_sentences
from model.engine import Engine
from model.errors import CheckpointError, InputError
from model.forced_scoring import score_targets
from model.packed import PackedNetwork
from model.products import ProductPrecision, int8_failure
from model.request import Request
from model.seq2seq import Seq2Seq
from model.shortlist import Shortlist
from model.tokenizer import BOS, EOS
from tests.model.reference_search import TableNetwork, every_translation, slow_beam_search
from tests.networks import build
from tests.shapes import unchecked_shapes
from tests.slow_step import slow_step

VOCAB = 50
NETWORKS: list[dict[str, Any]] = [
    {"cell": "gru"},
    {"cell": "lstm", "attention": "general", "attention_heads": 2},
    {"cell": "lstm", "decoder": "feed", "decoder_layers": 2, "encoder_layers": 2, "residual": True},
    {"cell": "gru", "decoder": "feed", "attention": "dot"},
    {"cell": "rnn", "attention": "none", "layer_norm": True},
    {"cell": "lstm", "bidirectional": False, "reverse_source": True},
]
EXACT: list[Any] = [
    "fp32",
    pytest.param(
        "int8",
        marks=pytest.mark.skipif(int8_failure() is not None, reason=f"no int8: {int8_failure()}"),
    ),
]


def network_of(choices: dict[str, Any], *, wide: bool = False) -> Seq2Seq:
    """Random weights; ends now and then, so that lengths differ. `wide`: sizes as in earnest."""
    sizes = {"embedding_size": 24, "encoder_hidden": 32, "decoder_hidden": 64, "attention_size": 32}
    if wide:
        sizes = dict.fromkeys(sizes, 256) | {"encoder_hidden": 128}
    vocab = 2000 if wide else VOCAB
    network = build(
        **sizes | choices, source_vocab_size=vocab, target_vocab_size=vocab, tied_embeddings="all"
    )
    with torch.no_grad():
        if wide:  # `build` scatters weights for small sizes
            for parameter in network.parameters():
                parameter.mul_(0.2)
        network.output.bias[EOS] += 0.2 if wide else 1.0
    return network


def source(randomly: random.Random, longest: int = 20, vocab: int = VOCAB) -> list[int]:
    return [randomly.randrange(EOS + 1, vocab) for _ in range(randomly.randint(1, longest))]


def run(engine: Engine, requests: list[Request]) -> dict[int, tuple[Hypothesis, ...]]:
    for request in requests:
        engine.admit(request)
    found = {}
    while not engine.idle:
        found.update({done.request_id: done.hypotheses for done in engine.step()})
    return found


def engine_of(network: Seq2Seq, precision: ProductPrecision = "fp32", **limits: Any) -> Engine:
    packed = network if isinstance(network, TableNetwork) else PackedNetwork(network, precision)
    return Engine(packed, **limits)


def translate(network: Seq2Seq, source_ids: list[int], **settings: Any) -> tuple[Hypothesis, ...]:
    request = Request(7, source_ids, SearchConfig(**settings), attention=True)
    return run(engine_of(network), [request])[7]


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


# --- against the slow obvious versions


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_beam_as_wide_as_the_space_finds_what_exhaustive_search_finds(
    alpha: float, seed: int
) -> None:
    network = TableNetwork(vocab_size=EOS + 4, seed=seed)
    everything = every_translation(network, [5, 6], vocab_size=EOS + 4, max_length=5)
    everything.sort(key=lambda candidate: -candidate.score(alpha))
    found = translate(
        network,
        [5, 6],
        beam_size=3**5,
        n_best=20,
        length_penalty=alpha,
        max_length_ratio=0.0,
        max_length_extra=5,
    )
    assert [h.token_ids for h in found] == [c.pieces for c in everything[:20]]
    assert [h.score for h in found] == pytest.approx([c.score(alpha) for c in everything[:20]])


@pytest.mark.parametrize("seed", range(30))
def test_equals_the_slow_beam_search(seed: int) -> None:
    randomly = random.Random(seed)
    network = TableNetwork(vocab_size=12, seed=seed, end_bias=randomly.uniform(-1, 2))
    requests = []
    for request_id in range(12):
        beam_size = randomly.choice([1, 2, 3, 5, 8, 20])
        search = SearchConfig(
            beam_size=beam_size,
            n_best=randomly.randint(1, beam_size),
            length_penalty=randomly.choice([0.0, 0.5, 1.0, 2.0]),
            min_length_ratio=randomly.choice([0.0, 0.5]),
            max_length_ratio=randomly.choice([1.0, 3.0]),
            max_length_extra=randomly.choice([0, 4]),
        )
        requests.append(Request(request_id, source(randomly, 6, vocab=12), search))
    found = run(engine_of(network, max_slots=5), requests)
    for request in requests:
        expected = slow_beam_search(network, request.source_ids, request.search)
        hypotheses = found[request.request_id]
        assert [h.finished for h in hypotheses] == [c.finished for c in expected]
        assert [h.token_ids for h in hypotheses] == [c.pieces for c in expected]
        assert [h.log_prob for h in hypotheses] == pytest.approx(
            [c.log_prob for c in expected], abs=1e-5
        )


@pytest.mark.parametrize("choices", NETWORKS)
def test_greedy_is_the_best_piece_at_every_step(choices: dict[str, Any]) -> None:
    network = network_of(choices)
    for seed in range(5):
        source_ids = source(random.Random(seed))
        (found,) = translate(network, source_ids, beam_size=1)
        with torch.no_grad():
            state = network.encode(SourceBatch.from_ids([[*source_ids, EOS]]))
            previous, pieces = torch.tensor([BOS]), []
            for _ in range(2 * (len(source_ids) + 1) + 10):
                output = slow_step(network, previous, state)
                output.logits[:, :EOS] = -torch.inf
                previous, state = output.logits.argmax(dim=1), output.state
                if previous.item() == EOS:
                    break
                pieces.append(previous.item())
        assert found.token_ids == tuple(pieces)


@pytest.mark.parametrize("choices", NETWORKS)
def test_log_probs_are_those_of_teacher_forcing(choices: dict[str, Any]) -> None:
    network = network_of(choices)
    randomly = random.Random(0)
    for _ in range(5):
        source_ids = source(randomly)
        for hypothesis in translate(network, source_ids, beam_size=4, n_best=4):
            assert sum(hypothesis.token_log_probs) == pytest.approx(hypothesis.log_prob, abs=1e-4)
            (forced,) = score_targets(network, [(source_ids, hypothesis.token_ids)])
            if not hypothesis.finished:
                forced = forced[:-1]
            assert hypothesis.token_log_probs == pytest.approx(forced, abs=1e-4)


def test_attention_is_where_the_hypothesis_looked() -> None:
    network = network_of({"cell": "gru"})
    with torch.no_grad():
        network.output.bias[EOS] += 3.0
    source_ids = source(random.Random(3))
    found = translate(network, source_ids, beam_size=4, n_best=4)
    assert any(hypothesis.finished for hypothesis in found)
    for hypothesis in found:
        # the last piece looks at nothing any more, unless it is followed by EOS
        read = [BOS, *hypothesis.token_ids][: len(hypothesis.token_log_probs)]
        with torch.no_grad():
            state = network.encode(SourceBatch.from_ids([[*source_ids, EOS]]))
            for piece, row in zip(read, hypothesis.attention or (), strict=True):
                output = slow_step(network, torch.tensor([piece]), state)
                state = output.state
                assert row == pytest.approx(output.attention_weights[0].tolist(), abs=1e-5)


# --- alone and in any company


def random_requests(randomly: random.Random, num: int, vocab: int = VOCAB) -> list[Request]:
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
            Request(
                request_id,
                source(randomly, longest, vocab),
                search,
                attention=randomly.random() < 0.3,
                prefix_ids=source(randomly, 3, vocab) if randomly.random() < 0.2 else [],
            )
        )
    return requests


def run_with_random_arrivals(
    engine: Engine, requests: list[Request], randomly: random.Random
) -> dict[int, tuple[Hypothesis, ...]]:
    """Requests come in any order, at any step; some company is cancelled on the way."""
    coming = list(requests)
    randomly.shuffle(coming)
    company = [dataclasses.replace(r, request_id=1000 + r.request_id) for r in coming[::4]]
    found = {}
    while coming or not engine.idle:
        for _ in range(min(len(coming), randomly.choice([0, 0, 1, 3, 10]))):
            engine.admit(coming.pop())
        if company and randomly.random() < 0.3:
            engine.admit(company.pop())
        if randomly.random() < 0.2:
            engine.cancel(1000 + randomly.randrange(len(requests)))
        found.update({done.request_id: done.hypotheses for done in engine.step()})
        assert engine.num_busy <= engine.max_slots
    return {request_id: found[request_id] for request_id in range(len(requests))}


def some_shortlist(vocab: int) -> Shortlist:
    """Half of the vocabulary for every source piece, and a little for all."""
    generator = torch.Generator().manual_seed(0)
    by_source = torch.randint(4, vocab, (vocab, 6), generator=generator, dtype=torch.int32)
    return Shortlist(by_source, torch.arange(4, 9, dtype=torch.int32))


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
        Request(
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


# --- what a request may ask for


@pytest.mark.parametrize("shortlist", [None, some_shortlist(VOCAB)], ids=["whole", "shortlist"])
def test_a_target_begins_with_its_prefix_and_is_scored_like_any(
    shortlist: Shortlist | None,
) -> None:
    network = network_of({"cell": "gru"})
    source_ids, prefix = [7, 8, 9], [40, 41, 42]
    request = Request(1, source_ids, SearchConfig(beam_size=3, n_best=3), prefix_ids=prefix)
    found = run(engine_of(network, shortlist=shortlist), [request])[1]
    assert len({hypothesis.token_ids for hypothesis in found}) == 3
    for hypothesis in found:
        assert list(hypothesis.token_ids[:3]) == prefix
        if shortlist is None:
            (forced,) = score_targets(network, [(source_ids, hypothesis.token_ids)])
            pieces = len(hypothesis.token_ids)
            assert hypothesis.token_log_probs[:pieces] == pytest.approx(forced[:pieces], abs=1e-4)


def test_a_prefix_does_not_count_against_the_length_limit() -> None:
    network = TableNetwork(vocab_size=9, end_bias=-100.0)
    limits = SearchConfig(beam_size=1, max_length_ratio=0.0, max_length_extra=2)
    found = run(Engine(network), [Request(1, [5], limits, prefix_ids=[4, 5, 6])])[1]
    assert len(found[0].token_ids) == 5


def test_a_shortlist_leaves_out_what_it_does_not_name() -> None:
    network = network_of({"cell": "gru"})
    nothing = torch.zeros(VOCAB, 1, dtype=torch.int32)
    shortlist = Shortlist(nothing, torch.tensor([20, 30], dtype=torch.int32))
    request = Request(1, [7, 8], SearchConfig(beam_size=4, n_best=4))
    for hypothesis in run(engine_of(network, shortlist=shortlist), [request])[1]:
        assert set(hypothesis.token_ids) <= {20, 30}


def test_a_short_sentence_passes_a_long_one_but_not_for_ever() -> None:
    network = TableNetwork(vocab_size=9, end_bias=-100.0)
    engine = Engine(network, max_slots=1)

    def request(number: int, length: int) -> Request:
        limits = SearchConfig(beam_size=1, max_length_ratio=0.0, max_length_extra=1)
        return Request(number, [5] * length, limits)

    for number in range(200):  # more than are encoded ahead
        engine.admit(request(number, 30))
    engine.step()
    engine.admit(request(1000, 2))
    order = []
    for number in range(300):
        if not engine.idle:
            order += [done.request_id for done in engine.step()]
        engine.admit(request(2000 + number, 2))
    assert order.index(1000) < order.index(199)
    assert 199 in order
    latecomers = [order.index(number) for number in order if number > 2000 + 40]
    assert latecomers
    assert order.index(199) < min(latecomers)


def test_bulk_lets_all_others_pass() -> None:
    engine = Engine(TableNetwork(vocab_size=9, end_bias=-100.0), max_slots=1)
    settings = SearchConfig(beam_size=1, max_length_ratio=0.0, max_length_extra=1)
    for number in range(200):  # more than are encoded ahead
        engine.admit(Request(number, [5], settings, bulk=True))
    order = [done.request_id for done in engine.step()]
    engine.admit(Request(1000, [5] * 20, settings))
    while not engine.idle:
        order += [done.request_id for done in engine.step()]
    assert order.index(1000) < 40
    assert len(order) == 201


# --- coming and going


def test_a_short_sentence_leaves_while_a_long_one_goes_on() -> None:
    network = TableNetwork(vocab_size=9, end_bias=-100.0)

    def request(request_id: int, length: int) -> Request:
        search = SearchConfig(beam_size=2, max_length_ratio=0.0, max_length_extra=length)
        return Request(request_id, [5, 6], search)

    engine = engine_of(network, max_slots=2)
    for request_id, length in enumerate([10, 3, 4, 1]):
        engine.admit(request(request_id, length))
    finished_at = {}
    for step in range(1, 20):
        for done in engine.step():
            finished_at[done.request_id] = step
    assert finished_at == {0: 10, 1: 3, 2: 3 + 4, 3: 3 + 4 + 1}
    assert engine.idle


def test_counts_of_busy_and_waiting() -> None:
    engine = Engine(TableNetwork(vocab_size=9, end_bias=-100.0), max_slots=2)
    assert engine.idle
    for request_id in range(40):
        engine.admit(Request(request_id, [5], SearchConfig(1 + request_id % 2, max_length_extra=0)))
    assert (engine.num_busy, engine.num_waiting) == (0, 40)
    engine.step()
    assert (engine.num_busy, engine.num_waiting) == (2, 38)
    engine.cancel(0)  # has a slot
    assert (engine.num_busy, engine.num_waiting) == (1, 38)
    engine.cancel(2)  # encoded
    engine.cancel(39)  # waits
    engine.cancel(39)
    engine.cancel(12345)
    assert (engine.num_busy, engine.num_waiting) == (1, 36)
    found = run(engine, [])
    assert sorted(found) == sorted(set(range(40)) - {0, 2, 39})


def test_cancelling_all_leaves_an_idle_engine() -> None:
    engine = Engine(TableNetwork(vocab_size=9, end_bias=-100.0))
    for request_id in range(3):
        engine.admit(Request(request_id, [5], SearchConfig()))
    engine.step()
    for request_id in range(3):
        engine.cancel(request_id)
    assert engine.step() == []
    assert engine.idle


@pytest.mark.parametrize("beam_size", [1, 3])
def test_what_reaches_the_limit_is_marked(beam_size: int) -> None:
    network = TableNetwork(vocab_size=9, end_bias=-100.0)
    found = translate(network, [5, 6], beam_size=beam_size, n_best=beam_size, max_length_ratio=2.0)
    assert len(found) == beam_size
    for hypothesis in found:
        assert not hypothesis.finished
        assert len(hypothesis.token_ids) == len(hypothesis.token_log_probs) == 2 * 3 + 10
        assert len(hypothesis.attention or ()) == 16


def test_finished_hypotheses_come_before_those_that_were_cut() -> None:
    network = TableNetwork(vocab_size=9, end_bias=-1.5, seed=2)
    found = translate(network, [5, 6], beam_size=5, n_best=5, max_length_extra=0)
    assert {h.finished for h in found} == {True, False}
    assert [h.finished for h in found] == sorted((h.finished for h in found), reverse=True)


def test_long_outputs_outgrow_the_first_columns() -> None:
    network = TableNetwork(vocab_size=9, end_bias=-100.0)
    (found,) = translate(network, [5, 6], beam_size=2, max_length_extra=100)
    (expected,) = slow_beam_search(network, [5, 6], SearchConfig(beam_size=2, max_length_extra=100))
    assert found.token_ids == expected.pieces


def test_sources_that_cannot_be_translated_are_refused() -> None:
    engine = Engine(TableNetwork(vocab_size=9), max_source_tokens=4)
    with pytest.raises(InputError, match="source has 5 tokens, the limit is 4"):
        engine.admit(Request(1, [5] * 5, SearchConfig()))
    with pytest.raises(InputError, match="no tokens"):
        engine.admit(Request(1, [], SearchConfig()))
    assert engine.idle


def test_a_network_of_nonsense_is_reported() -> None:
    network = TableNetwork(vocab_size=9)
    network.table.fill_(torch.nan)
    with pytest.raises(CheckpointError, match="not numbers"):
        translate(network, [5, 6])
