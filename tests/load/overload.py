"""Sends more requests than the service can answer: goodput must hold, the rest be refused."""

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import mean

from model.errors import InputError
from service.bench.latency import LatencySummary
from tests.load.client import (
    Connections,
    Reply,
    Sentences,
    bodies,
    closed_loop,
    statuses,
)
from tests.load.client import open_loop as send_openly
from tests.load.server_process import Served, memory_samples

_CLIENTS, _SENTENCES = 64, 512  # in flight at most while the capacity is measured
_WARM_UP_S = 5.0
_CAPACITY_S = 20.0
_REST_S = 2.0


@dataclass(frozen=True)
class Overload:
    """Goodput, latency of answers and refusals, and memory under overload."""

    texts_per_request: int
    # Measured with at most 64 clients before and after the overload: a virtual machine that is kept
    # busy for a minute may be slower by a sixth.
    capacity_per_s: tuple[float, float]
    offered_per_s: float
    seconds: float
    goodput_per_s: float  # answers per second while requests were sent
    goodput_of_capacity: float
    statuses: dict[str, int]
    refusals_without_retry_after: int
    accepted: LatencySummary | None
    refused: LatencySummary | None
    refused_once_sent: LatencySummary | None  # the client's own delay in sending not counted
    memory_mb: tuple[float, float, float, float]  # before, after a third, peak, at the end


async def overload(
    service: Served, sentences: Sentences, model: str, *, factor: float, seconds: float, texts: int
) -> Overload:
    """Measures the capacity, then offers `factor` times as much."""
    new = bodies(sentences, texts, model)
    clients = max(1, min(_CLIENTS, _SENTENCES // texts))  # the service would refuse more
    async with Connections(service.address) as connections:
        capacity = await _capacity(connections, new, clients)
        offered = factor * capacity
        print(f"capacity {capacity:.1f}/s, {offered:.1f}/s for {seconds:g} s", file=sys.stderr)
        before_mb = service.memory_mb()
        samples: list[float] = []
        watching = asyncio.create_task(memory_samples(service, 1.0, samples))
        replies = await send_openly(connections, new, offered, seconds)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await asyncio.sleep(_REST_S)
        after_mb = service.memory_mb()
        capacities = capacity, await _capacity(connections, new, clients)
    answered = _answered(replies)
    goodput = sum(reply.ended_s < seconds for reply in answered) / seconds
    refused = [reply for reply in replies if reply.status in (429, 503)]
    return Overload(
        texts_per_request=texts,
        capacity_per_s=capacities,
        offered_per_s=len(replies) / seconds,
        seconds=seconds,
        goodput_per_s=goodput,
        goodput_of_capacity=goodput / mean(capacities),
        statuses=statuses(replies),
        refusals_without_retry_after=sum(not reply.retry_after for reply in refused),
        accepted=_summary(answered),
        refused=_summary(refused),
        refused_once_sent=LatencySummary.of([reply.sent_s for reply in refused])
        if refused
        else None,
        memory_mb=(
            before_mb,
            samples[len(samples) // 3] if samples else before_mb,
            max([before_mb, *samples]),
            after_mb,
        ),
    )


async def _capacity(connections: Connections, new: Iterator[bytes], clients: int) -> float:
    """Returns the requests answered per second with `clients` clients. InputError: none was."""
    until_s = _WARM_UP_S + _CAPACITY_S
    replies = await closed_loop(connections, new, clients, until_s)
    # The clients are busy before and after: only answers in between count.
    answered = sum(_WARM_UP_S < reply.ended_s < until_s for reply in _answered(replies))
    if not answered:
        raise InputError(
            f"the service translated nothing, even without overload; statuses: {statuses(replies)}"
        )
    return answered / _CAPACITY_S


def _answered(replies: list[Reply]) -> list[Reply]:
    return [reply for reply in replies if reply.status == 200]


def _summary(replies: list[Reply]) -> LatencySummary | None:
    return LatencySummary.of([reply.seconds for reply in replies]) if replies else None
