"""Models exchanged while others are served: over fakes whose loading and steps a test holds."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from model.errors import CheckpointError
from service.access.keys import Scope
from service.dispatcher import Dispatcher, LoadedModel, ModelState
from service.lifecycle import Lifecycle, Phase
from service.model_folder import Found
from service.registry import Registry
from service.reload import Report
from service.settings import Settings
from service.visits import Visits
from tests.service.conftest import AddKey, Serving
from tests.service.fakes import FakeSearch, FakeTranslation, FakeTranslator, fake_info, translated

pytestmark = pytest.mark.anyio
SETTINGS = Settings()
NOT_DONE = {"done": False, "ok": False, "models": []}


Admin = tuple[Settings, dict[str, str]]


@pytest.fixture
def admin(keys_file: Path, add_key: AddKey) -> Admin:
    """A service with keys, and the header of one that may do everything."""
    key = add_key("operator", Scope.ADMIN, Scope.TRANSLATE)
    return Settings(keys_file=keys_file), {"Authorization": f"Bearer {key}"}


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

    def look(self, served: Collection[str] = ()) -> list[Found]:
        self.num_looks += 1
        self.looking.wait()
        if self.unreadable:
            raise CheckpointError("models cannot be read")
        return [Found(name, Path(name), version) for name, version in self.versions.items()]

    def dispatcher(self, found: Found, num_models: int) -> Dispatcher:
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

        return Dispatcher(found.name, load, SETTINGS)

    def registry(self, drain_s: float = 5.0) -> Registry:
        models = [self.dispatcher(each, len(self.versions)) for each in self.look()]
        return Registry(models, self, drain_s=drain_s)


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


def results(report: Report) -> dict[str, str]:
    return {change.name: change.result.value for change in report.changes}


async def models(client: httpx.AsyncClient) -> dict[str, Any]:
    return {each["name"]: each for each in (await client.get("/v1/models")).json()["models"]}


async def swaps(client: httpx.AsyncClient) -> dict[str, float]:
    lines = (await client.get("/metrics")).text.splitlines()
    found = [line.split() for line in lines if line.startswith("dragoman_swaps_total")]
    return {name.split('"')[1]: float(value) for name, value in found}


async def test_nothing_new_changes_nothing(serving: Serving) -> None:
    folder = FakeFolder({"en-de": "1"})
    async with serving(registry := folder.registry(), SETTINGS):
        (before,) = registry.dispatchers
        assert results(await registry.reloader.reload()) == {"en-de": "unchanged"}
        assert registry.dispatchers == [before]


async def test_added_ones_are_seen_while_they_load_and_readiness_stays_green(
    serving: Serving,
) -> None:
    folder = FakeFolder({"en-de": "1"})
    async with serving(registry := folder.registry(), SETTINGS) as client:
        folder.versions["en-fr"] = "2"
        folder.loading.clear()
        reloading = registry.reloader.reload()
        await until(lambda: registry.reloader.newcomers)
        assert (await client.get("/health/ready")).status_code == 200
        assert (await models(client))["en-fr"]["status"] == "loading"
        answer = await client.post("/v1/translate", json={"text": "a", "model": "en-fr"})
        assert answer.json()["error"]["code"] == "model_loading"
        assert await ask(client) == "1"
        folder.loading.set()
        assert results(await reloading) == {"en-de": "unchanged", "en-fr": "added"}
        assert await ask(client, model="en-fr") == "2"
        assert folder.opened == [("en-de", "1", 1), ("en-fr", "2", 2)]  # shares of the cores
        assert (await swaps(client))["added"] == 1


async def test_the_old_one_serves_until_the_new_one_can_and_finishes_what_it_accepted(
    serving: Serving,
) -> None:
    folder = FakeFolder({"en-de": "1"})
    async with serving(registry := folder.registry(), SETTINGS) as client:
        (old,) = registry.dispatchers
        folder.versions["en-de"] = "2"
        folder.loading.clear()
        reloading = registry.reloader.reload()
        await until(lambda: registry.reloader.newcomers)
        assert (await models(client))["en-de"]["replacement"] == "loading"
        assert (await models(client))["en-de"]["version"] == "1"
        assert (await client.get("/health/ready")).status_code == 200
        assert await ask(client) == "1"
        folder.translators["1"].running.clear()
        held = asyncio.create_task(ask(client, "held"))
        await until(lambda: old.admission.num_texts)
        folder.loading.set()
        assert results(await reloading) == {"en-de": "replaced"}
        assert "replacement" not in (await models(client))["en-de"]
        assert await ask(client) == "2"
        assert not held.done()
        assert old.state is ModelState.READY
        folder.translators["1"].running.set()
        assert await held == "1"
        await until(lambda: old.state is ModelState.STOPPED)
        await until(lambda: not registry.reloader.dispatchers)
        assert (await swaps(client))["replaced"] == 1


async def test_a_request_that_has_chosen_the_old_one_is_answered_by_it(serving: Serving) -> None:
    folder = FakeFolder({"en-de": "1"})
    async with serving(registry := folder.registry(), SETTINGS):
        with registry.visits.visit():
            chosen = registry.choose(model=None, source="en", target="de")
            folder.versions["en-de"] = "2"
            await registry.reloader.reload()
            assert registry.choose(model=None, source="en", target="de") is not chosen
            await asyncio.sleep(0.1)  # time to close it by mistake
            answer = await chosen.translate(
                ["a"], None, alignments=False, segmentation="line", deadline_s=5, name_of=str
            )
            (translation,) = answer.translations
            assert translation.text == "a by 1"
            assert chosen.info.version == "1"
        await until(lambda: chosen.state is ModelState.STOPPED)


async def test_a_request_that_never_ends_does_not_keep_the_old_one(serving: Serving) -> None:
    folder = FakeFolder({"en-de": "1"})
    async with serving(registry := folder.registry(drain_s=0.1), SETTINGS):
        (old,) = registry.dispatchers
        with registry.visits.visit():
            folder.versions["en-de"] = "2"
            await registry.reloader.reload()
            await until(lambda: old.state is ModelState.STOPPED)


async def test_removed_ones_leave_at_once_and_finish_what_they_accepted(serving: Serving) -> None:
    folder = FakeFolder({"en-de": "1", "en-fr": "2"})
    async with serving(registry := folder.registry(), SETTINGS) as client:
        folder.translators["2"].running.clear()
        held = asyncio.create_task(ask(client, "held", "en-fr"))
        await until(lambda: registry.dispatchers[1].admission.num_texts)
        del folder.versions["en-fr"]
        report = await registry.reloader.reload()
        assert results(report) == {"en-de": "unchanged", "en-fr": "removed"}
        assert list(await models(client)) == ["en-de"]
        answer = await client.post("/v1/translate", json={"text": "a", "model": "en-fr"})
        assert answer.json()["error"]["code"] == "unknown_model"
        assert 'model="en-fr"' not in str(
            [
                line
                for line in (await client.get("/metrics")).text.splitlines()
                if line.startswith(("dragoman_model_state", "dragoman_waiting"))
            ]
        )
        folder.translators["2"].running.set()
        assert await held == "2"
        assert (await swaps(client))["removed"] == 1


async def test_under_another_name_there_is_no_gap(serving: Serving) -> None:
    folder = FakeFolder({"en-de-monday": "1"})
    async with serving(registry := folder.registry(), SETTINGS) as client:
        folder.versions = {"en-de-tuesday": "2"}
        folder.loading.clear()
        reloading = registry.reloader.reload()
        await until(lambda: registry.reloader.newcomers)
        assert await ask(client, model="en-de-monday") == "1"
        folder.loading.set()
        assert results(await reloading) == {"en-de-monday": "removed", "en-de-tuesday": "added"}
        assert await ask(client, model="en-de-tuesday") == "2"


async def test_a_newcomer_that_cannot_be_loaded_leaves_the_old_one(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    folder = FakeFolder({"en-de": "1"}, damaged={"2"})
    async with serving(registry := folder.registry(), SETTINGS) as client:
        folder.versions["en-de"] = "2"
        report = await registry.reloader.reload()
        (change,) = report.changes
        assert not report.ok
        assert (change.result, change.version, change.previous) == ("failed", "2", "1")
        assert change.reason == "weights.safetensors is damaged"
        assert "model en-de failed to load: weights.safetensors is damaged" in caplog.messages
        assert "model en-de: version 1 goes on" in caplog.messages
        found = (await models(client))["en-de"]
        assert (found["status"], found["version"], found["replacement"]) == ("ready", "1", "failed")
        assert await ask(client) == "1"
        assert (await client.get("/health/ready")).status_code == 200
        assert (await swaps(client))["failed"] == 1
        folder.versions["en-de"] = "1"  # taken back
        assert (await registry.reloader.reload()).ok
        assert "replacement" not in (await models(client))["en-de"]


async def test_a_failed_model_is_loaded_again(serving: Serving) -> None:
    folder = FakeFolder({"en-de": "1", "en-fr": "2"}, damaged={"2"})
    async with serving(registry := folder.registry(), SETTINGS) as client:
        assert (await models(client))["en-fr"]["status"] == "failed"
        assert results(await registry.reloader.reload())["en-fr"] == "failed"  # still
        assert (await models(client))["en-fr"]["status"] == "failed"
        folder.damaged.clear()
        assert results(await registry.reloader.reload())["en-fr"] == "replaced"
        assert await ask(client, model="en-fr") == "2"


async def test_an_unreadable_folder_changes_nothing(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    folder = FakeFolder({"en-de": "1"})
    async with serving(registry := folder.registry(), SETTINGS) as client:
        folder.unreadable = True
        report = await registry.reloader.reload()
        assert report.problem == "models cannot be read"
        assert "no model was exchanged: models cannot be read" in caplog.messages
        assert await ask(client) == "1"


async def test_no_model_left_is_no_end_of_the_service(serving: Serving) -> None:
    folder = FakeFolder({"en-de": "1"}, damaged={"2"})
    async with serving(registry := folder.registry(), SETTINGS) as client:
        folder.versions = {"en-fr": "2"}
        await registry.reloader.reload()
        assert not registry.none_loads  # at which the process would leave
        assert (await client.get("/health/ready")).json()["status"] == "no model"


async def test_reloads_at_once_are_one_and_the_last_wish_wins(serving: Serving) -> None:
    folder = FakeFolder({"en-de": "1"})
    async with serving(registry := folder.registry(), SETTINGS) as client:
        looks = folder.num_looks
        folder.looking.clear()
        first = registry.reloader.reload()
        await until(lambda: folder.num_looks > looks)
        folder.versions["en-de"] = "2"
        later = [registry.reloader.reload() for _ in range(5)]
        assert len({first, *later}) == 2
        folder.versions["en-de"] = "3"
        folder.looking.set()
        await asyncio.gather(first, *later)
        assert folder.num_looks == looks + 2
        assert await ask(client) == "3"


async def test_a_third_version_waits_until_the_first_is_gone(serving: Serving) -> None:
    folder = FakeFolder({"en-de": "1"})
    async with serving(registry := folder.registry(), SETTINGS) as client:
        (first,) = registry.dispatchers
        folder.translators["1"].running.clear()
        held = asyncio.create_task(ask(client))
        await until(lambda: first.admission.num_texts)
        for version in ("2", "3"):
            folder.versions["en-de"] = version
            reloading = registry.reloader.reload()
            await asyncio.wait({reloading}, timeout=0.2)
        assert not reloading.done()
        assert [version for _, version, _ in folder.opened] == ["1", "2"]
        assert await ask(client) == "2"
        folder.translators["1"].running.set()
        await reloading
        assert await held == "1"
        assert await ask(client) == "3"


async def test_a_model_that_still_loads_is_waited_for(serving: Serving) -> None:
    folder = FakeFolder({"en-de": "1"})
    folder.loading.clear()
    async with serving(registry := folder.registry(), SETTINGS, wait=False) as client:
        reloading = registry.reloader.reload()
        await asyncio.sleep(0.05)
        folder.loading.set()
        assert results(await reloading) == {"en-de": "unchanged"}
        assert await ask(client) == "1"
    assert len(folder.opened) == 1


def impatient(registry: Registry) -> Registry:
    registry.reloader.patience_s = 0.1
    return registry


async def test_a_load_that_hangs_does_not_keep_others_from_being_exchanged(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    folder = FakeFolder({"en-de": "1", "en-fr": "a"}, hanging={"2": threading.Event()})
    async with serving(registry := impatient(folder.registry()), SETTINGS) as client:
        folder.versions = {"en-de": "2", "en-fr": "b"}
        report = await registry.reloader.reload()
        assert results(report) == {"en-de": "loading", "en-fr": "replaced"}
        assert (report.ok, report.done) == (False, False)
        (late,) = [change for change in report.changes if change.name == "en-de"]
        assert (late.version, late.previous) == ("2", "1")
        assert "takes over once it is done" in str(late.reason)
        assert (
            "model en-de: not loaded after 0.1 s; it goes on beside the others" in caplog.messages
        )
        folder.versions["en-fr"] = "c"
        report = await registry.reloader.reload()
        assert results(report) == {"en-de": "loading", "en-fr": "replaced"}
        assert (await models(client))["en-de"]["replacement"] == "loading"
        assert await ask(client) == "1"
        assert await ask(client, model="en-fr") == "c"
        assert (await client.get("/health/ready")).status_code == 200
        assert [version for _, version, _ in folder.opened].count("2") == 1
        folder.versions["en-de"] = "3"  # seen when the late one has come
        folder.hanging["2"].set()
        await until(lambda: folder.translators.get("3"))
        await until(lambda: not registry.reloader.newcomers)
        assert await ask(client) == "3"
        assert (await swaps(client))["replaced"] == 4
        assert (await registry.reloader.reload()).ok


async def test_none_is_removed_before_the_one_that_may_replace_it_has_loaded(
    serving: Serving,
) -> None:
    folder = FakeFolder({"en-de-monday": "1"}, hanging={"2": threading.Event()})
    async with serving(registry := impatient(folder.registry()), SETTINGS) as client:
        folder.versions = {"en-de-tuesday": "2"}
        for _ in range(2):
            report = await registry.reloader.reload()
            assert results(report) == {"en-de-monday": "unchanged", "en-de-tuesday": "loading"}
            assert report.changes[0].reason == "it goes when en-de-tuesday has loaded"
            assert await ask(client, model="en-de-monday") == "1"
        folder.hanging["2"].set()
        await until(lambda: len(registry.dispatchers) == 1)
        assert await ask(client, model="en-de-tuesday") == "2"


@pytest.mark.parametrize("name", ["en-de", "en-fr"])
async def test_what_hangs_can_be_taken_back(serving: Serving, name: str) -> None:
    folder = FakeFolder({"en-de": "1", "fr-de": "a"}, hanging={"2": threading.Event()})
    async with serving(registry := impatient(folder.registry()), SETTINGS) as client:
        folder.versions[name] = "2"
        assert results(await registry.reloader.reload())[name] == "loading"
        newcomer = registry.reloader.newcomers[name]
        del folder.versions[name]
        assert results(await registry.reloader.reload())[name] == "removed"
        assert not registry.reloader.newcomers
        assert name not in await models(client)
        folder.hanging["2"].set()
        await until(lambda: newcomer.state is ModelState.STOPPED)
        await until(lambda: not registry.reloader.dispatchers)
        assert name not in await models(client)


async def test_a_model_of_the_start_that_hangs_is_waited_for_once(serving: Serving) -> None:
    folder = FakeFolder({"en-de": "1", "en-fr": "a"}, hanging={"1": threading.Event()})
    registry = impatient(folder.registry())
    async with serving(registry, SETTINGS, wait=False) as client:
        await until(lambda: registry.dispatchers[1].state is ModelState.READY)
        for version in ("b", "c"):
            folder.versions["en-fr"] = version
            report = await registry.reloader.reload()
            assert results(report) == {"en-de": "loading", "en-fr": "replaced"}
            assert await ask(client, model="en-fr") == version
        folder.hanging["1"].set()
        await until(lambda: not registry.loading)
        assert (await registry.reloader.reload()).ok
        assert await ask(client) == "1"


async def test_a_late_one_that_fails_is_told_and_not_tried_again(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    folder = FakeFolder({"en-de": "1"}, damaged={"2"}, hanging={"2": threading.Event()})
    async with serving(registry := impatient(folder.registry()), SETTINGS) as client:
        folder.versions["en-de"] = "2"
        await registry.reloader.reload()
        looks = folder.num_looks
        folder.hanging["2"].set()
        await until(lambda: not registry.reloader.newcomers)
        await asyncio.sleep(0.05)
        assert folder.num_looks == looks
        assert "model en-de: version 1 goes on" in caplog.messages
        assert (await models(client))["en-de"]["replacement"] == "failed"
        assert (await swaps(client))["failed"] == 1


async def test_a_folder_that_does_not_answer_is_told_so(serving: Serving) -> None:
    folder = FakeFolder({"en-de": "1"})
    async with serving(registry := impatient(folder.registry()), SETTINGS) as client:
        looks = folder.num_looks
        folder.looking.clear()
        folder.versions["en-de"] = "2"
        for _ in range(2):
            report = await registry.reloader.reload()
            assert "the models folder has not answered within 0.1 s" in str(report.problem)
        assert folder.num_looks == looks + 1  # no second thread hangs
        assert await ask(client) == "1"
        folder.looking.set()
        await until(lambda: registry.reloader._looking.done())  # type: ignore[union-attr]
        assert results(await registry.reloader.reload()) == {"en-de": "replaced"}


async def test_the_service_ends_while_all_of_it_hangs(serving: Serving) -> None:
    folder = FakeFolder({"en-de": "1"}, hanging={"2": threading.Event()})
    registry = impatient(folder.registry())
    async with serving(registry, SETTINGS):
        folder.versions["en-de"] = "2"
        await registry.reloader.reload()
        folder.looking.clear()
        reloading = registry.reloader.reload()
        asyncio.get_running_loop().call_later(0.1, folder.hanging["2"].set)
    assert reloading.cancelled() or reloading.done()
    folder.looking.set()


async def test_the_service_ends_in_the_middle_of_a_swap(serving: Serving) -> None:
    folder = FakeFolder({"en-de": "1"})
    registry = folder.registry()
    async with serving(registry, SETTINGS):
        folder.versions["en-de"] = "2"
        folder.loading.clear()
        reloading = registry.reloader.reload()
        await until(lambda: registry.reloader.newcomers)
        newcomer = registry.reloader.newcomers["en-de"]
        asyncio.get_running_loop().call_later(0.1, folder.loading.set)
    assert reloading.cancelled()
    await until(lambda: newcomer.state is ModelState.STOPPED)
    assert all(model.state is ModelState.STOPPED for model in registry.dispatchers)


def model_threads() -> int:
    return sum(thread.name.startswith("model ") for thread in threading.enumerate())


async def test_nothing_is_kept_of_a_model_that_is_gone(serving: Serving) -> None:
    folder = FakeFolder({"en-de": "0"})
    async with serving(registry := folder.registry(), SETTINGS) as client:
        gone: list[weakref.ref[object]] = []
        others = model_threads()  # of tests before this one
        gc.disable()  # a frozen heap is never looked at: no cycle may be left
        try:
            for number in range(1, 6):
                gone.append(weakref.ref(registry.dispatchers[0]))
                gone.append(weakref.ref(folder.translators.popitem()[1]))
                folder.versions["en-de"] = str(number)
                await registry.reloader.reload()
                await ask(client)
            num_threads = model_threads() - others
            await until(lambda: not registry.reloader.dispatchers)
            await until(lambda: not any(reference() for reference in gone))
            assert num_threads <= 1
        finally:
            gc.enable()


async def test_the_series_of_a_version_go_with_it(serving: Serving) -> None:
    folder = FakeFolder({"en-de": "1", "zh-de": "1"})
    async with serving(registry := folder.registry(), SETTINGS) as client:

        async def told() -> str:
            return (await client.get("/metrics")).text

        for model in folder.versions:
            await ask(client, "a 1", model)
        assert 'dragoman_source_pieces_per_word_count{model="en-de",version="1"}' in await told()
        assert 'dragoman_source_pieces_per_word_count{model="zh-de"' not in await told()
        folder.versions = {"en-de": "2"}
        await registry.reloader.reload()
        await ask(client)
        await until(lambda: not registry.reloader.dispatchers)
        text = await told()
        assert 'dragoman_texts_total{model="en-de",version="2"} 1.0' in text
        assert 'dragoman_stage_seconds_count{model="en-de",stage="queue"} 2.0' in text
        assert 'version="1"' not in text
        assert "zh-de" not in text


async def test_load_that_goes_on_through_swaps_meets_no_refusal(serving: Serving) -> None:
    folder = FakeFolder({"en-de": "0"})
    async with serving(registry := folder.registry(), SETTINGS) as client:
        stop = asyncio.Event()

        async def keep_asking() -> list[str]:
            seen = []
            while not stop.is_set():
                seen.append(await ask(client, "two words"))
            return seen

        asking = [asyncio.create_task(keep_asking()) for _ in range(8)]
        for number in range(1, 11):
            folder.versions["en-de"] = str(number)
            assert (await registry.reloader.reload()).ok
            assert await ask(client) == str(number)
        stop.set()
        for seen in await asyncio.gather(*asking):
            assert seen == sorted(seen, key=int)


async def test_the_admin_route_answers_with_what_became_of_each(
    serving: Serving, admin: Admin
) -> None:
    settings, key = admin
    folder = FakeFolder({"en-de": "1", "en-fr": "2"}, damaged={"4"})
    async with serving(folder.registry(), settings) as client:
        client.headers.update(key)
        folder.versions = {"en-de": "3", "en-fr": "2"}
        answer = await client.post("/admin/reload")
        assert answer.status_code == 200
        assert answer.json() == {
            "done": True,
            "ok": True,
            "models": [
                {"name": "en-de", "result": "replaced", "version": "3", "previous": "1"},
                {"name": "en-fr", "result": "unchanged", "version": "2"},
            ],
        }
        folder.versions["en-de"] = "4"
        answer = await client.post("/admin/reload")
        assert answer.status_code == 422
        assert answer.json()["ok"] is False
        assert answer.json()["models"][0]["reason"] == "weights.safetensors is damaged"
        folder.unreadable = True
        answer = await client.post("/admin/reload")
        assert answer.status_code == 422
        assert answer.json()["problem"] == "models cannot be read"


async def test_the_admin_route_waits_as_long_as_it_is_told(serving: Serving, admin: Admin) -> None:
    settings, key = admin
    folder = FakeFolder({"en-de": "1"})
    lifecycle = Lifecycle()
    async with serving(folder.registry(), settings, lifecycle) as client:
        client.headers.update(key)
        folder.versions["en-de"] = "2"
        folder.loading.clear()
        headers = {"X-Deadline-Seconds": "0.05"}
        answer = await client.post("/admin/reload", headers=headers)
        assert (answer.status_code, answer.json()) == (202, NOT_DONE)
        wrong = await client.post("/admin/reload", headers={"X-Deadline-Seconds": "soon"})
        assert wrong.status_code == 422
        waiting = [asyncio.create_task(client.post("/admin/reload")) for _ in "ab"]
        await asyncio.sleep(0.05)
        folder.loading.set()
        for each in waiting:  # they look again, after the one that was under way
            assert (await each).json()["models"][0]["result"] == "unchanged"
        assert await ask(client) == "2"
        folder.versions["en-de"] = "3"
        folder.loading.clear()
        late = asyncio.create_task(client.post("/admin/reload"))
        await asyncio.sleep(0.05)
        lifecycle.phase = Phase.CLOSING
        assert (await late).json()["error"]["code"] == "shutting_down"
        folder.loading.set()


async def test_the_admin_route_tells_what_is_still_loading(serving: Serving, admin: Admin) -> None:
    settings, key = admin
    folder = FakeFolder({"en-de": "1"}, hanging={"2": threading.Event()})
    async with serving(impatient(folder.registry()), settings) as client:
        client.headers.update(key)
        folder.versions["en-de"] = "2"
        answer = await client.post("/admin/reload")
        assert answer.status_code == 202
        assert (answer.json()["done"], answer.json()["ok"]) == (False, False)
        assert answer.json()["models"][0]["result"] == "loading"
        folder.hanging["2"].set()


async def test_the_admin_route_wants_a_key_of_its_scope(
    serving: Serving, admin: Admin, add_key: AddKey
) -> None:
    settings, _ = admin
    usual = add_key("website")
    folder = FakeFolder({"en-de": "1"})
    async with serving(folder.registry(), settings) as client:
        looks = folder.num_looks
        for authorization, status, code in (
            (None, 401, "key_missing"),
            ("Bearer another", 403, "key_refused"),
            ("Basic another", 401, "key_missing"),
            (f"Bearer {usual}", 403, "key_refused"),
        ):
            headers = {} if authorization is None else {"Authorization": authorization}
            answer = await client.post("/admin/reload", headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert folder.num_looks == looks


async def test_without_keys_there_is_no_admin_route(serving: Serving) -> None:
    async with serving(FakeFolder({"en-de": "1"}).registry(), SETTINGS) as client:
        for method in ("GET", "POST"):
            answer = await client.request(method, "/admin/reload")
            assert answer.status_code == 404


def test_an_age_is_over_when_its_last_request_is() -> None:
    visits = Visits()
    first, second = visits.visit(), visits.visit()
    first.__enter__()
    age = visits.end_age()
    second.__enter__()
    assert not visits.over(age)
    first.__exit__(None, None, None)
    assert visits.over(age)
    assert not visits.over(visits.end_age())
    second.__exit__(None, None, None)
    assert visits.over(visits.end_age())
