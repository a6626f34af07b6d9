"""The load generator against a service of a few lines."""

import asyncio

import pytest

from model.errors import InputError
from tests.load.http_load import HttpLoad, send_all


async def send_to_fake(
    status: bytes, bodies: list[bytes], num_clients: int
) -> tuple[HttpLoad, set[bytes]]:
    seen: set[bytes] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
            seen.add(await reader.readexactly(length))
            writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 2\r\n\r\n{}")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        return await send_all(server.sockets[0].getsockname()[:2], bodies, num_clients), seen


def test_every_sentence_is_sent_once_and_timed() -> None:
    bodies = [b'{"text": "%d"}' % number for number in range(50)]
    report, seen = asyncio.run(send_to_fake(b"200 OK", bodies, num_clients=7))
    assert seen == set(bodies)
    assert report.num_clients == 7
    assert report.latency.num_requests == 50
    assert report.requests_per_s == pytest.approx(50 / report.seconds)


def test_an_error_ends_the_load_test() -> None:
    with pytest.raises(InputError, match="429"):
        asyncio.run(send_to_fake(b"429 Too Many Requests", [b"{}"], num_clients=1))
