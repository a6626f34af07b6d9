"""The load test that swaps models."""

import asyncio
from pathlib import Path

import pytest

from model.errors import InputError
from tests.load import model_swaps
from tests.load.client import Connections
from tests.load.model_swaps import Clients, Swaps, swaps
from tests.tiny_checkpoint import ENGLISH, write_tiny_checkpoint

PROC = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")


@PROC
def test_a_swap_under_load_fails_no_request(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_swaps, "_REST_S", 0.1)
    report, exit_code = swaps(
        tiny_checkpoint,
        write_tiny_checkpoint(tmp_path / "other", seed=2),
        ENGLISH[:10],
        num_swaps=1,
        num_clients=3,
        precision="fp32",
        options=["--threads", "1"],
    )
    assert report.swaps == report.swaps_seen == 1
    assert report.failed == report.wrong == exit_code == 0
    assert report.answers == sum(report.answers_by_version.values())
    assert list(report.usage) == [0, 1]


def test_two_checkpoints_of_one_version_are_refused(tiny_checkpoint: Path) -> None:
    with pytest.raises(InputError, match="same version"):
        swaps(
            tiny_checkpoint,
            tiny_checkpoint,
            ENGLISH[:1],
            num_swaps=1,
            num_clients=1,
            precision="fp32",
        )


def test_clients_count_wrong_answers_and_failures() -> None:
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
            response = next(answers)
            if response is None:
                clients.stopped = True
                writer.close()
                return
            status, content = response.split(b",", 1)
            head = b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n" % (status, len(content))
            writer.write(head + content)

    clients: Clients

    async def run() -> None:
        nonlocal clients
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        connections = Connections(server.sockets[0].getsockname()[:2])
        clients = Clients(connections, ["a"], {"1": ["one"]}, report)
        async with server:
            await clients.run()

    asyncio.run(run())
    assert (report.answers, report.wrong, report.failed) == (3, 2, 2)
    assert report.failures == {"http/1.1 503 service unavailable": 1, "IncompleteReadError": 1}
