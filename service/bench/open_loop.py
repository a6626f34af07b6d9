"""Measures latency at a fixed arrival rate (open loop), the time in the queue included.

In a closed loop each client waits for its answer, so a slow service slows its own clients down and
looks better than it is. Here the arrival times are fixed beforehand, and a request's latency counts
from its arrival, even if the translator was busy then.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from model.decoding.search_config import SearchConfig
from service.bench.latency import LatencySummary, StepTranslator

_SEED = 1


@dataclass(frozen=True)
class OpenLoop:
    """Results at one arrival rate. Percentiles are over all requests.

    A request without an answer counts with its age at the end of the measurement, which is less
    than the time that it would have taken.
    """

    rate_per_s: float  # offered: the mean of the Poisson process
    seconds: float  # requests arrive for this long
    achieved_per_s: float  # answers per second, from the start to the last answer
    queue_at_end: int  # requests without an answer after `seconds`
    num_unanswered: int  # requests without an answer after 2 * `seconds`
    latency: LatencySummary


def poisson_arrivals(rate_per_s: float, seconds: float) -> list[float]:
    """Returns arrival times within `seconds`, in order, at least one; the same at every call."""
    generator = random.Random(_SEED)
    arrivals: list[float] = []
    moment = generator.expovariate(rate_per_s)
    while moment < seconds:
        arrivals.append(moment)
        moment += generator.expovariate(rate_per_s)
    return arrivals or [0.0]


def open_loop(
    translator: StepTranslator,
    texts: Sequence[str],
    rate_per_s: float,
    seconds: float,
    search: SearchConfig,
    *,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> OpenLoop:
    """Sends the texts in turn for `seconds`, waits as long again for answers, cancels the rest.

    One thread does everything: between two steps it adds the requests that are due. The translator
    must be idle, and is idle again afterwards.
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
