"""Latency measurements against a fake translator and a fake clock: every latency is known."""

import itertools
import statistics
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from model.decoding.search_config import SearchConfig
from model.translation import Translation
from service.bench.latency import (
    NUM_LONG,
    LatencySummary,
    of_words,
    one_by_one,
    percentile,
    short_beside_long,
)
from service.bench.open_loop import open_loop, poisson_arrivals

SEARCH = cast(SearchConfig, None)


@dataclass
class Queue:
    """A translator that handles one text at a time, in order of arrival.

    A text takes `service_s`, or `long_s` if it has more than ten words. Time passes only in `step`
    and `sleep`. If `waits`, a step lasts until a text finishes, as it does where a translator waits
    for other threads; otherwise it lasts `turn_s`.
    """

    service_s: float
    long_s: float = 0.0
    waits: bool = False
    turn_s: float = 0.001
    now: float = 0.0
    in_flight: dict[int, float] = field(default_factory=dict)  # ticket -> seconds of work left
    num_added: int = 0
    cancelled: list[int] = field(default_factory=list)
    most_at_once: int = 0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert not self.in_flight
        self.now += seconds

    def add(self, text: str, search: SearchConfig | None = None) -> int:
        self.num_added += 1
        work = self.long_s if len(text.split()) > 10 else self.service_s
        self.in_flight[self.num_added] = work
        self.most_at_once = max(self.most_at_once, len(self.in_flight))
        return self.num_added

    def step(self, timeout_s: float | None = None) -> list[tuple[int, Translation]]:
        ticket = next(iter(self.in_flight))
        passes = self.in_flight[ticket] if self.waits else self.turn_s
        if timeout_s is not None and self.waits:
            passes = min(passes, timeout_s)
        self.now += passes
        self.in_flight[ticket] -= passes
        if self.in_flight[ticket] > 1e-9:
            return []
        del self.in_flight[ticket]
        return [(ticket, cast(Translation, None))]

    def cancel(self, ticket: int) -> None:
        del self.in_flight[ticket]
        self.cancelled.append(ticket)


def drive(queue: Queue, rate_per_s: float, seconds: float) -> Any:
    return open_loop(
        queue, ["a", "b"], rate_per_s, seconds, SEARCH, clock=queue.clock, sleep=queue.sleep
    )


def test_percentiles_by_hand() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert [percentile(values, percent) for percent in (50, 90, 99, 100)] == [50, 90, 99, 100]
    assert percentile([7.0], 99) == 7
    assert LatencySummary.of([0.004, 0.002]) == LatencySummary(2, 2.0, 4.0, 4.0, 4.0, 4.0)


def test_arrivals_are_a_poisson_process_and_always_the_same() -> None:
    arrivals = poisson_arrivals(50, 400)
    assert arrivals == poisson_arrivals(50, 400)
    assert arrivals == sorted(arrivals)
    assert 0 < arrivals[0] < arrivals[-1] < 400
    gaps = [after - before for before, after in itertools.pairwise(arrivals)]
    # 20,000 exponential gaps: mean and deviation are both 1 / rate.
    assert statistics.fmean(gaps) == pytest.approx(1 / 50, rel=0.03)
    assert statistics.stdev(gaps) == pytest.approx(1 / 50, rel=0.03)
    assert poisson_arrivals(0.001, 1) == [0.0]  # never none


@pytest.mark.parametrize("waits", [False, True])
def test_latency_counts_from_the_arrival_and_includes_the_queue(waits: bool) -> None:
    service_s, seconds = 0.08, 20.0
    found = drive(Queue(service_s, waits=waits), 10, seconds)
    free_at, expected = 0.0, []  # one server, first come, first served
    for arrival in poisson_arrivals(10, seconds):
        free_at = max(free_at, arrival) + service_s
        expected.append(free_at - arrival)
    summary = LatencySummary.of(expected)
    assert found.latency.num_requests == len(expected)
    for field_name in ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "max_ms"):
        # A text that arrives during a step is added after it: up to `turn_s` later each.
        expected_ms = getattr(summary, field_name)
        assert getattr(found.latency, field_name) == pytest.approx(expected_ms, abs=25)
    assert found.latency.max_ms > 2000 * service_s  # there was a queue
    assert found.achieved_per_s == pytest.approx(len(expected) / free_at, rel=0.01)
    assert found.num_unanswered == 0


def test_an_overloaded_translator_shows_its_queue_and_its_own_speed() -> None:
    queue = Queue(service_s=0.1, waits=True)
    found = drive(queue, 20, 10.0)  # can do 10 a second
    num_arrivals = len(poisson_arrivals(20, 10.0))
    assert found.achieved_per_s == pytest.approx(10, rel=0.02)
    assert found.queue_at_end == pytest.approx(num_arrivals - 100, abs=2)
    assert found.num_unanswered == pytest.approx(max(num_arrivals - 200, 0), abs=3)
    assert found.latency.num_requests == num_arrivals  # the unanswered ones count as well
    assert found.latency.p99_ms > 5000
    assert not queue.in_flight


def test_a_request_without_an_answer_is_cancelled_and_counts_with_its_age() -> None:
    queue = Queue(service_s=1000.0, waits=True)
    found = drive(queue, 5, 2.0)
    arrivals = poisson_arrivals(5, 2.0)
    assert found.num_unanswered == found.queue_at_end == len(arrivals) == len(queue.cancelled)
    assert found.achieved_per_s == 0
    assert found.latency.max_ms == pytest.approx(1000 * (4.0 - arrivals[0]))
    assert not queue.in_flight


def test_one_by_one_sends_one_text_at_a_time() -> None:
    queue = Queue(0.01, long_s=0.05, waits=True)
    found = one_by_one(queue, ["short", "long " * 20, "short"], SEARCH, clock=queue.clock)
    assert queue.most_at_once == 1
    assert found.num_requests == 3
    assert found.p50_ms == pytest.approx(10)
    assert found.max_ms == pytest.approx(50)


def test_long_requests_are_always_beside_the_short_ones() -> None:
    queue = Queue(0.01, long_s=0.02, waits=True)
    sentences = ["one two three four five six seven eight."] * 30
    found = short_beside_long(queue, sentences, SEARCH, 4.0, clock=queue.clock)
    assert found.alone.p50_ms == pytest.approx(10)
    # First come, first served: a short one waits for all of the long ones.
    assert found.beside.p50_ms == pytest.approx(1000 * (NUM_LONG * 0.02 + 0.01))
    assert queue.most_at_once == NUM_LONG + 1
    assert found.alone.num_requests == pytest.approx(2.0 / 0.01, abs=1)
    assert not queue.in_flight


def test_requests_have_the_given_number_of_words() -> None:
    sentences = ["A b c d e f g h.", "One two three.", "Four five six seven!"]
    assert of_words(sentences, 6) == ["A b c d e f", "One two three Four five six"]
    (long,) = of_words(sentences, 13)
    assert long == "A b c d e f g h One two three Four five"
    (repeated,) = of_words(["a b.", "c d."], 7)
    assert repeated == "a b c d a b c"
    assert of_words(["我们有三个苹果和梨。", "他在家。"], 3) == ["我们有三个苹"]
