"""Models swapped under load: does a request fail, is an answer neither model's, does memory grow?

    python -m service.bench.swap_load models/old models/new --source test.en --swaps 100

Serves a folder in which a link leads to one checkpoint, then to the other, and so on, each time
told by SIGHUP, while clients send sentences whose translations by either were made beforehand.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.request import urlopen

from model.errors import DragomanError, InputError
from model.process import python_command
from service.bench.http_load import read_answer, translate_request
from service.bench.open_loop import LatencySummary
from service.bench.usage import family, proportional_mb
from service.text_lines import read_lines

NAME = "swapped"  # what the model is called, whichever it is
_START_S, _SWAP_S = 120.0, 120.0
_POLL_S = 0.02
_REST_S = 1.0  # for the last old model to be closed, before memory is looked at


@dataclass(frozen=True)
class Holding:
    """What the service and its engines have of the machine."""

    after_swaps: int
    pss_mb: float
    processes: int
    threads: int  # of the service's own process
    descriptors: int


@dataclass
class SwapLoad:
    """What came of it."""

    num_clients: int
    precision: str
    swaps: int = 0
    swaps_seen: int = 0  # after which a client was answered by the new model
    seconds: float = 0.0
    answers: int = 0
    failed: int = 0
    neither: int = 0  # answers that are not what the model they name says
    answers_by_version: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    failures: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    seconds_per_swap: LatencySummary | None = None
    latency: LatencySummary | None = None
    holdings: list[Holding] = field(default_factory=list)
    exit_code: int | None = None  # after SIGTERM


def expected_translations(
    checkpoint: Path, sentences: Sequence[str], precision: str
) -> tuple[str, list[str]]:
    """The checkpoint's version and what it makes of every sentence."""
    from model.translator import Translator

    with Translator.load(checkpoint, precision=precision) as translator:
        translations = translator.translate(sentences)
        return translator.checkpoint.version, [each.text for each in translations]


