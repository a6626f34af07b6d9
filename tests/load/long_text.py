"""Sends a very long text beside short ones: the latency of the short ones must hardly grow."""

import asyncio
from dataclasses import dataclass

from service.bench.latency import LatencySummary
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
    """Latency of short texts without and with a long text in flight."""

    num_characters: int  # of the long text
    short_per_s: float
    alone: LatencySummary  # of short texts
    beside: LatencySummary
    p99_ratio: float
    long_seconds: list[float]  # of each long text, sent one after another
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
    """Sends short texts alone for `seconds`, then for `seconds` beside long ones."""
    short = bodies(sentences, 1, model)
    async with Connections(service.address) as connections:
        await open_loop(connections, short, short_per_s, _WARM_UP_S)
        alone = await open_loop(connections, short, short_per_s, seconds)
        long_replies: list[Reply] = []
        finished = False

        async def keep_sending() -> None:
            while not finished:
                body = body_of(sentences.text(num_characters), model)
                long_replies.append(await connections.send(body))
                await asyncio.sleep(_PAUSE_S)

        sending = asyncio.create_task(keep_sending())
        beside = await open_loop(connections, short, short_per_s, seconds)
        finished = True
        await sending  # the last long text is answered after the last short one
    short_alone = LatencySummary.of([reply.seconds for reply in alone])
    short_beside = LatencySummary.of([reply.seconds for reply in beside])
    return LongText(
        num_characters,
        short_per_s,
        short_alone,
        short_beside,
        short_beside.p99_ms / short_alone.p99_ms,
        [round(reply.seconds, 2) for reply in long_replies],
        statuses(long_replies),
        statuses(alone + beside),
    )
