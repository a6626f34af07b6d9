"""Sends very many requests, some invalid, some abandoned: memory and open files must not grow."""

import asyncio
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.load.client import Connections, Sentences, body_of
from tests.load.http_load import translate_request
from tests.load.server_process import Served

_SEED = 1
_BAD, _ABANDONED, _KNOWN = 0.01, 0.02, 0.25  # shares of all requests, the first two cumulative


@dataclass(frozen=True)
class State:
    """Memory and open files of the service at one time."""

    after_s: float
    requests: int
    memory_mb: float
    descriptors: int


@dataclass
class Soak:
    """Counts of requests, and the growth of the service's memory."""

    clients: int
    requests: int = 0
    seconds: float = 0.0
    statuses: dict[str, int] = field(default_factory=dict)
    abandoned: int = 0
    growth_mb: float = 0.0  # from the end of the warm-up to the end
    states: list[State] = field(default_factory=list)


async def soak(
    service: Served,
    sentences: Sentences,
    model: str,
    *,
    clients: int,
    requests: int,
    seconds: float,
    warm_up: int,
    state_every_s: float,
) -> Soak:
    """Sends `requests` requests or sends for `seconds`, whichever ends first; prints its progress.

    Growth counts from the state after `warm_up` requests, when every part has been used once.
    """
    randomly = random.Random(_SEED)
    report = Soak(clients)
    statuses: Counter[str] = Counter()
    async with Connections(service.address) as connections:
        started = time.perf_counter()

        async def client() -> None:
            while report.requests < requests and time.perf_counter() - started < seconds:
                report.requests += 1
                kind = randomly.random()
                known = randomly.random() < _KNOWN
                texts = sentences.known(1) if known else sentences.new(1)
                if kind < _BAD:
                    reply = await connections.send(b'{"text": 5}')
                elif kind < _ABANDONED:
                    await _abandon(service, body_of(texts, model))
                    report.abandoned += 1
                    continue
                else:
                    reply = await connections.send(body_of(texts, model))
                statuses[str(reply.status)] += 1

        async def watch() -> None:
            while True:
                state = await asyncio.to_thread(_state, service, started, report.requests)
                report.states.append(state)
                print(state, file=sys.stderr, flush=True)
                await asyncio.sleep(state_every_s)

        watching = asyncio.create_task(watch())
        await asyncio.gather(*(client() for _ in range(clients)))
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    report.seconds = time.perf_counter() - started
    report.states.append(_state(service, started, report.requests))
    report.statuses = dict(statuses)
    warm = next((each for each in report.states if each.requests >= warm_up), report.states[-1])
    report.growth_mb = round(report.states[-1].memory_mb - warm.memory_mb, 1)
    return report


async def _abandon(service: Served, body: bytes) -> None:
    _, writer = await asyncio.open_connection(*service.address)
    writer.write(translate_request(service.address[0], body))
    await asyncio.sleep(0.01)
    writer.close()


def _state(service: Served, started: float, requests: int) -> State:
    usage = service.usage()
    seconds = round(time.perf_counter() - started, 1)
    return State(seconds, requests, usage.memory_mb, usage.descriptors)
