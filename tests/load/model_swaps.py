"""Swaps models under load: counts failed requests and wrong answers, and watches the memory.

Serves a folder with a symbolic link to one of two checkpoints. Each swap changes the link and sends
SIGHUP, while clients send sentences. The translations by both checkpoints were made beforehand, so
an answer that is neither model's is noticed.
"""

import asyncio
import contextlib
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model.checkpoint import read_description
from model.errors import InputError
from service.bench.latency import LatencySummary
from tests.load.client import Connections, body_of
from tests.load.server_process import Served, Usage, served

NAME = "swapped"  # name of the model, whichever checkpoint it is
_NO_CACHE = {"DRAGOMAN_CACHE_CHARACTERS": "0"}  # the same sentences are sent again and again
_SWAP_S = 120.0
_POLL_S = 0.02
_REST_S = 1.0  # time to close the last old model before memory is read


@dataclass
class Swaps:
    """Counts of swaps and answers, and what the service used after some of the swaps."""

    num_clients: int
    precision: str
    swaps: int = 0
    swaps_seen: int = 0  # after them a client got an answer from the new model
    seconds: float = 0.0
    answers: int = 0
    failed: int = 0
    wrong: int = 0  # answers that differ from the translation by the model that they name
    answers_by_version: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    seconds_per_swap: LatencySummary | None = None
    latency: LatencySummary | None = None
    usage: dict[int, Usage] = field(default_factory=dict)  # by the number of swaps before


def expected_translations(
    checkpoint: Path, sentences: Sequence[str], precision: str
) -> tuple[str, list[str]]:
    """Returns the checkpoint's version and its translation of every sentence."""
    from model.translator import Translator

    with Translator.load(checkpoint, precision=precision) as translator:
        translations = translator.translate(sentences)
        return translator.checkpoint.version, [each.text for each in translations]


class Swapped:
    """A service whose models folder holds one symbolic link."""

    def __init__(self, service: Served, folder: Path) -> None:
        self.service = service
        self.folder = folder

    def swap(self, checkpoint: Path) -> None:
        """Changes the link and makes the service reload its folder."""
        point_to(checkpoint, self.folder)
        self.service.reload()

    def version(self) -> str | None:
        """Returns the version that serves now; None while none is ready."""
        model = self.service.models()[NAME]
        return model["version"] if model["status"] == "ready" else None


@contextlib.contextmanager
def serve_link(checkpoint: Path, options: Sequence[str]) -> Iterator[Swapped]:
    """Serves a checkpoint through a link; `options` are those of `dragoman serve`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        point_to(checkpoint, folder)
        with served(folder, options, _NO_CACHE) as service:
            yield Swapped(service, folder)


def point_to(checkpoint: Path, folder: Path) -> None:
    """Makes the folder's link point to the checkpoint, atomically."""
    temporary = folder / f".{NAME}.tmp"
    temporary.symlink_to(checkpoint.resolve())
    temporary.replace(folder / NAME)


@dataclass
class Clients:
    """Clients that each send their next sentence `pause_s` after an answer, until `stopped`."""

    connections: Connections
    sentences: Sequence[str]
    expected: dict[str, list[str]]  # by version
    report: Swaps
    pause_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    stopped: bool = False

    async def run(self) -> None:
        """Runs all clients until `stopped` is set."""
        numbers = itertools.cycle(range(len(self.sentences)))
        async with self.connections:
            await asyncio.gather(*(self._client(numbers) for _ in range(self.report.num_clients)))

    async def _client(self, numbers: Iterator[int]) -> None:
        while not self.stopped:
            number = next(numbers)
            started = time.perf_counter()
            try:
                answer = await self.connections.ask(body_of(self.sentences[number], NAME))
            except (OSError, EOFError) as error:
                self._failed(type(error).__name__)
                await asyncio.sleep(_POLL_S)
                continue
            self.latencies_s.append(time.perf_counter() - started)
            if answer.status == 200:
                self._answered(number, json.loads(answer.content))
            else:
                self._failed(answer.status_line)
            await asyncio.sleep(self.pause_s)

    def _answered(self, number: int, answer: dict[str, object]) -> None:
        model, translations = answer["model"], answer["translations"]
        assert isinstance(model, dict)
        assert isinstance(translations, list)
        version = model["version"]
        expected = self.expected.get(version)
        self.report.answers += 1
        _count(self.report.answers_by_version, version)
        self.report.wrong += expected is None or translations[0]["text"] != expected[number]

    def _failed(self, reason: str) -> None:
        self.report.failed += 1
        _count(self.report.failures, reason)


def _count(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1


async def swap_under_load(
    swapped: Swapped, clients: Clients, checkpoints: Sequence[tuple[str, Path]], num_swaps: int
) -> None:
    """Swaps between two `checkpoints` (version and folder); the first one serves at the start."""
    report, service = clients.report, swapped.service
    answering = asyncio.create_task(clients.run())
    await asyncio.sleep(_REST_S)
    report.usage[0] = service.usage()
    seconds: list[float] = []
    started = time.perf_counter()
    for number in range(1, num_swaps + 1):
        version, checkpoint = checkpoints[number % 2]
        seconds.append(await _swap(swapped, version, checkpoint))
        report.swaps = number
        report.swaps_seen += await _seen(report, version)
        if number % max(num_swaps // 4, 1) == 0:
            await asyncio.sleep(_REST_S)
            report.usage[number] = await asyncio.to_thread(service.usage)
            print(f"{number} of {num_swaps} swaps", file=sys.stderr, flush=True)
    report.seconds = time.perf_counter() - started
    clients.stopped = True
    await answering
    report.seconds_per_swap = LatencySummary.of(seconds)
    report.latency = LatencySummary.of(clients.latencies_s)


async def _swap(swapped: Swapped, version: str, checkpoint: Path) -> float:
    started = time.perf_counter()
    swapped.swap(checkpoint)
    while await asyncio.to_thread(swapped.version) != version:
        if time.perf_counter() - started > _SWAP_S:
            raise InputError(f"version {version} was not ready {_SWAP_S:g} s after the swap")
        await asyncio.sleep(_POLL_S)
    return time.perf_counter() - started


async def _seen(report: Swaps, version: str) -> bool:
    """Waits for an answer from this version; False: none came in time."""
    before, until = report.answers_by_version.get(version, 0), time.perf_counter() + _SWAP_S
    while report.answers_by_version.get(version, 0) == before and time.perf_counter() < until:
        await asyncio.sleep(_POLL_S)
    return report.answers_by_version.get(version, 0) > before


def swaps(
    old: Path,
    new: Path,
    sentences: Sequence[str],
    *,
    num_swaps: int,
    num_clients: int,
    precision: str,
    pause_s: float = 0.0,
    options: Sequence[str] = (),
) -> tuple[Swaps, int]:
    """Returns the report and the exit status of the service, started with `options`."""
    if read_description(old).version == read_description(new).version:
        raise InputError(f"{old} and {new} have the same version; choose two that differ")
    expected, checkpoints = {}, []
    for checkpoint in (old, new):
        version, texts = expected_translations(checkpoint, sentences, precision)
        expected[version] = texts
        checkpoints.append((version, checkpoint))
    report = Swaps(num_clients, precision)
    with serve_link(old, ["--precision", precision, *options]) as swapped:
        address = swapped.service.address
        clients = Clients(Connections(address), sentences, expected, report, pause_s)
        asyncio.run(swap_under_load(swapped, clients, checkpoints, num_swaps))
        return report, swapped.service.end()
