"""Sends sentences to a running service from many clients, each one after its last answer.

    python -m tests.load.http_load http://127.0.0.1:8000 --model demo --source test.en

Requests are written to plain sockets: a full HTTP client would use as much CPU as the service.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from model.errors import InputError
from model.text.text_file import read_lines
from service.bench.latency import LatencySummary


@dataclass(frozen=True)
class HttpLoad:
    """Throughput and latency."""

    num_clients: int
    seconds: float
    requests_per_s: float
    latency: LatencySummary


async def send_all(address: tuple[str, int], bodies: Sequence[bytes], num_clients: int) -> HttpLoad:
    """Sends every body once. InputError: the service answered with an error."""
    waiting = iter(bodies)
    latencies_s: list[float] = []
    started = time.perf_counter()
    clients = [_client(address, waiting, latencies_s) for _ in range(num_clients)]
    await asyncio.gather(*clients)
    seconds = time.perf_counter() - started
    return HttpLoad(
        num_clients, seconds, len(latencies_s) / seconds, LatencySummary.of(latencies_s)
    )


async def _client(
    address: tuple[str, int], bodies: Iterator[bytes], latencies_s: list[float]
) -> None:
    reader, writer = await asyncio.open_connection(*address)
    try:
        for body in bodies:
            started = time.perf_counter()
            writer.write(translate_request(address[0], body))
            answer = await read_answer(reader)
            if answer.status != 200:
                raise InputError(f"the service answered {answer.status_line}")
            latencies_s.append(time.perf_counter() - started)
    finally:
        writer.close()


def translate_request(host: str, body: bytes) -> bytes:
    """Returns the bytes of an HTTP request."""
    return (
        b"POST /v1/translate HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (host.encode(), len(body), body)
    )


@dataclass(frozen=True)
class Answer:
    """An HTTP response; its head is in lower case."""

    status_line: str
    fields: dict[str, str]
    content: bytes

    @property
    def status(self) -> int:
        """Returns the HTTP status code."""
        return int(self.status_line.split()[1])


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Reads the next response of a connection. OSError or EOFError: the connection broke."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    fields = dict(line.split(": ", 1) for line in head[1:-2])
    return Answer(head[0], fields, await reader.readexactly(int(fields["content-length"])))


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.load.http_load",
        description="Send sentences to a running service from many clients at once.",
    )
    parser.add_argument("url", help="URL of the service, such as http://127.0.0.1:8000")
    parser.add_argument("--model", required=True, help="a name that GET /v1/models lists")
    parser.add_argument("--source", type=Path, required=True, help="sentences, one per line")
    parser.add_argument("--clients", type=int, default=64, help="default: 64")
    parser.add_argument("--beam-size", type=int, help="default: the checkpoint's own")
    options = parser.parse_args()
    url = urlsplit(options.url)
    beam = {} if options.beam_size is None else {"beam_size": options.beam_size}
    try:
        bodies = [
            json.dumps({"text": text, "model": options.model, **beam}).encode()
            for text in read_lines(options.source)
            if text.strip()
        ]
        address = (url.hostname or "127.0.0.1", url.port or 80)
        report = asyncio.run(send_all(address, bodies, options.clients))
    except (OSError, EOFError, InputError) as error:
        sys.exit(f"error: {error}")
    print(json.dumps(asdict(report), indent=2))


if __name__ == "__main__":
    main()
