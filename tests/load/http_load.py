"""Many clients against a running service: each sends its next sentence when it has its answer.

    python -m tests.load.http_load http://127.0.0.1:8000 --model demo --source test.en

Requests are written to plain sockets: a comfortable client would take as much of the processor as
the service that it measures.
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
from service.bench.open_loop import LatencySummary


@dataclass(frozen=True)
class HttpLoad:
    """What came of it."""

    num_clients: int
    seconds: float
    requests_per_s: float
    latency: LatencySummary


async def send_all(address: tuple[str, int], bodies: Sequence[bytes], num_clients: int) -> HttpLoad:
    """Sends every body once; InputError at the first answer that is no success."""
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
    """A request as it goes over the wire."""
    return (
        b"POST /v1/translate HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (host.encode(), len(body), body)
    )


@dataclass(frozen=True)
class Answer:
    """What came back; all but the content in lower case."""

    status_line: str
    fields: dict[str, str]
    content: bytes

    @property
    def status(self) -> int:
        """200 for a success."""
        return int(self.status_line.split()[1])


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """The next answer of a connection; OSError or EOFError where there is none."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    fields = dict(line.split(": ", 1) for line in head[1:-2])
    return Answer(head[0], fields, await reader.readexactly(int(fields["content-length"])))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.load.http_load",
        description="Send sentences to a running service from many clients at once.",
    )
    parser.add_argument("url", help="of the service: http://127.0.0.1:8000")
    parser.add_argument("--model", required=True, help="a name that GET /v1/models lists")
    parser.add_argument("--source", type=Path, required=True, help="sentences, one a line")
    parser.add_argument("--clients", type=int, default=64, help="default: 64")
    parser.add_argument("--beam-size", type=int, help="default: the checkpoint's own")
    asked = parser.parse_args()
    url = urlsplit(asked.url)
    beam = {} if asked.beam_size is None else {"beam_size": asked.beam_size}
    try:
        bodies = [
            json.dumps({"text": text, "model": asked.model, **beam}).encode()
            for text in read_lines(asked.source)
            if text.strip()
        ]
        address = (url.hostname or "127.0.0.1", url.port or 80)
        report = asyncio.run(send_all(address, bodies, asked.clients))
    except (OSError, EOFError, InputError) as error:
        sys.exit(f"http_load: {error}")
    print(json.dumps(asdict(report), indent=2))


if __name__ == "__main__":
    main()
