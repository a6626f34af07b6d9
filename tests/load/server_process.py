"""`dragoman serve` in a process of its own, looked at from outside."""

import asyncio
import contextlib
import json
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from model.errors import InputError
from model.system.process import exit_reason, python_command
from service.bench.usage import anonymous_mb, family

_START_S = 120.0
_END_S = 30.0
_POLL_S = 0.02
_LOG_LINES = 3  # of a service that did not start; the last says why


@dataclass(frozen=True)
class Holding:
    """What the service has of the machine, on Linux."""

    memory_mb: float  # with its engines, files aside; what they share counted once
    processes: int  # with its engines
    threads: int  # of its own process
    descriptors: int  # open files and sockets of its own process


class Served:
    """A running service."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        """Returns when the service is ready: it has translated a sentence with every model."""
        self._process = process
        self._log = log
        self.address = self._wait_until_ready()

    @property
    def process_id(self) -> int:
        """Of the service itself."""
        return self._process.pid

    def models(self) -> dict[str, dict[str, str]]:
        """What it says of each, by name."""
        found = json.loads(_get(self.address, "/v1/models"))["models"]
        return {model["name"]: model for model in found}

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics, summed over its labels."""
        found: dict[str, float] = {}
        for metric in text_string_to_metric_families(_get(self.address, "/metrics").decode()):
            for sample in metric.samples:
                found[sample.name] = found.get(sample.name, 0.0) + sample.value
        return found

    def memory_mb(self) -> float:
        """What the service and its engines have, what they share counted once."""
        return round(sum(map(anonymous_mb, family(self.process_id))), 1)

    def holding(self) -> Holding:
        """What it has now."""
        own = Path("/proc") / str(self.process_id)
        return Holding(
            self.memory_mb(),
            len(family(self.process_id)),
            len(list((own / "task").iterdir())),
            len(list((own / "fd").iterdir())),
        )

    def hang_up(self) -> None:
        """Asks the service to look at its folder."""
        self._process.send_signal(signal.SIGHUP)

    def end(self) -> int:
        """SIGTERM; the exit status."""
        self._process.terminate()
        return self._process.wait(_END_S)

    def _wait_until_ready(self) -> tuple[str, int]:
        until = time.monotonic() + _START_S
        while self._process.poll() is None and time.monotonic() < until:
            said = re.search(r"at http://([\d.]+):(\d+)", self._log.read_text(encoding="utf-8"))
            # Not ready is an HTTPError, which is a URLError.
            with contextlib.suppress(URLError):
                if said:
                    address = said[1], int(said[2])
                    _get(address, "/health/ready")
                    return address
            time.sleep(_POLL_S)
        status = self._process.poll()
        how = f"is not ready after {_START_S:g} s" if status is None else exit_reason(status)
        last_lines = self._log.read_text(encoding="utf-8").split("\n")[-_LOG_LINES - 1 :]
        raise InputError(f"the service {how}: {' '.join(last_lines).strip()}")


@contextlib.contextmanager
def served(
    models: Path, options: Sequence[str] = (), settings: Mapping[str, str] | None = None
) -> Iterator[Served]:
    """Serves a models folder until the end of the block; `settings` are environment variables."""
    command, environment = python_command("service.cli")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with (
            log.open("wb") as file,
            subprocess.Popen(
                [*command, "serve", str(models), "--port", "0", *options],
                stdin=subprocess.DEVNULL,
                stderr=file,
                process_group=0,  # Ctrl-C reaches us alone, and we end it
                env={**environment, **(settings or {})},
            ) as process,
        ):
            try:
                yield Served(process, log)
            finally:
                process.kill()


async def memory_samples(service: Served, every_s: float, samples: list[float]) -> None:
    """Notes the memory again and again until it is cancelled."""
    while True:
        samples.append(await asyncio.to_thread(service.memory_mb))
        await asyncio.sleep(every_s)


def _get(address: tuple[str, int], path: str) -> bytes:
    with urlopen(f"http://{address[0]}:{address[1]}{path}", timeout=30) as answer:
        content: bytes = answer.read()
    return content
