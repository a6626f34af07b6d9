"""API keys in each API: valid, missing and wrong keys, scopes, and routes open without a key."""

import json
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Request

from service.access.callers import require
from service.access.keys import KeysFile, Scope, write_keys
from service.http.app import create_app
from service.request_context import context_of
from service.settings import Settings
from tests.service.access.asking import (
    ASKED,
    GOOGLE,
    NATIVE,
    PLACES,
    WRONG,
    bearer,
)
from tests.service.api.hostile import MARK, TEXTS
from tests.service.conftest import AddKey, Serving
from tests.service.fakes import fake_registry

pytestmark = pytest.mark.anyio
SCOPES = (Scope.TRANSLATE, Scope.METRICS, Scope.ADMIN)
SHAPES = {"native": "error", "libre": "error", "deepl": "message", "google": "error"}


@pytest.mark.parametrize("place", PLACES)
async def test_a_valid_key_is_accepted_and_other_keys_are_refused(
    place: str, serving: Serving, keys_file: Path, add_key: AddKey
) -> None:
    send, missing_status, wrong_status = PLACES[place]
    key = add_key("website")
    settings = Settings(keys_file=keys_file)
    async with serving(fake_registry(settings, "en-de", "de-en"), settings) as client:
        assert (await send(client, key)).status_code == 200
        missing = await send(client, None)
        assert missing.status_code == missing_status
        wrong = await send(client, WRONG)
        assert wrong.status_code == wrong_status
        for answer in (missing, wrong):
            assert SHAPES.get(place.split()[0], "status") in answer.json()
            assert WRONG not in answer.text
            assert "website" not in answer.text
        assert ("www-authenticate" in missing.headers) == (missing_status == 401)
        # The owner's name is no key; the answer does not show whether such an owner exists.
        assert (await send(client, "website")).text == wrong.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200), ("/docs", 200), ("/openapi.json", 200), ("/health", 200),
        ("/health/live", 200), ("/health/ready", 200), ("/languages", 200), ("/listPairs", 200),
        ("/frontend/settings", 200), ("/page/0/page.js", 200),
        ("/v1/models", 401), ("/metrics", 401), ("/v1/nothing", 401), ("/nothing", 401),
        ("/V1/translate", 401), ("/page/../v1/models", 401), ("/docs/", 401), ("//docs", 401),
        ("/translate_file", 403), ("/v2/languages", 403), (f"{GOOGLE}/languages", 403),
    ],
)  # fmt: skip
async def test_routes_that_are_open_without_a_key(
    serving: Serving, keys_file: Path, path: str, status: int
) -> None:
    settings = Settings(keys_file=keys_file)
    async with serving(fake_registry(settings, "en-de"), settings) as client:
        url = httpx.URL("http://test").copy_with(raw_path=path.encode())
        answer = await client.get(url)
        assert answer.status_code in (status, 404 if status < 400 else status)
        assert answer.status_code == status


async def test_every_route_needs_a_key_or_is_listed_here(serving: Serving, keys_file: Path) -> None:
    """A new route needs a key by default; this checks all routes that exist."""
    settings = Settings(keys_file=keys_file)
    async with serving(fake_registry(settings, "en-de"), settings) as client:
        document = (await client.get("/openapi.json")).json()
        open_routes = set()
        for path, methods in document["paths"].items():
            for method in methods:
                answer = await client.request(method, path)
                if answer.status_code not in (401, 403):
                    open_routes.add(path)
    assert open_routes == {
        "/health", "/health/live", "/health/ready", "/languages", "/listPairs",
        "/frontend/settings",
    }  # fmt: skip


