"""Requests that come when they come: latency at a given arrival rate, with the queue that it makes.

In a closed loop a slow service slows its own clients down and looks better than it is. Here the
arrivals are fixed beforehand, and a request's latency counts from its arrival, whether or not
anybody had time to look at it then.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from model.decoding.search_config import SearchConfig
from model.translation import Translation

_SEED = 1


class DrivenTranslator(Protocol):
    """What is driven here of model.translator.Translator, or of several that work as one."""

    def add(self, text: str, search: SearchConfig | None = None) -> int: ...

    def step(self, timeout_s: float | None = None) -> list[tuple[int, Translation]]:
        """What has finished; returns after `timeout_s` at the latest, if it waits at all."""

    def cancel(self, ticket: int) -> None: ...


@dataclass(frozen=True)
class LatencySummary:
    """Percentiles of many latencies: the smallest one that so many percent do not exceed."""

    num_requests: int
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, latencies_s: Sequence[float]) -> "LatencySummary":
        """At least one latency, in seconds."""
        times_ms = [1000 * latency for latency in latencies_s]
        return cls(
            len(times_ms), *(percentile(times_ms, percent) for percent in (50, 90, 95, 99, 100))
        )


@dataclass(frozen=True)
class OpenLoop:
    """One arrival rate. Percentiles are over all requests.

    One that was not answered in time counts with its age when the measurement was given up, which
    is less than what it would have waited.
    """

    rate_per_s: float  # offered: the mean of the Poisson process
    seconds: float  # in which requests arrived
    achieved_per_s: float  # answers, from the start to the last of them
    queue_at_end: int  # arrived in these seconds and not answered in them
    num_unanswered: int  # nor in as many seconds afterwards
    latency: LatencySummary


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` percent of the values do not exceed."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[max(int(rank), 1) - 1]


def poisson_arrivals(rate_per_s: float, seconds: float) -> list[float]:
    """Moments within `seconds`, in order, the same at every call; at least one."""
    generator = random.Random(_SEED)
    arrivals: list[float] = []
    moment = generator.expovariate(rate_per_s)
    while moment < seconds:
        arrivals.append(moment)
        moment += generator.expovariate(rate_per_s)
    return arrivals or [0.0]


def open_loop(
    translator: DrivenTranslator,
    texts: Sequence[str],
    rate_per_s: float,
    seconds: float,
    search: SearchConfig,
    *,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> OpenLoop:
    """Offers texts in turn for `seconds`; waits as long again for answers, then cancels the rest.

    One thread does it all: what is due is added between two steps. The translator must be idle, and
    is idle again afterwards.
    """
    arrivals = poisson_arrivals(rate_per_s, seconds)
    arrived_at: dict[int, float] = {}  # by ticket
    answers: list[tuple[float, float]] = []  # moment of the answer, latency
    num_added = 0
    started = clock()
    while num_added < len(arrivals) or arrived_at:
        now = clock() - started
        if now >= 2 * seconds:
            break
        while num_added < len(arrivals) and arrivals[num_added] <= now:
            ticket = translator.add(texts[num_added % len(texts)], search)
            arrived_at[ticket] = arrivals[num_added]
            num_added += 1
        next_event = arrivals[num_added] if num_added < len(arrivals) else 2 * seconds
        wait_s = max(next_event - (clock() - started), 0.0)
        if not arrived_at:
            sleep(wait_s)
            continue
        finished = translator.step(timeout_s=wait_s)
        now = clock() - started
        for ticket, _ in finished:
            arrival = arrived_at.pop(ticket, None)
            if arrival is not None:
                answers.append((now, now - arrival))
    given_up_at = clock() - started
    for ticket in arrived_at:
        translator.cancel(ticket)
    unanswered = [*arrived_at.values(), *arrivals[num_added:]]
    num_in_time = sum(moment <= seconds for moment, _ in answers)
    last_answer = max((moment for moment, _ in answers), default=given_up_at)
    return OpenLoop(
        rate_per_s=rate_per_s,
        seconds=seconds,
        achieved_per_s=len(answers) / (given_up_at if unanswered else last_answer),
        queue_at_end=len(arrivals) - num_in_time,
        num_unanswered=len(unanswered),
        latency=LatencySummary.of(
            [latency for _, latency in answers] + [given_up_at - arrival for arrival in unanswered]
        ),
    )
