"""Models swapped under load: does a request fail, is an answer neither model's, does memory grow?

Serves a folder in which a link leads to one checkpoint, then to the other, and so on, each time
told by SIGHUP, while clients send sentences whose translations by either were made beforehand.
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

from model.errors import InputError
from service.bench.open_loop import LatencySummary
from tests.load.client import Connections, body_of
from tests.load.server_process import Holding, Served, served

NAME = "swapped"  # what the model is called, whichever it is
_NOT_REMEMBERED = {"DRAGOMAN_CACHE_CHARACTERS": "0"}  # the same sentences come again and again
_SWAP_S = 120.0
_POLL_S = 0.02
_REST_S = 1.0  # for the last old model to be closed, before memory is looked at


@dataclass
class Swaps:
    """What came of it."""

    num_clients: int
    precision: str
    swaps: int = 0
    swaps_seen: int = 0  # after which a client was answered by the new model
    seconds: float = 0.0
    answers: int = 0
    failed: int = 0
    neither: int = 0  # answers that are not what the model they name says
    answers_by_version: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    seconds_per_swap: LatencySummary | None = None
    latency: LatencySummary | None = None
    holdings: dict[int, Holding] = field(default_factory=dict)  # after so many swaps


def expected_translations(
    checkpoint: Path, sentences: Sequence[str], precision: str
) -> tuple[str, list[str]]:
    """The checkpoint's version and what it makes of every sentence."""
    from model.translator import Translator

    with Translator.load(checkpoint, precision=precision) as translator:
        translations = translator.translate(sentences)
        return translator.checkpoint.version, [each.text for each in translations]


class Swapped:
    """A service over a folder with one link."""

    def __init__(self, service: Served, folder: Path) -> None:
        self.service = service
        self.folder = folder

    def swap(self, checkpoint: Path) -> None:
        """Exchanges what the link leads to, and says so."""
        point_to(checkpoint, self.folder)
        self.service.hang_up()

    def version(self) -> str | None:
        """That serves now."""
        model = self.service.models()[NAME]
        return model["version"] if model["status"] == "ready" else None


@contextlib.contextmanager
def serve_link(checkpoint: Path, options: Sequence[str]) -> Iterator[Swapped]:
    """Serves a checkpoint until the end of the block; `options` are `dragoman serve`'s."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        point_to(checkpoint, folder)
        with served(folder, options, _NOT_REMEMBERED) as service:
            yield Swapped(service, folder)


def point_to(checkpoint: Path, folder: Path) -> None:
    """Has the folder's link lead there, in one step."""
    temporary = folder / f".{NAME}.tmp"
    temporary.symlink_to(checkpoint.resolve())
    temporary.replace(folder / NAME)


@dataclass
class Clients:
    """Each sends its next sentence `pause_s` after it had its answer, until told to stop."""

    connections: Connections
    sentences: Sequence[str]
    expected: dict[str, list[str]]  # by version
    report: Swaps
    pause_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    stopped: bool = False

    async def run(self) -> None:
        """All of them, to the end."""
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
        self.report.neither += expected is None or translations[0]["text"] != expected[number]

    def _failed(self, reason: str) -> None:
        self.report.failed += 1
        _count(self.report.failures, reason)


def _count(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1


async def swap_under_load(
    swapped: Swapped, clients: Clients, checkpoints: Sequence[tuple[str, Path]], num_swaps: int
) -> None:
    """The first of `checkpoints` (version and folder) serves; the next swap is to the second."""
    report, service = clients.report, swapped.service
    answering = asyncio.create_task(clients.run())
    await asyncio.sleep(_REST_S)
    report.holdings[0] = service.holding()
    seconds: list[float] = []
    started = time.perf_counter()
    for number in range(1, num_swaps + 1):
        version, checkpoint = checkpoints[number % 2]
        seconds.append(await _swap(swapped, version, checkpoint))
        report.swaps = number
        report.swaps_seen += await _seen(report, version)
        if number % max(num_swaps // 4, 1) == 0:
            await asyncio.sleep(_REST_S)
            report.holdings[number] = await asyncio.to_thread(service.holding)
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
            raise InputError(f"no swap within {_SWAP_S:g} s")
        await asyncio.sleep(_POLL_S)
    return time.perf_counter() - started


async def _seen(report: Swaps, version: str) -> bool:
    """Waits for an answer by this version."""
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
    """Serves the two in turn, `options` are `dragoman serve`'s; and the exit status at the end."""
    expected, checkpoints = {}, []
    for checkpoint in (old, new):
        version, texts = expected_translations(checkpoint, sentences, precision)
        expected[version] = texts
        checkpoints.append((version, checkpoint))
    if len(expected) < 2:
        raise InputError("both checkpoints have the same version; choose two that differ")
    report = Swaps(num_clients, precision)
    with serve_link(old, ["--precision", precision, *options]) as swapped:
        address = swapped.service.address
        clients = Clients(Connections(address), sentences, expected, report, pause_s)
        asyncio.run(swap_under_load(swapped, clients, checkpoints, num_swaps))
        return report, swapped.service.end()
