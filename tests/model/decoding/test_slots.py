"""Slots of the engine: the order in which requests get, free and wait for them."""

from model.decoding.engine import Engine
from model.decoding.request import SegmentRequest
from model.decoding.search_config import SearchConfig
from tests.model.decoding.engines import engine_of, run
from tests.model.decoding.reference_search import TableNetwork


def test_a_short_sentence_overtakes_a_long_one_but_not_for_ever() -> None:
    network = TableNetwork(vocab_size=9, end_bias=-100.0)
    engine = Engine(network, max_slots=1)

    def request(number: int, length: int) -> SegmentRequest:
        limits = SearchConfig(beam_size=1, max_length_ratio=0.0, max_length_extra=1)
        return SegmentRequest(number, [5] * length, limits)

    for number in range(200):  # more than are encoded ahead
        engine.submit(request(number, 30))
    engine.step()
    engine.submit(request(1000, 2))
    order = []
    for number in range(300):
        if not engine.idle:
            order += [done.request_id for done in engine.step()]
        engine.submit(request(2000 + number, 2))
    assert order.index(1000) < order.index(199)
    assert 199 in order
    latecomers = [order.index(number) for number in order if number > 2000 + 40]
    assert latecomers
    assert order.index(199) < min(latecomers)


def test_bulk_requests_come_after_all_other_requests() -> None:
    engine = Engine(TableNetwork(vocab_size=9, end_bias=-100.0), max_slots=1)
    settings = SearchConfig(beam_size=1, max_length_ratio=0.0, max_length_extra=1)
    for number in range(200):  # more than are encoded ahead
        engine.submit(SegmentRequest(number, [5], settings, bulk=True))
    order = [done.request_id for done in engine.step()]
    engine.submit(SegmentRequest(1000, [5] * 20, settings))
    while not engine.idle:
        order += [done.request_id for done in engine.step()]
    assert order.index(1000) < 40
    assert len(order) == 201


def test_a_short_sentence_leaves_while_a_long_one_goes_on() -> None:
    network = TableNetwork(vocab_size=9, end_bias=-100.0)

    def request(request_id: int, length: int) -> SegmentRequest:
        search = SearchConfig(beam_size=2, max_length_ratio=0.0, max_length_extra=length)
        return SegmentRequest(request_id, [5, 6], search)

    engine = engine_of(network, max_slots=2)
    for request_id, length in enumerate([10, 3, 4, 1]):
        engine.submit(request(request_id, length))
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
        engine.submit(
            SegmentRequest(request_id, [5], SearchConfig(1 + request_id % 2, max_length_extra=0))
        )
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
        engine.submit(SegmentRequest(request_id, [5], SearchConfig()))
    engine.step()
    for request_id in range(3):
        engine.cancel(request_id)
    assert engine.step() == []
    assert engine.idle
