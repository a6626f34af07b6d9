"""The engine compared with slow obvious searches, and the settings of requests."""

import random
from typing import Any

import pytest
import torch

from model.decoding.engine import Engine
from model.decoding.forced_scoring import score_targets
from model.decoding.request import SegmentRequest
from model.decoding.search_config import SearchConfig
from model.errors import CheckpointError, InputError
from model.inference.packed_network import PackedNetwork
from model.inference.shortlist import Shortlist
from model.network.batch import SourceBatch
from model.text.tokenizer import BOS, EOS
from tests.model.decoding.engines import (
    NETWORKS,
    VOCAB,
    engine_of,
    network_of,
    run,
    some_shortlist,
    source,
    translate,
)
from tests.model.decoding.reference_search import TableNetwork, every_translation, slow_beam_search
from tests.slow_step import slow_step


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
        requests.append(SegmentRequest(request_id, source(randomly, 6, vocab=12), search))
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
    packed = PackedNetwork(network, "fp32")
    for seed in range(5):
        source_ids = source(random.Random(seed))
        (found,) = translate(packed, source_ids, beam_size=1)
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
    packed = PackedNetwork(network_of(choices), "fp32")
    randomly = random.Random(0)
    for _ in range(3):
        source_ids = source(randomly)
        found = translate(packed, source_ids, beam_size=4, n_best=4)
        scores = score_targets(packed, [(source_ids, hypothesis.token_ids) for hypothesis in found])
        for hypothesis, forced in zip(found, scores, strict=True):
            assert sum(hypothesis.token_log_probs) == pytest.approx(hypothesis.log_prob, abs=1e-4)
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


@pytest.mark.parametrize("shortlist", [None, some_shortlist(VOCAB)], ids=["whole", "shortlist"])
def test_a_target_begins_with_its_prefix_and_is_scored_like_any(
    shortlist: Shortlist | None,
) -> None:
    network = PackedNetwork(network_of({"cell": "gru"}), "fp32")
    source_ids, prefix = [7, 8, 9], [40, 41, 42]
    request = SegmentRequest(1, source_ids, SearchConfig(beam_size=3, n_best=3), prefix_ids=prefix)
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
    found = run(Engine(network), [SegmentRequest(1, [5], limits, prefix_ids=[4, 5, 6])])[1]
    assert len(found[0].token_ids) == 5


def test_pieces_outside_the_shortlist_are_never_chosen() -> None:
    network = network_of({"cell": "gru"})
    nothing = torch.zeros(VOCAB, 1, dtype=torch.int32)
    shortlist = Shortlist(nothing, torch.tensor([20, 30], dtype=torch.int32))
    request = SegmentRequest(1, [7, 8], SearchConfig(beam_size=4, n_best=4))
    for hypothesis in run(engine_of(network, shortlist=shortlist), [request])[1]:
        assert set(hypothesis.token_ids) <= {20, 30}


@pytest.mark.parametrize("beam_size", [1, 3])
def test_hypotheses_cut_at_the_limit_are_marked(beam_size: int) -> None:
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
        engine.submit(SegmentRequest(1, [5] * 5, SearchConfig()))
    with pytest.raises(InputError, match="no tokens"):
        engine.submit(SegmentRequest(1, [], SearchConfig()))
    assert engine.idle


def test_a_network_that_returns_nan_is_reported() -> None:
    network = TableNetwork(vocab_size=9)
    network.table.fill_(torch.nan)
    with pytest.raises(CheckpointError, match="NaN"):
        translate(network, [5, 6])
