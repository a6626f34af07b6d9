"""Ends work at a request's deadline, or when its client disconnects."""

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request

from service.errors import ClientGone, DeadlineExceeded
from service.limits import DEADLINE_HEADER, Limits, deadline_exceeded
from service.request_context import context_of

Result = TypeVar("Result")


@dataclass(frozen=True)
class Deadline:
    """The time by which a request has to be answered."""

    seconds: float  # since the request was read
    until: float  # on the monotonic clock

    @classmethod
    def of(cls, request: Request, limits: Limits) -> "Deadline":
        """The request's deadline, counted from now: the setting, or less if the client asks so.

        Raises InvalidRequest for a header that is not a number of seconds.
        """
        seconds = limits.deadline_s(request.headers.get(DEADLINE_HEADER))
        return cls(seconds, time.monotonic() + seconds)

    @property
    def left_s(self) -> float:
        """Seconds until the deadline, rounded to milliseconds for messages."""
        return round(self.until - time.monotonic(), 3)

    def exceeded(self) -> DeadlineExceeded:
        """The error of a request that was not answered in time."""
        return deadline_exceeded(self.seconds)


async def gather_or_cancel(work: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    """The results of all coroutines; when one fails, the others are cancelled."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def unless_disconnected(
    request: Request, work: Coroutine[Any, Any, Result], stage: str = "wait and decode"
) -> Result:
    """The result of `work`, which is cancelled when the client disconnects; raises ClientGone.

    `stage` is its name in the request's trace.
    """
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_disconnected(request))
    try:
        with context_of(request.scope).stage(stage):
            await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone("the client disconnected before the answer")
    finally:
        for task in (working, watching):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue  # uvicorn may repeat the end of the body
