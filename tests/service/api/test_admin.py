"""The admin route: the result for each model, how long it waits, and the scope it needs."""

import asyncio
import threading
from pathlib import Path

import pytest

from service.access.keys import Scope
from service.lifecycle import Lifecycle, Phase
from service.settings import Settings
from tests.service.conftest import AddKey, Serving
from tests.service.serving.reloads import SETTINGS, FakeFolder, ask, impatient

pytestmark = pytest.mark.anyio

NOT_DONE = {"done": False, "ok": False, "models": []}
Admin = tuple[Settings, dict[str, str]]


@pytest.fixture
def admin(keys_file: Path, add_key: AddKey) -> Admin:
    """A service with keys, and the header of one that may do everything."""
    key = add_key("operator", Scope.ADMIN, Scope.TRANSLATE)
    return Settings(keys_file=keys_file), {"Authorization": f"Bearer {key}"}


async def test_the_admin_route_answers_with_the_result_for_each_model(
    serving: Serving, admin: Admin
) -> None:
    settings, key = admin
    folder = FakeFolder({"en-de": "1", "en-fr": "2"}, damaged={"4"})
    async with serving(folder.reloader(), settings) as client:
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


async def test_the_admin_route_waits_as_long_as_its_header_says(
    serving: Serving, admin: Admin
) -> None:
    settings, key = admin
    folder = FakeFolder({"en-de": "1"})
    lifecycle = Lifecycle()
    async with serving(folder.reloader(), settings, lifecycle) as client:
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


async def test_the_admin_route_reports_models_that_still_load(
    serving: Serving, admin: Admin
) -> None:
    settings, key = admin
    folder = FakeFolder({"en-de": "1"}, hanging={"2": threading.Event()})
    async with serving(impatient(folder.reloader()), settings) as client:
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
    async with serving(folder.reloader(), settings) as client:
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
    async with serving(FakeFolder({"en-de": "1"}).reloader(), SETTINGS) as client:
        for method in ("GET", "POST"):
            answer = await client.request(method, "/admin/reload")
            assert answer.status_code == 404
