"""A load or a folder that hangs does not delay other models, and can be withdrawn."""

import asyncio
import threading

import pytest

from service.serving.served_model import ModelState
from tests.service.conftest import Serving
from tests.service.serving.reloads import (
    SETTINGS,
    FakeFolder,
    ask,
    impatient,
    models,
    results,
    swaps,
    until,
)

pytestmark = pytest.mark.anyio


async def test_a_hanging_load_does_not_block_the_reload_of_other_models(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    folder = FakeFolder({"en-de": "1", "en-fr": "a"}, hanging={"2": threading.Event()})
    async with serving(reloader := impatient(folder.reloader()), SETTINGS) as client:
        folder.versions = {"en-de": "2", "en-fr": "b"}
        report = await reloader.reload()
        assert results(report) == {"en-de": "loading", "en-fr": "replaced"}
        assert (report.ok, report.done) == (False, False)
        (late,) = [change for change in report.changes if change.name == "en-de"]
        assert (late.version, late.previous) == ("2", "1")
        assert "takes over when it has loaded" in str(late.reason)
        assert (
            "model en-de: still loading after 0.3 s; the reload goes on without it"
            in caplog.messages
        )
        folder.versions["en-fr"] = "c"
        report = await reloader.reload()
        assert results(report) == {"en-de": "loading", "en-fr": "replaced"}
        assert (await models(client))["en-de"]["replacement"] == "loading"
        assert await ask(client) == "1"
        assert await ask(client, model="en-fr") == "c"
        assert (await client.get("/health/ready")).status_code == 200
        assert [version for _, version, _ in folder.opened].count("2") == 1
        folder.versions["en-de"] = "3"  # seen when the late one has come
        folder.hanging["2"].set()
        await until(lambda: folder.translators.get("3"))
        await until(lambda: not reloader.registry.replacements)
        assert await ask(client) == "3"
        assert (await swaps(client))["replaced"] == 4
        assert (await reloader.reload()).ok


async def test_a_deleted_model_serves_until_a_new_model_of_its_pair_has_loaded(
    serving: Serving,
) -> None:
    folder = FakeFolder({"en-de-monday": "1"}, hanging={"2": threading.Event()})
    async with serving(reloader := impatient(folder.reloader()), SETTINGS) as client:
        folder.versions = {"en-de-tuesday": "2"}
        for _ in range(2):
            report = await reloader.reload()
            assert results(report) == {"en-de-monday": "unchanged", "en-de-tuesday": "loading"}
            assert report.changes[0].reason == "it is removed when en-de-tuesday has loaded"
            assert await ask(client, model="en-de-monday") == "1"
        folder.hanging["2"].set()
        await until(lambda: len(reloader.registry.served_models) == 1)
        assert await ask(client, model="en-de-tuesday") == "2"


@pytest.mark.parametrize("name", ["en-de", "en-fr"])
async def test_a_hanging_load_can_be_withdrawn(serving: Serving, name: str) -> None:
    folder = FakeFolder({"en-de": "1", "fr-de": "a"}, hanging={"2": threading.Event()})
    async with serving(reloader := impatient(folder.reloader()), SETTINGS) as client:
        folder.versions[name] = "2"
        assert results(await reloader.reload())[name] == "loading"
        replacement = reloader.registry.replacements[name]
        del folder.versions[name]
        assert results(await reloader.reload())[name] == "removed"
        assert not reloader.registry.replacements
        assert name not in await models(client)
        folder.hanging["2"].set()
        await until(lambda: replacement.state is ModelState.STOPPED)
        await until(lambda: not reloader.registry.retired)
        assert name not in await models(client)


async def test_a_model_that_hangs_at_the_start_is_waited_for_once(serving: Serving) -> None:
    folder = FakeFolder({"en-de": "1", "en-fr": "a"}, hanging={"1": threading.Event()})
    reloader = impatient(folder.reloader())
    async with serving(reloader, SETTINGS, wait=False) as client:
        await until(lambda: reloader.registry.served_models[1].state is ModelState.READY)
        for version in ("b", "c"):
            folder.versions["en-fr"] = version
            report = await reloader.reload()
            assert results(report) == {"en-de": "loading", "en-fr": "replaced"}
            assert await ask(client, model="en-fr") == version
        folder.hanging["1"].set()
        await until(lambda: not reloader.registry.loading)
        assert (await reloader.reload()).ok
        assert await ask(client) == "1"


async def test_a_late_load_that_fails_is_reported_and_not_retried(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    folder = FakeFolder({"en-de": "1"}, damaged={"2"}, hanging={"2": threading.Event()})
    async with serving(reloader := impatient(folder.reloader()), SETTINGS) as client:
        folder.versions["en-de"] = "2"
        await reloader.reload()
        looks = folder.num_looks
        folder.hanging["2"].set()
        await until(lambda: not reloader.registry.replacements)
        await asyncio.sleep(0.05)
        assert folder.num_looks == looks
        assert "model en-de: version 1 keeps serving" in caplog.messages
        assert (await models(client))["en-de"]["replacement"] == "failed"
        assert (await swaps(client))["failed"] == 1


async def test_a_folder_that_does_not_respond_is_reported(serving: Serving) -> None:
    folder = FakeFolder({"en-de": "1"})
    async with serving(reloader := impatient(folder.reloader()), SETTINGS) as client:
        looks = folder.num_looks
        folder.looking.clear()
        folder.versions["en-de"] = "2"
        for _ in range(2):
            report = await reloader.reload()
            assert "the models folder could not be listed within 0.3 s" in str(report.problem)
        assert folder.num_looks == looks + 1  # no second thread hangs
        assert await ask(client) == "1"
        folder.looking.set()
        await until(lambda: reloader._listing.done())  # type: ignore[union-attr]
        assert results(await reloader.reload()) == {"en-de": "replaced"}


async def test_the_service_shuts_down_while_all_models_hang(serving: Serving) -> None:
    folder = FakeFolder({"en-de": "1"}, hanging={"2": threading.Event()})
    reloader = impatient(folder.reloader())
    async with serving(reloader, SETTINGS):
        folder.versions["en-de"] = "2"
        await reloader.reload()
        folder.looking.clear()
        reloading = reloader.reload()
        asyncio.get_running_loop().call_later(0.1, folder.hanging["2"].set)
    assert reloading.cancelled() or reloading.done()
    folder.looking.set()
