"""Real checkpoints swapped in a running service."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.load.model_swaps import NAME, Swapped, serve_link
from tests.load.server_process import family
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
def test_sighup_loads_new_and_changed_models_in_a_service_with_engines(
    tmp_path: Path, tiny_checkpoint: Path, other_checkpoint: Path
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(other_checkpoint, damaged)
    weights = damaged / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with serve_link(tiny_checkpoint, ["--threads", "2", "--precision", "fp32"]) as swapped:
        service = swapped.service
        before, first = service.usage(), swapped.version()
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
        until(lambda: service.usage().processes == before.processes)
        until(lambda: service.usage().descriptors <= before.descriptors)
        assert service.usage().threads <= before.threads + 3  # of a thread pool that reads files
        swapped.swap(tiny_checkpoint)
        until(lambda: service.models()[NAME].get("replacement") == "loading")
        engines = family(service.process_id)[1:]
        assert service.end() == 0
    until(lambda: not any(Path(f"/proc/{engine}").exists() for engine in engines))
