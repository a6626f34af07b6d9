"""The client of the load tests, against a fake server."""

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from tests.load.client import (
    Connections,
    Reply,
    Sentences,
    bodies,
    closed_loop,
    open_loop,
    statuses,
)
from tests.tiny_checkpoint import ENGLISH

NUMBERED = [b'{"text": "%d"}' % number for number in range(1000)]


def test_new_sentences_never_repeat_but_known_ones_do() -> None:
    sentences = Sentences(ENGLISH[:3])
    new = [text for _ in range(200) for text in sentences.new(5)]
    assert len(set(new)) == 1000
    assert set(sentences.known(100)) == set(ENGLISH[:3])


def test_a_text_has_the_requested_size() -> None:
    sentences = Sentences(ENGLISH[:3])
    assert [len(sentences.text(size)) for size in (1, 40, 1234)] == [1, 40, 1234]


def test_a_body_holds_the_requested_number_of_texts() -> None:
    body = json.loads(next(bodies(Sentences(ENGLISH[:3]), 4, "demo")))
    assert body["model"] == "demo"
    assert len(set(body["text"])) == 4


class FakeServer:
    """A server that gives these answers (status and header fields); None: it disconnects."""

    def __init__(self, answers: Iterator[bytes | None], answer_s: float = 0.0) -> None:
        self.bodies: list[bytes] = []
        self.num_connections = 0
        self._answers = answers
        self._answer_s = answer_s

    def run(self, work: Callable[[Connections], Awaitable[list[Reply]]]) -> list[Reply]:
        async def run() -> list[Reply]:
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()[:2]
            async with server, Connections(address) as connections:
                return await work(connections)

        return asyncio.run(run())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
                self.bodies.append(await reader.readexactly(length))
                await asyncio.sleep(self._answer_s)
                answer = next(self._answers)
                if answer is None:
                    break
                writer.write(b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\n{}" % answer)
                if answer.endswith(b"close"):
                    break
        except asyncio.IncompleteReadError:
            pass
        writer.close()


def test_a_closed_loop_waits_for_each_answer() -> None:
    fake = FakeServer(itertools.repeat(b"200 OK"), answer_s=0.02)
    replies = fake.run(lambda connections: closed_loop(connections, iter(NUMBERED), 3, 0.2))
    assert statuses(replies) == {"200": len(replies)}
    assert 3 <= len(replies) <= 3 * 11
    assert fake.num_connections == 3
    assert fake.bodies == NUMBERED[: len(replies)]
    assert min(reply.seconds for reply in replies) >= 0.02


def test_an_open_loop_does_not_wait_and_counts_from_the_planned_arrival() -> None:
    fake = FakeServer(itertools.repeat(b"200 OK"), answer_s=0.3)
    started = time.perf_counter()
    replies = fake.run(lambda connections: open_loop(connections, iter(NUMBERED), 100, 0.3))
    assert time.perf_counter() - started < 2
    assert 15 <= len(replies) <= 50
    assert fake.num_connections == len(replies)  # none was free when the next request was due
    assert fake.bodies == NUMBERED[: len(replies)]
    assert min(reply.seconds for reply in replies) >= 0.3


def test_errors_and_broken_connections_are_replies_too() -> None:
    answers = [
        b"200 OK",
        b"429 Too Many Requests\r\nRetry-After: 3",
        b"503 Service Unavailable\r\nRetry-After: soon",
        b"200 OK\r\nConnection: close",
        None,
        b"200 OK",
    ]

    async def six(connections: Connections) -> list[Reply]:
        return [await connections.send(NUMBERED[number]) for number in range(6)]

    fake = FakeServer(iter(answers))
    replies = fake.run(six)
    assert [reply.status for reply in replies] == [200, 429, 503, 200, 0, 200]
    assert [reply.retry_after for reply in replies] == [False, True, False, False, False, False]
    assert fake.num_connections == 3


def test_the_connection_of_a_cancelled_request_is_not_used_again() -> None:
    async def impatient(connections: Connections) -> list[Reply]:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connections.send(NUMBERED[0]), 0.05)
        return [await connections.send(NUMBERED[1])]

    fake = FakeServer(itertools.repeat(b"200 OK"), answer_s=0.1)
    assert statuses(fake.run(impatient)) == {"200": 1}
    assert fake.num_connections == 2
