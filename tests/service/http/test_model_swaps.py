"""Real checkpoints swapped in a real process, and the measurement of it under load."""

import asyncio
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from model.errors import InputError
from service.bench.usage import family
from tests.load.client import Connections
from tests.load.model_swaps import NAME, Clients, Swapped, Swaps, serve_link, swaps
from tests.tiny_checkpoint import ENGLISH, write_tiny_checkpoint

PROC = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")


@pytest.fixture(scope="module")
def other_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("models") / "other", seed=2)


def until(done: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)


def translate(swapped: Swapped, text: str) -> str:
    host, port = swapped.service.address
    body = json.dumps({"text": text, "model": NAME}).encode()
    asked = Request(
        f"http://{host}:{port}/v1/translate", body, {"Content-Type": "application/json"}
    )
    with urlopen(asked, timeout=30) as answer:
        return str(json.loads(answer.read())["model"]["version"])


@PROC
def test_hangups_bring_the_folder_into_a_process_with_engines(
    tmp_path: Path, tiny_checkpoint: Path, other_checkpoint: Path
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(other_checkpoint, damaged)
    weights = damaged / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with serve_link(tiny_checkpoint, ["--threads", "2", "--precision", "fp32"]) as swapped:
        service = swapped.service
        before, first = service.holding(), swapped.version()
        assert before.processes == 4  # the service, one that loads, two engines
        shutil.copytree(other_checkpoint, swapped.folder / "another")
        swapped.swap(damaged)
        until(lambda: service.models().get("another", {}).get("status") == "ready")
        until(lambda: service.models()[NAME].get("replacement") == "failed")
        assert translate(swapped, ENGLISH[0]) == first
        shutil.rmtree(swapped.folder / "another")
        swapped.swap(other_checkpoint)
        until(lambda: swapped.version() not in (first, None))
        until(lambda: list(service.models()) == [NAME])
        assert translate(swapped, ENGLISH[0]) == swapped.version() != first
        until(lambda: service.holding().processes == before.processes)
        until(lambda: service.holding().descriptors <= before.descriptors)
        assert service.holding().threads <= before.threads + 3  # of a pool that stays, for files
        swapped.swap(tiny_checkpoint)
        until(lambda: service.models()[NAME].get("replacement") == "loading")
        engines = family(service.process_id)[1:]
        assert service.end() == 0
    until(lambda: not any(Path(f"/proc/{engine}").exists() for engine in engines))


@PROC
def test_swaps_under_load(tiny_checkpoint: Path, other_checkpoint: Path) -> None:
    report, exit_code = swaps(
        tiny_checkpoint,
        other_checkpoint,
        ENGLISH[:10],
        num_swaps=2,
        num_clients=3,
        precision="fp32",
        options=["--threads", "1"],
    )
    assert report.swaps == report.swaps_seen == 2
    assert report.failed == report.neither == exit_code == 0
    assert report.answers == sum(report.answers_by_version.values())
    assert list(report.holdings) == [0, 1, 2]


def test_the_same_checkpoint_twice_is_no_swap(tiny_checkpoint: Path) -> None:
    with pytest.raises(InputError, match="same version"):
        swaps(
            tiny_checkpoint,
            tiny_checkpoint,
            ENGLISH[:1],
            num_swaps=1,
            num_clients=1,
            precision="fp32",
        )


@pytest.mark.anyio
async def test_clients_count_what_is_wrong() -> None:
    report = Swaps(num_clients=1, precision="fp32")
    answers = iter(
        [
            b'200 OK,{"model": {"version": "1"}, "translations": [{"text": "one"}]}',
            b'200 OK,{"model": {"version": "1"}, "translations": [{"text": "two"}]}',
            b'200 OK,{"model": {"version": "3"}, "translations": [{"text": "one"}]}',
            b"503 Service Unavailable,{}",
            None,
        ]
    )

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]))
            found = next(answers)
            if found is None:
                clients.stopped = True
                writer.close()
                return
            status, content = found.split(b",", 1)
            head = b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n" % (status, len(content))
            writer.write(head + content)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    connections = Connections(server.sockets[0].getsockname()[:2])
    clients = Clients(connections, ["a"], {"1": ["one"]}, report)
    async with server:
        await clients.run()
    assert (report.answers, report.neither, report.failed) == (3, 2, 2)
    assert report.failures == {"http/1.1 503 service unavailable": 1, "IncompleteReadError": 1}
