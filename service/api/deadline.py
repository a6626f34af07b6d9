"""Ends work at a request's deadline, or when its client disconnects."""

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import Request

from service.errors import (
    ClientGone,
    DeadlineExceeded,
)
from service.serving.served_model import too_late

if TYPE_CHECKING:
    pass


Result = TypeVar("Result")


DEADLINE_HEADER = "X-Deadline-Seconds"


_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?", re.ASCII)


@dataclass(frozen=True)
class Deadline:
    """When a request is to be answered."""

    seconds: float  # since it came
    until: float  # on the monotonic clock

    @property
    def left_s(self) -> float:
        """How much of it is left; in milliseconds, as messages may tell it."""
        return round(self.until - time.monotonic(), 3)

    def exceeded(self) -> DeadlineExceeded:
        """The refusal of a request that was not answered before it."""
        return too_late(self.seconds)


async def _together(work: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _unless_disconnected(
    request: Request, work: Coroutine[Any, Any, Result], stage: str = "wait and decode"
) -> Result:
    """The result of `work`, which is cancelled when the client goes first."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_disconnected(request))
    try:
        with _stage(request, stage):
            await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone("the client hung up before the answer")
    finally:
        for task in (working, watching):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task


def _stage(request: Request, name: str) -> contextlib.AbstractContextManager[None]:
    """A part of the request's span, where requests are traced (service/monitoring/tracing.py)."""
    stage: Callable[[str], contextlib.AbstractContextManager[None]] = request.scope.get(
        "dragoman.stage", contextlib.nullcontext
    )
    return stage(name)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue  # uvicorn may repeat the end of the body
