"""`dragoman serve` in a process of its own, looked at from outside."""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from model.errors import InputError
from model.process import python_command
from service.bench.usage import family, proportional_mb

_START_S = 120.0
_END_S = 30.0
_POLL_S = 0.05


class Served:
    """A running service."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.process = process
        self._log = log
        self.address = self._wait_for_address()

    @property
    def url(self) -> str:
        """Where it is."""
        host, port = self.address
        return f"http://{host}:{port}"

    def memory_mb(self) -> float:
        """What the service and its engines have, what they share counted once."""
        return sum(map(proportional_mb, family(self.process.pid)))

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics, summed over its labels."""
        with urlopen(f"{self.url}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        found: dict[str, float] = {}
        for metric in text_string_to_metric_families(text):
            for sample in metric.samples:
                found[sample.name] = found.get(sample.name, 0.0) + sample.value
        return found

    def end(self) -> int:
        """SIGTERM; the exit code."""
        self.process.terminate()
        return self.process.wait(_END_S)

    def _wait_for_address(self) -> tuple[str, int]:
        until = time.monotonic() + _START_S
        while self.process.poll() is None and time.monotonic() < until:
            said = re.search(r"at http://([\d.]+):(\d+)", self._log.read_text(encoding="utf-8"))
            if said:
                return said[1], int(said[2])
            time.sleep(_POLL_S)
        raise InputError(f"the service did not start: {self._log.read_text()[-500:]}")

    def wait_until_ready(self) -> None:
        """Returns when it has translated a sentence with every model."""
        until = time.monotonic() + _START_S
        while time.monotonic() < until:
            # Not ready is an HTTPError, which is a URLError.
            with contextlib.suppress(URLError), urlopen(f"{self.url}/health/ready", timeout=30):
                return
            if self.process.poll() is not None:
                break
            time.sleep(_POLL_S)
        raise InputError(f"the service is not ready: {self._log.read_text()[-500:]}")


@contextlib.contextmanager
def served(
    models: Path, options: Sequence[str] = (), settings: Mapping[str, str] | None = None
) -> Iterator[Served]:
    """Serves a models folder until the end of the block; `settings` are environment variables."""
    _, environment = python_command("service.cli")
    command = [sys.executable, "-P", "-c", "from service.cli import main; main()", "serve"]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with (
            log.open("wb") as file,
            subprocess.Popen(
                [*command, str(models), "--port", "0", *options],
                stderr=file,
                env={**environment, **(settings or {})},
            ) as process,
        ):
            try:
                service = Served(process, log)
                service.wait_until_ready()
                yield service
            finally:
                process.kill()


async def memory_samples(service: Served, every_s: float, samples: list[float]) -> None:
    """Notes the memory again and again until it is cancelled."""
    while True:
        samples.append(round(await asyncio.to_thread(service.memory_mb), 1))
        await asyncio.sleep(every_s)


def descriptors(process_id: int) -> int:
    """Open files and sockets of a process, on Linux."""
    return len(os.listdir(f"/proc/{process_id}/fd"))
