"""A client on plain sockets, which uses so little CPU that it hardly changes the measurement."""

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from service.bench.open_loop import poisson_arrivals
from tests.load.http_load import Answer, read_answer, translate_request

_SEED = 1


@dataclass(frozen=True)
class Reply:
    """The outcome of one request."""

    status: int  # 0: the connection broke
    seconds: float  # since the request was sent, or was due
    sent_s: float  # since the request was sent
    retry_after: bool = False
    ended_s: float = 0.0  # since the start of the measurement


class Sentences:
    """Makes sentences that are all different, so that no answer comes from the cache."""

    def __init__(self, lines: Sequence[str]) -> None:
        """Takes the lines, at least one, to make sentences from."""
        self._lines = lines
        self._numbers = itertools.count(1)
        self._randomly = random.Random(_SEED)

    def new(self, count: int) -> list[str]:
        """Returns `count` sentences that no other call returns."""
        return [
            f"{line} {next(self._numbers)}" for line in self._randomly.choices(self._lines, k=count)
        ]

    def known(self, count: int) -> list[str]:
        """Returns `count` random lines, unchanged: the cache may have them."""
        return self._randomly.choices(self._lines, k=count)

    def text(self, num_characters: int) -> str:
        """Returns one text of `num_characters` characters, a sentence per line."""
        lines: list[str] = []
        size = 0
        while size < num_characters:
            lines += self.new(1)
            size += len(lines[-1]) + 1
        return "\n".join(lines)[:num_characters]


def body_of(texts: Sequence[str] | str, model: str) -> bytes:
    """Returns the body of a request."""
    return json.dumps({"text": texts, "model": model}).encode()


def bodies(sentences: Sentences, num_texts: int, model: str) -> Iterator[bytes]:
    """Yields bodies of requests without end, with `num_texts` new sentences in each."""
    while True:
        yield body_of(sentences.new(num_texts), model)


class Connections:
    """A pool of kept-alive connections to one address; it grows when none is free.

    A context manager: at its end the free connections are closed.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._free: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = deque()

    async def __aenter__(self) -> "Connections":
        return self

    async def __aexit__(self, *error: object) -> None:
        while self._free:
            _, writer = self._free.pop()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def ask(self, body: bytes) -> Answer:
        """Sends a request on a free or new connection. OSError, EOFError: the connection broke."""
        while self._free:
            reader, writer = self._free.pop()
            # The service closes connections that were idle for some seconds.
            if not (reader.at_eof() or writer.is_closing()):
                break
            writer.close()
        else:
            reader, writer = await asyncio.open_connection(*self._address)
        keep = False
        try:
            writer.write(translate_request(self._address[0], body))
            answer = await read_answer(reader)
            keep = answer.fields.get("connection") != "close"
        finally:  # also when the caller was cancelled
            if keep:
                self._free.append((reader, writer))
            else:
                writer.close()
        return answer

    async def send(self, body: bytes) -> Reply:
        """Sends a request and returns its status and times."""
        started = time.perf_counter()
        try:
            answer = await self.ask(body)
        except (OSError, EOFError):
            seconds = time.perf_counter() - started
            return Reply(0, seconds, seconds)
        seconds = time.perf_counter() - started
        has_retry_after = answer.fields.get("retry-after", "").isdigit()
        return Reply(answer.status, seconds, seconds, has_retry_after)


async def closed_loop(
    connections: Connections, bodies: Iterator[bytes], num_clients: int, seconds: float
) -> list[Reply]:
    """Runs clients for `seconds`; each sends its next request when it has an answer."""
    replies: list[Reply] = []
    started = time.perf_counter()

    async def client() -> None:
        while time.perf_counter() - started < seconds:
            reply = await connections.send(next(bodies))
            replies.append(replace(reply, ended_s=time.perf_counter() - started))

    await asyncio.gather(*(client() for _ in range(num_clients)))
    return replies


async def open_loop(
    connections: Connections, bodies: Iterator[bytes], rate_per_s: float, seconds: float
) -> list[Reply]:
    """Sends requests at random times (a Poisson process) for `seconds`; waits for all answers.

    Latency counts from the time when a request was due, so it includes any delay in sending it.
    """
    arrivals = poisson_arrivals(rate_per_s, seconds)
    made = list(itertools.islice(bodies, len(arrivals)))  # before the measurement
    requests = []
    started = time.perf_counter()

    async def request(due: float, body: bytes) -> Reply:
        reply = await connections.send(body)
        now_s = time.perf_counter() - started
        return replace(reply, seconds=now_s - due, ended_s=now_s)

    for due, body in zip(arrivals, made, strict=True):
        delay = due - (time.perf_counter() - started)
        if delay > 0:
            await asyncio.sleep(delay)
        requests.append(asyncio.create_task(request(due, body)))
    return list(await asyncio.gather(*requests))


def statuses(replies: Sequence[Reply]) -> dict[str, int]:
    """Counts the replies of each status."""
    return dict(Counter(str(reply.status) for reply in replies))
