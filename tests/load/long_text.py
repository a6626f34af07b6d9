"""One very long text beside short ones: those who send the short ones must not notice much."""

import asyncio
from dataclasses import dataclass

from service.bench.open_loop import LatencySummary
from tests.load.client import (
    Connections,
    Reply,
    Sentences,
    bodies,
    body_of,
    open_loop,
    statuses,
)
from tests.load.server_process import Served

_WARM_UP_S = 5.0
_PAUSE_S = 0.5


@dataclass(frozen=True)
class LongText:
    """What came of it."""

    num_characters: int  # of the long text
    short_per_s: float
    alone: LatencySummary  # of the short ones
    beside: LatencySummary
    p99_ratio: float
    long_seconds: list[float]  # each long text that was sent, one behind the other
    long_statuses: dict[str, int]
    short_statuses: dict[str, int]


async def long_text(
    service: Served,
    sentences: Sentences,
    model: str,
    *,
    num_characters: int,
    short_per_s: float,
    seconds: float,
) -> LongText:
    """Short ones alone for so many seconds, then as long beside long ones."""
    short = bodies(sentences, 1, model)
    async with Connections(service.address) as connections:
        await open_loop(connections, short, short_per_s, _WARM_UP_S)
        alone = await open_loop(connections, short, short_per_s, seconds)
        long_ones: list[Reply] = []

        async def keep_sending() -> None:
            while True:
                body = body_of(sentences.text(num_characters), model)
                long_ones.append(await connections.send(body))
                await asyncio.sleep(_PAUSE_S)

        sending = asyncio.create_task(keep_sending())
        beside = await open_loop(connections, short, short_per_s, seconds)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    short_alone = LatencySummary.of([reply.seconds for reply in alone])
    short_beside = LatencySummary.of([reply.seconds for reply in beside])
    return LongText(
        num_characters,
        short_per_s,
        short_alone,
        short_beside,
        short_beside.p99_ms / short_alone.p99_ms,
        [round(reply.seconds, 2) for reply in long_ones],
        statuses(long_ones),
        statuses(alone + beside),
    )
