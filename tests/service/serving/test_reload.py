"""Reloading models while the service runs: no gap, no lost request, no leak of old models."""

import asyncio
import gc
import threading
import weakref

import pytest

from service.serving.served_model import ModelState
from tests.service.conftest import Serving
from tests.service.serving.reloads import SETTINGS, FakeFolder, ask, models, results, swaps, until

pytestmark = pytest.mark.anyio


async def test_a_reload_of_an_unchanged_folder_changes_nothing(serving: Serving) -> None:
    folder = FakeFolder({"en-de": "1"})
    async with serving(reloader := folder.reloader(), SETTINGS):
        (before,) = reloader.registry.served_models
        assert results(await reloader.reload()) == {"en-de": "unchanged"}
        assert reloader.registry.served_models == [before]


async def test_added_models_are_listed_while_they_load_and_the_service_stays_ready(
    serving: Serving,
) -> None:
    folder = FakeFolder({"en-de": "1"})
    async with serving(reloader := folder.reloader(), SETTINGS) as client:
        folder.versions["en-fr"] = "2"
        folder.loading.clear()
        reloading = reloader.reload()
        await until(lambda: reloader.registry.replacements)
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


async def test_a_replaced_model_serves_until_the_new_one_is_ready_and_finishes_its_requests(
    serving: Serving,
) -> None:
    folder = FakeFolder({"en-de": "1"})
    async with serving(reloader := folder.reloader(), SETTINGS) as client:
        (old,) = reloader.registry.served_models
        folder.versions["en-de"] = "2"
        folder.loading.clear()
        reloading = reloader.reload()
        await until(lambda: reloader.registry.replacements)
        assert (await models(client))["en-de"]["replacement"] == "loading"
        assert (await models(client))["en-de"]["version"] == "1"
        assert (await client.get("/health/ready")).status_code == 200
        assert await ask(client) == "1"
        folder.translators["1"].running.clear()
        held = asyncio.create_task(ask(client, "held"))
        await until(lambda: old.queue_limits.num_texts)
        folder.loading.set()
        assert results(await reloading) == {"en-de": "replaced"}
        assert "replacement" not in (await models(client))["en-de"]
        assert await ask(client) == "2"
        assert not held.done()
        assert old.state is ModelState.READY
        folder.translators["1"].running.set()
        assert await held == "1"
        await until(lambda: old.state is ModelState.STOPPED)
        await until(lambda: not reloader.registry.retired)
        assert (await swaps(client))["replaced"] == 1


async def test_a_request_that_has_chosen_the_old_model_is_answered_by_it(serving: Serving) -> None:
    folder = FakeFolder({"en-de": "1"})
    async with serving(reloader := folder.reloader(), SETTINGS):
        chosen = reloader.registry.choose(model=None, source="en", target="de")
        with chosen.lease():
            folder.versions["en-de"] = "2"
            await reloader.reload()
            assert reloader.registry.choose(model=None, source="en", target="de") is not chosen
            await asyncio.sleep(0.1)  # time to close it by mistake
            answer = await chosen.translate(
                ["a"], None, alignments=False, segmentation="line", deadline_s=5
            )
            (translation,) = answer.translations
            assert translation.text == "a by 1"
            assert chosen.info.version == "1"
        await until(lambda: chosen.state is ModelState.STOPPED)


async def test_a_request_that_never_ends_does_not_keep_the_old_model_for_ever(
    serving: Serving,
) -> None:
    folder = FakeFolder({"en-de": "1"})
    async with serving(reloader := folder.reloader(drain_s=0.1), SETTINGS):
        (old,) = reloader.registry.served_models
        with old.lease():
            folder.versions["en-de"] = "2"
            await reloader.reload()
            await until(lambda: old.state is ModelState.STOPPED)


async def test_a_removed_model_takes_no_requests_and_finishes_the_accepted_ones(
    serving: Serving,
) -> None:
    folder = FakeFolder({"en-de": "1", "en-fr": "2"})
    async with serving(reloader := folder.reloader(), SETTINGS) as client:
        folder.translators["2"].running.clear()
        held = asyncio.create_task(ask(client, "held", "en-fr"))
        await until(lambda: reloader.registry.served_models[1].queue_limits.num_texts)
        del folder.versions["en-fr"]
        report = await reloader.reload()
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


