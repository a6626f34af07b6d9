"""A folder of fake models that can change, and helpers to query a service that serves it."""

import asyncio
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from model.errors import CheckpointError
from service.serving.model_folder import FoundCheckpoint
from service.serving.registry import Registry
from service.serving.reload import Reloader, ReloadReport
from service.serving.served_model import LoadedModel, ServedModel
from service.settings import Settings
from tests.service.fakes import FakeSearch, FakeTranslation, FakeTranslator, fake_info, translated

SETTINGS = Settings()


@dataclass
class FakeFolder:
    """A models folder of fakes: name -> version; answers say which version made them."""

    versions: dict[str, str]
    damaged: set[str] = field(default_factory=set)  # versions that cannot be loaded
    unreadable: bool = False
    loading: threading.Event = field(default_factory=threading.Event)  # clear it to hold loads
    hanging: dict[str, threading.Event] = field(default_factory=dict)  # versions, until set
    translators: dict[str, FakeTranslator] = field(default_factory=dict)  # the latest of a version
    opened: list[tuple[str, str, int]] = field(default_factory=list)  # name, version, of how many
    num_looks: int = 0
    looking: threading.Event = field(default_factory=threading.Event)  # clear it to hold looks

    def __post_init__(self) -> None:
        self.loading.set()
        self.looking.set()

    def look(self, served: Collection[str] = ()) -> list[FoundCheckpoint]:
        self.num_looks += 1
        self.looking.wait()
        if self.unreadable:
            raise CheckpointError("models cannot be read")
        return [
            FoundCheckpoint(name, Path(name), version) for name, version in self.versions.items()
        ]

    def served_model(self, found: FoundCheckpoint, num_models: int) -> ServedModel:
        version = str(found.version)
        self.opened.append((found.name, version, num_models))
        source, target = found.name.split("-")[:2]

        def answer(text: str, search: FakeSearch, alignments: bool) -> FakeTranslation:
            return replace(translated(text, search, alignments), text=f"{text} by {version}")

        def load() -> LoadedModel:
            self.loading.wait()
            if version in self.hanging:
                self.hanging[version].wait()
            if version in self.damaged:
                raise CheckpointError("weights.safetensors is damaged")
            translator = self.translators[version] = FakeTranslator(answer=answer)
            info = replace(fake_info(source, target), version=version)
            return LoadedModel(translator, info)  # type: ignore[arg-type]

        return ServedModel(found.name, load, SETTINGS)

    def reloader(self, drain_s: float = 5.0) -> Reloader:
        models = [self.served_model(each, len(self.versions)) for each in self.look()]
        return Reloader(Registry(models), self, drain_s=drain_s)


async def ask(client: httpx.AsyncClient, text: str = "a", model: str = "en-de") -> Any:
    answer = await client.post("/v1/translate", json={"text": text, "model": model})
    assert answer.status_code == 200, answer.text
    (translation,) = answer.json()["translations"]
    version = answer.json()["model"]["version"]
    assert translation["text"] == f"{text} by {version}"
    return version


async def until(done: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not done():
            await asyncio.sleep(0.001)


def results(report: ReloadReport) -> dict[str, str]:
    return {change.name: change.result.value for change in report.changes}


async def models(client: httpx.AsyncClient) -> dict[str, Any]:
    return {each["name"]: each for each in (await client.get("/v1/models")).json()["models"]}


async def swaps(client: httpx.AsyncClient) -> dict[str, float]:
    lines = (await client.get("/metrics")).text.splitlines()
    found = [line.split() for line in lines if line.startswith("dragoman_swaps_total")]
    return {name.split('"')[1]: float(value) for name, value in found}


def impatient(reloader: Reloader) -> Reloader:
    reloader.timeout_s = 0.3
    return reloader
