"""Clients disconnect before they have an answer: the model must stop working for them."""

import asyncio
import time
from dataclasses import dataclass

from model.errors import InputError
from service.bench.latency import LatencySummary
from tests.load.client import Connections, Sentences, bodies, body_of, closed_loop
from tests.load.http_load import translate_request
from tests.load.server_process import Served

_TEXTS = 20  # in each request
_CONNECTED_S = 0.2
_GIVE_UP_S = 60.0
_IDLE_S = 5.0


@dataclass(frozen=True)
class AbandonedReport:
    """Latency before and after, and how long the service worked for disconnected clients."""

    clients: int
    texts_waiting_at_disconnect: int
    seconds_until_idle: float
    texts_cancelled: int
    alone_before: LatencySummary  # one client, one sentence
    alone_after: LatencySummary


async def abandoned(
    service: Served, sentences: Sentences, model: str, *, clients: int
) -> AbandonedReport:
    """Sends a request from every client at once and disconnects all clients 0.2 s later."""
    single = bodies(sentences, 1, model)
    async with Connections(service.address) as connections:
        await closed_loop(connections, single, 1, _IDLE_S)
        before = await closed_loop(connections, single, 1, _IDLE_S)
        cancelled_before = service.metrics()["dragoman_cancelled_texts_total"]
        writers = []
        for _ in range(clients):
            _, writer = await asyncio.open_connection(*service.address)
            writers.append(writer)
        for writer in writers:
            body = body_of(sentences.new(_TEXTS), model)
            writer.write(translate_request(service.address[0], body))
        await asyncio.sleep(_CONNECTED_S)
        waiting = service.metrics()["dragoman_waiting_texts"]
        if not waiting:
            raise InputError(
                f"no text was waiting when the clients disconnected after {_CONNECTED_S} s; "
                f"use more --clients"
            )
        started = time.perf_counter()
        for writer in writers:
            writer.close()
        while _busy(service) and time.perf_counter() - started < _GIVE_UP_S:
            await asyncio.sleep(0.01)
        until_idle = time.perf_counter() - started
        after = await closed_loop(connections, single, 1, _IDLE_S)
        cancelled = service.metrics()["dragoman_cancelled_texts_total"] - cancelled_before
    return AbandonedReport(
        clients,
        int(waiting),
        until_idle,
        int(cancelled),
        LatencySummary.of([reply.seconds for reply in before]),
        LatencySummary.of([reply.seconds for reply in after]),
    )


def _busy(service: Served) -> bool:
    metrics = service.metrics()
    return metrics["dragoman_waiting_texts"] > 0 or metrics["dragoman_slots_busy"] > 0