async def test_a_model_renamed_in_the_folder_is_replaced_without_a_gap(serving: Serving) -> None:
    folder = FakeFolder({"en-de-monday": "1"})
    async with serving(reloader := folder.reloader(), SETTINGS) as client:
        folder.versions = {"en-de-tuesday": "2"}
        folder.loading.clear()
        reloading = reloader.reload()
        await until(lambda: reloader.registry.replacements)
        assert await ask(client, model="en-de-monday") == "1"
        folder.loading.set()
        assert results(await reloading) == {"en-de-monday": "removed", "en-de-tuesday": "added"}
        assert await ask(client, model="en-de-tuesday") == "2"


async def test_a_replacement_that_cannot_be_loaded_leaves_the_old_model_serving(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    folder = FakeFolder({"en-de": "1"}, damaged={"2"})
    async with serving(reloader := folder.reloader(), SETTINGS) as client:
        folder.versions["en-de"] = "2"
        report = await reloader.reload()
        (change,) = report.changes
        assert not report.ok
        assert (change.result, change.version, change.previous) == ("failed", "2", "1")
        assert change.reason == "weights.safetensors is damaged"
        assert "model en-de failed to load: weights.safetensors is damaged" in caplog.messages
        assert "model en-de: version 1 keeps serving" in caplog.messages
        found = (await models(client))["en-de"]
        assert (found["status"], found["version"], found["replacement"]) == ("ready", "1", "failed")
        assert await ask(client) == "1"
        assert (await client.get("/health/ready")).status_code == 200
        assert (await swaps(client))["failed"] == 1
        folder.versions["en-de"] = "1"  # taken back
        assert (await reloader.reload()).ok
        assert "replacement" not in (await models(client))["en-de"]


async def test_a_failed_model_is_loaded_again(serving: Serving) -> None:
    folder = FakeFolder({"en-de": "1", "en-fr": "2"}, damaged={"2"})
    async with serving(reloader := folder.reloader(), SETTINGS) as client:
        assert (await models(client))["en-fr"]["status"] == "failed"
        assert results(await reloader.reload())["en-fr"] == "failed"  # still
        assert (await models(client))["en-fr"]["status"] == "failed"
        folder.damaged.clear()
        assert results(await reloader.reload())["en-fr"] == "replaced"
        assert await ask(client, model="en-fr") == "2"


async def test_an_unreadable_folder_changes_nothing(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    folder = FakeFolder({"en-de": "1"})
    async with serving(reloader := folder.reloader(), SETTINGS) as client:
        folder.unreadable = True
        report = await reloader.reload()
        assert report.problem == "models cannot be read"
        assert "reload: no model was changed: models cannot be read" in caplog.messages
        assert await ask(client) == "1"


async def test_the_service_keeps_running_without_a_model(serving: Serving) -> None:
    folder = FakeFolder({"en-de": "1"}, damaged={"2"})
    async with serving(reloader := folder.reloader(), SETTINGS) as client:
        folder.versions = {"en-fr": "2"}
        await reloader.reload()
        assert not reloader.registry.none_loads  # at which the process would leave
        assert (await client.get("/health/ready")).json()["status"] == "no model"


async def test_simultaneous_reloads_are_merged_and_read_the_latest_folder(serving: Serving) -> None:
    folder = FakeFolder({"en-de": "1"})
    async with serving(reloader := folder.reloader(), SETTINGS) as client:
        looks = folder.num_looks
        folder.looking.clear()
        first = reloader.reload()
        await until(lambda: folder.num_looks > looks)
        folder.versions["en-de"] = "2"
        later = [reloader.reload() for _ in range(5)]
        assert len({first, *later}) == 2
        folder.versions["en-de"] = "3"
        folder.looking.set()
        await asyncio.gather(first, *later)
        assert folder.num_looks == looks + 2
        assert await ask(client) == "3"


async def test_a_third_version_waits_until_the_first_is_closed(serving: Serving) -> None:
    folder = FakeFolder({"en-de": "1"})
    async with serving(reloader := folder.reloader(), SETTINGS) as client:
        (first,) = reloader.registry.served_models
        folder.translators["1"].running.clear()
        held = asyncio.create_task(ask(client))
        await until(lambda: first.queue_limits.num_texts)
        for version in ("2", "3"):
            folder.versions["en-de"] = version
            reloading = reloader.reload()
            await asyncio.wait({reloading}, timeout=0.2)
        assert not reloading.done()
        assert [version for _, version, _ in folder.opened] == ["1", "2"]
        assert await ask(client) == "2"
        folder.translators["1"].running.set()
        await reloading
        assert await held == "1"
        assert await ask(client) == "3"


async def test_a_reload_waits_for_a_model_that_still_loads(serving: Serving) -> None:
    folder = FakeFolder({"en-de": "1"})
    folder.loading.clear()
    async with serving(reloader := folder.reloader(), SETTINGS, wait=False) as client:
        reloading = reloader.reload()
        await asyncio.sleep(0.05)
        folder.loading.set()
        assert results(await reloading) == {"en-de": "unchanged"}
        assert await ask(client) == "1"
    assert len(folder.opened) == 1


async def test_the_service_ends_in_the_middle_of_a_swap(serving: Serving) -> None:
    folder = FakeFolder({"en-de": "1"})
    reloader = folder.reloader()
    async with serving(reloader, SETTINGS):
        folder.versions["en-de"] = "2"
        folder.loading.clear()
        reloading = reloader.reload()
        await until(lambda: reloader.registry.replacements)
        replacement = reloader.registry.replacements["en-de"]
        asyncio.get_running_loop().call_later(0.1, folder.loading.set)
    assert reloading.cancelled()
    await until(lambda: replacement.state is ModelState.STOPPED)
    assert all(model.state is ModelState.STOPPED for model in reloader.registry.served_models)


def model_threads() -> int:
    return sum(thread.name.startswith("model ") for thread in threading.enumerate())


async def test_a_removed_model_leaves_nothing_in_memory(serving: Serving) -> None:
    folder = FakeFolder({"en-de": "0"})
    async with serving(reloader := folder.reloader(), SETTINGS) as client:
        gone: list[weakref.ref[object]] = []
        others = model_threads()  # of tests before this one
        gc.disable()  # a frozen heap is never looked at: no cycle may be left
        try:
            for number in range(1, 6):
                gone.append(weakref.ref(reloader.registry.served_models[0]))
                gone.append(weakref.ref(folder.translators.popitem()[1]))
                folder.versions["en-de"] = str(number)
                await reloader.reload()
                await ask(client)
            num_threads = model_threads() - others
            await until(lambda: not reloader.registry.retired)
            await until(lambda: not any(reference() for reference in gone))
            assert num_threads <= 1
        finally:
            gc.enable()


async def test_the_metrics_of_a_closed_version_are_removed(serving: Serving) -> None:
    folder = FakeFolder({"en-de": "1", "zh-de": "1"})
    async with serving(reloader := folder.reloader(), SETTINGS) as client:

        async def metrics_text() -> str:
            return (await client.get("/metrics")).text

        for model in folder.versions:
            await ask(client, "a 1", model)
        assert (
            'dragoman_source_pieces_per_word_count{model="en-de",version="1"}'
            in await metrics_text()
        )
        assert 'dragoman_source_pieces_per_word_count{model="zh-de"' not in await metrics_text()
        folder.versions = {"en-de": "2"}
        await reloader.reload()
        await ask(client)
        await until(lambda: not reloader.registry.retired)
        text = await metrics_text()
        assert 'dragoman_texts_total{model="en-de",version="2"} 1.0' in text
        assert 'dragoman_stage_seconds_count{model="en-de",stage="queue"} 2.0' in text
        assert 'version="1"' not in text
        assert "zh-de" not in text


async def test_requests_during_model_swaps_are_not_refused(serving: Serving) -> None:
    folder = FakeFolder({"en-de": "0"})
    async with serving(reloader := folder.reloader(), SETTINGS) as client:
        stop = asyncio.Event()

        async def keep_asking() -> list[str]:
            seen = []
            while not stop.is_set():
                seen.append(await ask(client, "two words"))
            return seen

        asking = [asyncio.create_task(keep_asking()) for _ in range(8)]
        for number in range(1, 11):
            folder.versions["en-de"] = str(number)
            assert (await reloader.reload()).ok
            assert await ask(client) == str(number)
        stop.set()
        for seen in await asyncio.gather(*asking):
            assert seen == sorted(seen, key=int)
