"""Runs `dragoman serve` in a process of its own, and reads its memory, files and metrics."""

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

_START_S = 120.0
_END_S = 30.0
_POLL_S = 0.02
_LOG_LINES = 3  # shown of a service that did not start; the last one says why


@dataclass(frozen=True)
class Usage:
    """What the service uses of the machine, on Linux."""

    memory_mb: float  # with its engines, without mapped files; shared memory counted once
    processes: int  # with its engines
    threads: int  # of the service process
    descriptors: int  # open files and sockets of the service process


class Served:
    """A running service."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        """Waits until the service is ready: it has translated a sentence with every model."""
        self._process = process
        self._log = log
        self.address = self._wait_until_ready()

    @property
    def process_id(self) -> int:
        """Returns the id of the service process."""
        return self._process.pid

    def models(self) -> dict[str, dict[str, str]]:
        """Returns the entries of GET /v1/models by name."""
        models = json.loads(_get(self.address, "/v1/models"))["models"]
        return {model["name"]: model for model in models}

    def metrics(self) -> dict[str, float]:
        """Returns every sample of /metrics, summed over its labels."""
        sums: dict[str, float] = {}
        for metric in text_string_to_metric_families(_get(self.address, "/metrics").decode()):
            for sample in metric.samples:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
        return sums

    def memory_mb(self) -> float:
        """Returns the memory of the service and its engines; shared memory counted once."""
        return round(sum(map(_anonymous_mb, family(self.process_id))), 1)

    def usage(self) -> Usage:
        """Returns what the service uses now."""
        own = Path("/proc") / str(self.process_id)
        return Usage(
            self.memory_mb(),
            len(family(self.process_id)),
            len(list((own / "task").iterdir())),
            len(list((own / "fd").iterdir())),
        )

    def reload(self) -> None:
        """Makes the service reload its models folder, by SIGHUP."""
        self._process.send_signal(signal.SIGHUP)

    def end(self) -> int:
        """Ends the service by SIGTERM and returns its exit status."""
        self._process.terminate()
        return self._process.wait(_END_S)

    def _wait_until_ready(self) -> tuple[str, int]:
        until = time.monotonic() + _START_S
        while self._process.poll() is None and time.monotonic() < until:
            url = re.search(r"at http://([\d.]+):(\d+)", self._log.read_text(encoding="utf-8"))
            # Not ready is an HTTPError, which is a URLError.
            with contextlib.suppress(URLError):
                if url:
                    address = url[1], int(url[2])
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
    """Serves a models folder until the block ends; `settings` are environment variables."""
    command, environment = python_command("service.cli")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with (
            log.open("wb") as file,
            subprocess.Popen(
                [*command, "serve", str(models), "--port", "0", *options],
                stdin=subprocess.DEVNULL,
                stderr=file,
                process_group=0,  # Ctrl-C reaches only this process, which then ends the service
                env={**environment, **(settings or {})},
            ) as process,
        ):
            try:
                yield Served(process, log)
            finally:
                process.kill()


def family(process_id: int) -> list[int]:
    """Returns a process and all its running descendants, on Linux."""
    processes = [process_id]
    for parent in processes:  # grows during the loop
        for task in Path("/proc").glob(f"{parent}/task/*/children"):
            with contextlib.suppress(OSError):
                processes += map(int, task.read_text(encoding="ascii").split())
    return processes


def _anonymous_mb(process_id: int) -> float:
    """Returns the memory of a process without mapped files, its share of what is shared (PSS)."""
    try:
        lines = Path(f"/proc/{process_id}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0  # the process has ended
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss_Anon:")) * 1024 / 1e6


async def memory_samples(service: Served, every_s: float, samples: list[float]) -> None:
    """Appends the memory to `samples` every `every_s` seconds until it is cancelled."""
    while True:
        samples.append(await asyncio.to_thread(service.memory_mb))
        await asyncio.sleep(every_s)


def _get(address: tuple[str, int], path: str) -> bytes:
    with urlopen(f"http://{address[0]}:{address[1]}{path}", timeout=30) as answer:
        content: bytes = answer.read()
    return content