async def test_scopes(serving: Serving, keys_file: Path, add_key: AddKey) -> None:
    keys = {scope: add_key(scope.value, scope) for scope in Scope}
    settings = Settings(keys_file=keys_file)
    async with serving(fake_registry(settings, "en-de"), settings) as client:

        async def statuses(scope: Scope) -> tuple[int, int, int]:
            headers = bearer(keys[scope])
            return (
                (await client.post("/v1/translate", json=NATIVE, headers=headers)).status_code,
                (await client.get("/metrics", headers=headers)).status_code,
                (await client.get("/v1/models", headers=headers)).status_code,
            )

        assert await statuses(Scope.TRANSLATE) == (200, 403, 200)
        assert await statuses(Scope.METRICS) == (403, 200, 403)
        assert await statuses(Scope.ADMIN) == (403, 403, 200)


async def test_a_missing_scope_is_named_with_the_way_to_it(
    serving: Serving, keys_file: Path, add_key: AddKey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="dragoman")
    translate, metrics, admin = (add_key(scope.value, scope) for scope in SCOPES)
    settings = Settings(keys_file=keys_file)
    async with serving(fake_registry(settings, "en-de"), settings) as client:
        for method, path, key, scope in (
            ("GET", "/metrics", translate, "metrics"),
            ("POST", "/admin/reload", translate, "admin"),
            ("POST", "/v1/translate", metrics, "translate"),
            ("POST", "/v1/translate", admin, "translate"),  # which may come in, but no further
        ):
            answer = await client.request(method, path, json=NATIVE, headers=bearer(key))
            assert answer.status_code == 403
            message = answer.json()["error"]["message"]
            assert f"lacks the scope {scope};" in message
            assert f"dragoman keys add FILE NAME --scope {scope}" in message
            line = [each for each in caplog.messages if each.startswith("request ")][-1]
            assert f" {method} {path} 403 " in line
            assert line.endswith("refusal=key_refused")


async def test_lines_of_refused_requests_name_the_route_and_not_the_path(
    serving: Serving, keys_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="dragoman.request")
    settings = Settings(keys_file=keys_file)
    async with serving(fake_registry(settings, "en-de"), settings) as client:
        for method, path, route in (
            ("POST", "/v1/translate", "/v1/translate"),
            ("POST", "/translate", "/translate"),
            ("POST", "/v2/translate?SECRET", "/v2/translate"),
            ("GET", "/v1/models", "/v1/models"),
            ("GET", "/SECRET", "-"),
        ):
            for headers in ({}, bearer(WRONG)):
                answer = await client.request(method, path, headers=headers)
                assert answer.status_code in (401, 403)
                assert f" {method} {route} {answer.status_code} " in caplog.messages[-1]
    assert "SECRET" not in caplog.text


async def test_an_admin_route(serving: Serving, keys_file: Path, add_key: AddKey) -> None:
    admin, other = add_key("ops", Scope.ADMIN), add_key("site")
    for settings, expected in (
        (Settings(keys_file=keys_file), {admin: 200, other: 403, None: 401}),
        (Settings(), {admin: 403, other: 403, None: 403}),  # a service without keys has no admin
    ):
        app = create_app(fake_registry(settings, "en-de"), settings)

        @app.asgi.post("/v1/admin/nothing")
        async def nothing(request: Request) -> None:
            require(context_of(request.scope).caller, Scope.ADMIN)

        transport = httpx.ASGITransport(app.asgi)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            for key, status in expected.items():
                answer = await client.post("/v1/admin/nothing", headers=bearer(key))
                assert answer.status_code == status
        app.access.close()


async def test_a_wrong_key_is_refused_before_the_body_is_checked(
    serving: Serving, keys_file: Path
) -> None:
    settings = Settings(keys_file=keys_file)
    async with serving(fake_registry(settings, "en-de"), settings) as client:
        for body in ("{", '{"text": "\\u0000"}', '{"text": 5}', "[" * 5000):
            headers = {**bearer(WRONG), "Content-Type": "application/json"}
            answer = await client.post("/v1/translate", content=body, headers=headers)
            assert answer.json()["error"]["code"] == "key_refused"
        many = {**ASKED, "q": ["x"] * 5000, "api_key": WRONG}
        assert (await client.post("/translate", json=many)).status_code == 403