class Service:
    """`dragoman serve` in a process, over a folder with one link."""

    def __init__(self, folder: Path, options: Sequence[str]) -> None:
        self.folder = folder / "models"
        self.folder.mkdir()
        self._log = folder / "log"
        self._options = options

    @contextlib.contextmanager
    def running(self, checkpoint: Path) -> Iterator["Service"]:
        """Serves a checkpoint until the end of the block."""
        self.point_to(checkpoint)
        _, environment = python_command("service.cli")
        command = [sys.executable, "-P", "-c", "from service.cli import main; main()", "serve"]
        with (
            self._log.open("wb") as log,
            subprocess.Popen(
                [*command, str(self.folder), "--port", "0", *self._options],
                stderr=log,
                env=environment,
            ) as self._process,
        ):
            try:
                self.address = self._wait_for_address()
                self._wait(lambda: self.version() is not None, _START_S)
                yield self
            finally:
                self._process.kill()

    @property
    def process_id(self) -> int:
        """Of the service itself."""
        return self._process.pid

    def point_to(self, checkpoint: Path) -> None:
        """Exchanges the link, in one step."""
        temporary = self.folder / f".{NAME}.tmp"
        temporary.symlink_to(checkpoint.resolve())
        temporary.replace(self.folder / NAME)

    def hang_up(self) -> None:
        """Asks the service to look at its folder."""
        self._process.send_signal(signal.SIGHUP)

    def models(self) -> dict[str, dict[str, str]]:
        """What it says of each, by name."""
        host, port = self.address
        with urlopen(f"http://{host}:{port}/v1/models", timeout=30) as answer:
            return {model["name"]: model for model in json.loads(answer.read())["models"]}

    def version(self) -> str | None:
        """That serves now."""
        model = self.models()[NAME]
        return model["version"] if model["status"] == "ready" else None

    def holding(self, after_swaps: int) -> Holding:
        """What it has now."""
        processes = family(self._process.pid)
        own = Path("/proc") / str(self._process.pid)
        return Holding(
            after_swaps,
            round(sum(map(proportional_mb, processes)), 1),
            len(processes),
            len(os.listdir(own / "task")),
            len(os.listdir(own / "fd")),
        )

    def end(self) -> int:
        """SIGTERM; the exit code."""
        self._process.terminate()
        return self._process.wait(30)

    def _wait_for_address(self) -> tuple[str, int]:
        found: list[re.Match[str]] = []

        def look() -> bool:
            found.extend(re.finditer(r"at http://([\d.]+):(\d+)", self._log.read_text()))
            return bool(found)

        self._wait(look, _START_S)
        return found[0][1], int(found[0][2])

    def _wait(self, done: Callable[[], bool], timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        while not done():
            if self._process.poll() is not None or time.monotonic() > until:
                raise InputError(f"the service did not start: {self._log.read_text()[-500:]}")
            time.sleep(_POLL_S)


@dataclass
class Clients:
    """Each sends its next sentence `pause_s` after it had its answer, until told to stop."""

    address: tuple[str, int]
    sentences: Sequence[str]
    expected: dict[str, list[str]]  # by version
    report: SwapLoad
    pause_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    stopped: bool = False

    async def run(self) -> None:
        """All of them, to the end."""
        numbers = itertools.cycle(range(len(self.sentences)))
        await asyncio.gather(*(self._client(numbers) for _ in range(self.report.num_clients)))

    async def _client(self, numbers: Iterator[int]) -> None:
        while not self.stopped:
            try:
                await self._converse(numbers)
            except (OSError, EOFError) as error:
                self._failed(type(error).__name__)
                await asyncio.sleep(_POLL_S)

    async def _converse(self, numbers: Iterator[int]) -> None:
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            while not self.stopped:
                number = next(numbers)
                body = json.dumps({"text": self.sentences[number], "model": NAME}).encode()
                started = time.perf_counter()
                writer.write(translate_request(self.address[0], body))
                status_line, content = await read_answer(reader)
                self.latencies_s.append(time.perf_counter() - started)
                if status_line.split()[1] == "200":
                    self._answered(number, json.loads(content))
                else:
                    self._failed(status_line)
                await asyncio.sleep(self.pause_s)
        finally:
            writer.close()

    def _answered(self, number: int, answer: dict[str, object]) -> None:
        model, translations = answer["model"], answer["translations"]
        assert isinstance(model, dict)
        assert isinstance(translations, list)
        version = model["version"]
        expected = self.expected.get(version)
        self.report.answers += 1
        self.report.answers_by_version[version] += 1
        self.report.neither += expected is None or translations[0]["text"] != expected[number]

    def _failed(self, reason: str) -> None:
        self.report.failed += 1
        self.report.failures[reason] += 1


async def swap_under_load(
    service: Service, clients: Clients, checkpoints: Sequence[tuple[str, Path]], num_swaps: int
) -> None:
    """The first of `checkpoints` (version and folder) serves; the next swap is to the second."""
    report = clients.report
    answering = asyncio.create_task(clients.run())
    await asyncio.sleep(_REST_S)
    report.holdings.append(service.holding(0))
    seconds: list[float] = []
    started = time.perf_counter()
    for number in range(1, num_swaps + 1):
        version, checkpoint = checkpoints[number % 2]
        seconds.append(await _swap(service, version, checkpoint))
        report.swaps = number
        report.swaps_seen += await _seen(report, version)
        if number % max(num_swaps // 4, 1) == 0:
            await asyncio.sleep(_REST_S)
            report.holdings.append(await asyncio.to_thread(service.holding, number))
    report.seconds = time.perf_counter() - started
    clients.stopped = True
    await answering
    report.seconds_per_swap = LatencySummary.of(seconds)
    report.latency = LatencySummary.of(clients.latencies_s)


async def _swap(service: Service, version: str, checkpoint: Path) -> float:
    started = time.perf_counter()
    service.point_to(checkpoint)
    service.hang_up()
    while await asyncio.to_thread(service.version) != version:
        if time.perf_counter() - started > _SWAP_S:
            raise InputError(f"no swap within {_SWAP_S:g} s")
        await asyncio.sleep(_POLL_S)
    return time.perf_counter() - started


async def _seen(report: SwapLoad, version: str) -> bool:
    """Waits for an answer by this version."""
    before, until = report.answers_by_version[version], time.perf_counter() + _SWAP_S
    while report.answers_by_version[version] == before and time.perf_counter() < until:
        await asyncio.sleep(_POLL_S)
    return report.answers_by_version[version] > before


def measure(
    old: Path,
    new: Path,
    sentences: Sequence[str],
    *,
    num_swaps: int,
    num_clients: int,
    precision: str,
    pause_s: float = 0.0,
    options: Sequence[str] = (),
) -> SwapLoad:
    """Serves the two in turn; `options` are `dragoman serve`'s."""
    expected, checkpoints = {}, []
    for checkpoint in (old, new):
        version, texts = expected_translations(checkpoint, sentences, precision)
        expected[version] = texts
        checkpoints.append((version, checkpoint))
    if len(expected) < 2:
        raise InputError("both checkpoints have the same version; choose two that differ")
    report = SwapLoad(num_clients, precision)
    with tempfile.TemporaryDirectory() as folder:
        service = Service(Path(folder), ["--precision", precision, *options])
        with service.running(old):
            clients = Clients(service.address, sentences, expected, report, pause_s)
            asyncio.run(swap_under_load(service, clients, checkpoints, num_swaps))
            report.exit_code = service.end()
    return report


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m service.bench.swap_load",
        description="Swap two checkpoints again and again in a service that clients keep busy.",
    )
    parser.add_argument("old", type=Path, help="a checkpoint")
    parser.add_argument("new", type=Path, help="another of the same languages")
    parser.add_argument("--source", type=Path, required=True, help="sentences, one a line")
    parser.add_argument("--sentences", type=int, default=100, help="of the source; default: 100")
    parser.add_argument("--swaps", type=int, default=100, help="default: 100")
    parser.add_argument("--clients", type=int, default=8, help="default: 8")
    parser.add_argument(
        "--pause-ms",
        type=float,
        default=0.0,
        help="of each client between an answer and its next request; default: 0, which takes all "
        "of the machine and leaves a swap its share of it",
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "int8"),
        default="fp32",
        help="the two in which a sentence has one translation in any company; default: fp32",
    )
    parser.add_argument("--threads", type=int, help="default: the service's own")
    asked = parser.parse_args()
    options = [] if asked.threads is None else ["--threads", str(asked.threads)]
    try:
        lines = [line for line in read_lines(asked.source) if line.strip()]
        report = measure(
            asked.old,
            asked.new,
            lines[: asked.sentences],
            num_swaps=asked.swaps,
            num_clients=asked.clients,
            precision=asked.precision,
            pause_s=asked.pause_ms / 1000,
            options=options,
        )
    except (OSError, DragomanError) as error:
        sys.exit(f"swap_load: {error}")
    print(json.dumps(vars(report), indent=2, default=asdict))


if __name__ == "__main__":
    main()
