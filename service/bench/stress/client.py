"""Requests over plain sockets, cheap enough not to be measured along."""

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from service.bench.http_load import translate_request

_SEED = 1


@dataclass(frozen=True)
class Reply:
    """An answer, or what came instead."""

    status: int  # 0: the connection broke
    seconds: float
    retry_after: bool = False


class Sentences:
    """Lists of sentences, no two of them alike, so that nothing is remembered or shared."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = [line.strip() for line in lines if line.strip()]
        self._numbers = itertools.count(1)
        self._randomly = random.Random(_SEED)

    def new(self, count: int) -> list[str]:
        """`count` sentences."""
        return [
            f"{line} {next(self._numbers)}" for line in self._randomly.choices(self._lines, k=count)
        ]

    def known(self, count: int) -> list[str]:
        """`count` of the lines as they are: sooner or later they come again."""
        return self._randomly.choices(self._lines, k=count)

    def text(self, num_characters: int) -> str:
        """One text of so many characters, a sentence a line."""
        lines: list[str] = []
        size = 0
        while size < num_characters:
            lines += self.new(1)
            size += len(lines[-1]) + 1
        return "\n".join(lines)[:num_characters]


def body_of(texts: Sequence[str] | str, model: str) -> bytes:
    """A request's body."""
    return json.dumps({"text": texts, "model": model}).encode()


class Connections:
    """Kept-alive connections to one address; as many as are in use at the same time."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._free: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = deque()

    async def send(self, body: bytes) -> Reply:
        """Sends a request, on a connection that is free or on a new one."""
        started = time.perf_counter()
        while self._free:
            reader, writer = self._free.pop()
            # The service ends connections that nobody uses for some seconds.
            if not (reader.at_eof() or writer.is_closing()):
                self._free.append((reader, writer))
                break
            writer.close()
        pair = None
        try:
            pair = self._free.pop() if self._free else await asyncio.open_connection(*self._address)
            reader, writer = pair
            writer.write(translate_request(self._address[0], body))
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
            fields = dict(line.split(": ", 1) for line in head[1:-2])
            await reader.readexactly(int(fields["content-length"]))
        except (OSError, EOFError):
            if pair is not None:
                pair[1].close()
            return Reply(0, time.perf_counter() - started)
        if fields.get("connection") == "close":
            writer.close()
        else:
            self._free.append(pair)
        seconds = time.perf_counter() - started
        return Reply(int(head[0].split()[1]), seconds, fields.get("retry-after", "").isdigit())

    async def close(self) -> None:
        """Ends those that are not in use."""
        while self._free:
            _, writer = self._free.pop()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def closed_loop(
    connections: Connections, bodies: Iterator[bytes], num_clients: int, seconds: float
) -> list[Reply]:
    """Clients that each send the next request when they have their answer, for so long."""
    replies: list[Reply] = []
    until = time.perf_counter() + seconds

    async def client() -> None:
        while time.perf_counter() < until:
            replies.append(await connections.send(next(bodies)))

    await asyncio.gather(*(client() for _ in range(num_clients)))
    return replies


async def open_loop(
    connections: Connections, bodies: Iterator[bytes], rate_per_s: float, seconds: float
) -> list[Reply]:
    """Requests that come when they come, a Poisson process; all are answered in the end.

    A latency counts from the planned arrival: late sending is the measured system's fault, too.
    """
    randomly = random.Random(_SEED)
    started = time.perf_counter()
    due, requests = 0.0, []

    async def request(due: float) -> Reply:
        reply = await connections.send(next(bodies))
        late_s = time.perf_counter() - started - due
        return Reply(reply.status, late_s, reply.retry_after)

    while (due := due + randomly.expovariate(rate_per_s)) < seconds:
        delay = due - (time.perf_counter() - started)
        if delay > 0:
            await asyncio.sleep(delay)
        requests.append(asyncio.create_task(request(due)))
    return list(await asyncio.gather(*requests))