@pytest.mark.parametrize(
    ("value", "status"),
    [(5, 403), (True, 403), ([WRONG], 403), ({"a": 1}, 403), ("", 403), (None, 403), (0, 403)],
)
async def test_a_value_that_is_not_a_key_is_refused(
    serving: Serving, keys_file: Path, value: Any, status: int
) -> None:
    settings = Settings(keys_file=keys_file)
    async with serving(fake_registry(settings, "en-de"), settings) as client:
        answer = await client.post("/translate", json={**ASKED, "api_key": value})
        assert answer.status_code == status
        answer = await client.post("/translate?api_key=a&api_key=b", json=ASKED)
        assert answer.status_code == 403


async def test_hostile_keys(serving: Serving, keys_file: Path, add_key: AddKey) -> None:
    add_key("website")
    settings = Settings(keys_file=keys_file)
    async with serving(fake_registry(settings, "en-de"), settings) as client:
        for text in TEXTS:
            plain = text.encode("utf-8", "ignore").decode()
            for answer in (
                await client.post("/translate", content=json.dumps({"api_key": text})),
                await client.post(
                    "/translate",
                    content=json.dumps({**ASKED, "api_key": text}),
                    headers={"Content-Type": "application/json"},
                ),
                await client.post("/translate", params={"api_key": plain[:2000]}),
                await client.get(f"{GOOGLE}/languages", params={"key": plain[:2000]}),
                await client.get(
                    "/v1/models", headers=[(b"x-api-key", plain.encode().replace(b"\0", b""))]
                ),
            ):
                assert answer.status_code in (400, 401, 403, 415), text
                assert MARK not in answer.text


async def test_libretranslates_settings_say_that_a_key_is_needed(
    serving: Serving, keys_file: Path
) -> None:
    for settings, needed in ((Settings(), False), (Settings(keys_file=keys_file), True)):
        async with serving(fake_registry(settings, "en-de"), settings) as client:
            frontend = (await client.get("/frontend/settings")).json()
            assert (frontend["apiKeys"], frontend["keyRequired"]) == (needed, needed)


async def test_keys_appear_in_no_output(
    serving: Serving,
    keys_file: Path,
    add_key: AddKey,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.access.keyring.LOOK_EVERY_S", 0.0)
    caplog.set_level(logging.WARNING, logger="httpx")  # the client's own lines
    caplog.set_level(logging.INFO)
    key, metrics = add_key("website", rate="100/hour"), add_key("prometheus", Scope.METRICS)
    settings = Settings(keys_file=keys_file)
    output = ""
    async with serving(fake_registry(settings, "en-de"), settings) as client:
        for _ in range(10):
            for send, *_ in PLACES.values():
                for presented in (key, WRONG):
                    output += (await send(client, presented)).text
        output += (await client.get(f"/{key}?key={key}", headers={"X-Request-ID": "a"})).text
        output += (await client.get("/metrics", headers=bearer(metrics))).text
        add_key("later")  # the file is read again, which is logged
        output += (await client.get("/metrics", headers=bearer(metrics))).text
    captured = capfd.readouterr()
    for text in (caplog.text, output, captured.out, captured.err):
        for secret in (key, metrics, WRONG, keys_file.read_text().split('"sha256": "')[1][:64]):
            assert secret not in text
    assert "key=website" in caplog.text  # names are the operator's own


async def test_a_key_is_revoked_while_running(
    serving: Serving, keys_file: Path, add_key: AddKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.access.keyring.LOOK_EVERY_S", 0.0)
    key = add_key("website")
    settings = Settings(keys_file=keys_file)
    async with serving(fake_registry(settings, "en-de"), settings) as client:
        assert (await PLACES["native"][0](client, key)).status_code == 200
        write_keys(keys_file, KeysFile())
        assert (await PLACES["native"][0](client, key)).status_code == 403
        later = add_key("later")
        assert (await PLACES["native"][0](client, later)).status_code == 200
