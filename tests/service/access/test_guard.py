"""Keys, rates and quotas as clients of each API meet them."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from service.access.callers import require
from service.access.guard import Access
from service.access.keys import KeysFile, Scope, write_keys
from service.app import create_app
from service.settings import Settings
from tests.service.conftest import AddKey, Serving
from tests.service.faces.hostile import MARK, TEXTS
from tests.service.fakes import fake_registry

pytestmark = pytest.mark.anyio
WRONG = "dgm_WRONGKEYWRONGKEY"
Send = Callable[[httpx.AsyncClient, str | None], Any]

ASKED = {"q": "good morning", "source": "en", "target": "de"}


def bearer(key: str | None, scheme: str = "Bearer") -> dict[str, str]:
    return {} if key is None else {"Authorization": f"{scheme} {key}"}


def given(name: str, key: str | None) -> dict[str, str]:
    return {} if key is None else {name: key}


NATIVE = {"text": "good morning", "source": "en", "target": "de"}
DEEPL = {"text": ["good morning"], "target_lang": "DE"}
GOOGLE = "/language/translate/v2"
# Every place where a client of each API may put its key, and what it gets for none and a wrong one.
PLACES: dict[str, tuple[Send, int, int]] = {
    "native": (lambda c, k: c.post("/v1/translate", json=NATIVE, headers=bearer(k)), 401, 403),
    "native x": (
        lambda c, k: c.post("/v1/translate", json=NATIVE, headers=given("X-API-Key", k)), 401, 403,
    ),
    "native score": (
        lambda c, k: c.post(
            "/v1/score",
            json={"source": "en", "target": "de", "pairs": [{"source": "a", "target": "b"}]},
            headers=bearer(k, "bEaReR "),
        ), 401, 403,
    ),
    "native models": (lambda c, k: c.get("/v1/models", headers=bearer(k)), 401, 403),
    "libre json": (lambda c, k: c.post("/translate", json={**ASKED, "api_key": k}), 403, 403),
    "libre npm": (lambda c, k: c.post("/translate", json={**ASKED, "apiKey": k}), 403, 403),
    "libre form": (
        lambda c, k: c.post("/translate", data={**ASKED, **given("api_key", k)}), 403, 403,
    ),
    "libre multipart": (
        lambda c, k: c.post(
            "/translate", files={n: (None, v) for n, v in {**ASKED, "api_key": k or ""}.items()}
        ), 403, 403,
    ),
    "libre query": (
        lambda c, k: c.post("/translate", params={**ASKED, **given("api_key", k)}), 403, 403,
    ),
    "libre bearer": (lambda c, k: c.post("/translate", json=ASKED, headers=bearer(k)), 403, 403),
    "libre detect": (lambda c, k: c.post("/detect", json={"q": "a", "api_key": k}), 403, 403),
    "deepl": (
        lambda c, k: c.post("/v2/translate", json=DEEPL, headers=bearer(k, "DeepL-Auth-Key")),
        403, 403,
    ),
    "deepl usage": (
        lambda c, k: c.get("/v2/usage", headers=bearer(k, "DeepL-Auth-Key")), 403, 403,
    ),
    "google bearer": (
        lambda c, k: c.post(GOOGLE, json={"q": "a b", "target": "de"}, headers=bearer(k)), 403, 403,
    ),
    "google header": (
        lambda c, k: c.post(
            GOOGLE, json={"q": "a b", "target": "de"}, headers=given("X-Goog-Api-Key", k)
        ), 403, 403,
    ),
    "google query": (
        lambda c, k: c.get(f"{GOOGLE}/languages", params=given("key", k)), 403, 403,
    ),
    "google form": (
        lambda c, k: c.post(GOOGLE, data={"q": "a b", "target": "de", **given("key", k)}), 403, 403,
    ),
    "apertium": (
        lambda c, k: c.get(
            "/translate", params={"q": "a b", "langpair": "en|de", **given("key", k)}
        ), 403, 403,
    ),
}  # fmt: skip
SCOPES = (Scope.TRANSLATE, Scope.METRICS, Scope.ADMIN)
SHAPES = {"native": "error", "libre": "error", "deepl": "message", "google": "error"}


@pytest.mark.parametrize("place", PLACES)
async def test_a_key_opens_and_others_do_not(
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
        # The owner's name is no key, and does not tell whether there is one.
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
async def test_what_is_open(serving: Serving, keys_file: Path, path: str, status: int) -> None:
    settings = Settings(keys_file=keys_file)
    async with serving(fake_registry(settings, "en-de"), settings) as client:
        url = httpx.URL("http://test").copy_with(raw_path=path.encode())
        answer = await client.get(url)
        assert answer.status_code in (status, 404 if status < 400 else status)
        assert answer.status_code == status


async def test_every_route_is_behind_the_guard_or_listed_here(
    serving: Serving, keys_file: Path
) -> None:
    """A route that somebody adds is closed; this says so for those there are."""
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
        (Settings(), {admin: 403, other: 403, None: 403}),  # without keys nobody is an admin
    ):
        app = create_app(fake_registry(settings, "en-de"), settings)

        @app.post("/v1/admin/nothing")
        async def nothing(request: Request) -> None:
            require(request, Scope.ADMIN)

        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            for key, status in expected.items():
                answer = await client.post("/v1/admin/nothing", headers=bearer(key))
                assert answer.status_code == status
        app.state.access.close()


async def test_a_wrong_key_is_told_before_the_texts_are_looked_at(
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
async def test_what_is_no_key(serving: Serving, keys_file: Path, value: Any, status: int) -> None:
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


async def test_libretranslate_is_told_that_it_needs_a_key(
    serving: Serving, keys_file: Path
) -> None:
    for settings, needed in ((Settings(), False), (Settings(keys_file=keys_file), True)):
        async with serving(fake_registry(settings, "en-de"), settings) as client:
            told = (await client.get("/frontend/settings")).json()
            assert (told["apiKeys"], told["keyRequired"]) == (needed, needed)


async def test_a_quota_in_every_dialect(serving: Serving, keys_file: Path, add_key: AddKey) -> None:
    key = add_key("website", characters_per_month=50)
    settings = Settings(keys_file=keys_file)
    async with serving(fake_registry(settings, "en-de"), settings) as client:
        headers = bearer(key, "DeepL-Auth-Key")
        for _ in range(4):  # "good morning" has 12 characters
            answer = await client.post("/v2/translate", json=DEEPL, headers=headers)
            assert answer.status_code == 200
            failed = {**DEEPL, "target_lang": "FR"}  # costs nothing
            assert (await client.post("/v2/translate", json=failed, headers=headers)).is_error
        usage = (await client.get("/v2/usage", headers=headers)).json()
        assert usage == {"character_count": 48, "character_limit": 50}
        for place, status in (("deepl", 456), ("native", 403), ("libre json", 403)):
            refused = await PLACES[place][0](client, key)
            assert refused.status_code == status
            assert "50 characters a month has 2 left" in refused.text
        small = {"q": "ab", "target": "de", "source": "en"}
        assert (await client.post(GOOGLE, json=small, headers=bearer(key))).status_code == 200
        assert (await client.post(GOOGLE, json=small, headers=bearer(key))).status_code == 403


async def test_detection_spends_no_quota_but_counts_in_the_rate(
    serving: Serving, keys_file: Path, add_key: AddKey
) -> None:
    key = add_key("website", characters_per_month=5, rate="2/hour")
    settings = Settings(keys_file=keys_file)
    async with serving(fake_registry(settings, "en-de", "de-en"), settings) as client:
        asked = {"q": "more than five characters", "api_key": key}
        for status in (200, 200, 429):
            assert (await client.post("/detect", json=asked)).status_code == status
        usage = await client.get("/v2/usage", headers=bearer(key, "DeepL-Auth-Key"))
        assert usage.json() == {"character_count": 0, "character_limit": 5}


async def test_usage_of_a_key_without_a_quota(
    serving: Serving, keys_file: Path, add_key: AddKey
) -> None:
    one, other = add_key("one"), add_key("other")
    settings = Settings(keys_file=keys_file)
    async with serving(fake_registry(settings, "en-de"), settings) as client:
        await PLACES["native"][0](client, one)
        for key, count in ((one, 12), (other, 0)):
            headers = bearer(key, "DeepL-Auth-Key")
            usage = (await client.get("/v2/usage", headers=headers)).json()
            assert usage["character_count"] == count
            assert usage["character_limit"] > 10**9


async def test_a_rate_counts_texts_and_is_exact(serving: Serving) -> None:
    settings = Settings(rate_limit="60/minute")
    async with serving(fake_registry(settings, "en-de"), settings) as client:
        fifty = {**NATIVE, "text": ["a"] * 50}
        assert (await client.post("/v1/translate", json=fifty)).status_code == 200
        refused = await client.post("/v1/translate", json=fifty)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "rate_limited"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        for _ in range(10):
            assert (await client.post("/translate", json=ASKED)).status_code == 200
        for place in ("native", "libre json", "deepl", "google bearer", "apertium"):
            refused = await PLACES[place][0](client, None)
            assert refused.status_code == 429
            assert "retry-after" in refused.headers
        hundred = await client.post("/v1/translate", json={**NATIVE, "text": ["a"] * 100})
        assert hundred.status_code == 413  # waiting would not help
        assert (await client.get("/health/live")).status_code == 200


async def test_what_is_refused_costs_no_rate(serving: Serving) -> None:
    settings = Settings(rate_limit="2/hour")
    registry = fake_registry(settings, "en-de")
    async with serving(registry, settings) as client:

        async def statuses(**parts: str) -> list[int]:
            body = {**ASKED, **parts}
            return [(await client.post("/translate", json=body)).status_code for _ in range(4)]

        assert 429 not in await statuses(target="xx")
        (model,) = registry.dispatchers
        model.admission.num_texts += settings.max_queue_texts  # there is no room
        full = await client.post("/v1/translate", json=NATIVE)
        assert full.json()["error"]["code"] == "queue_full"
        model.admission.num_texts -= settings.max_queue_texts
        assert await statuses() == [200, 200, 429, 429]


async def test_markup_counts_as_the_text_it_is(serving: Serving) -> None:
    settings = Settings(rate_limit="2/minute")
    async with serving(fake_registry(settings, "en-de"), settings) as client:
        html = {**ASKED, "q": "<p>a</p><p>b</p><p>c</p>", "format": "html"}
        assert (await client.post("/translate", json=html)).status_code == 200


async def test_each_key_has_its_own_rate(
    serving: Serving, keys_file: Path, add_key: AddKey
) -> None:
    keys = {
        add_key("slow", rate="1/hour"): 1,
        add_key("usual"): 3,
        add_key("fast", rate="9/hour"): 9,
    }
    settings = Settings(keys_file=keys_file, rate_limit="3/hour")
    async with serving(fake_registry(settings, "en-de"), settings) as client:
        for key, count in keys.items():
            answers = [await PLACES["native"][0](client, key) for _ in range(10)]
            assert [answer.status_code for answer in answers].count(200) == count


def client_at(app: FastAPI, address: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, client=(address, 1234))
    return httpx.AsyncClient(transport=transport, base_url="http://test")


@pytest.mark.parametrize(
    ("proxies", "address", "expected"),
    [
        (None, "127.0.0.1", 30),  # forged: all are one client
        ("10.0.0.0/8", "127.0.0.1", 30),
        ("10.0.0.0/8, 192.0.2.1", "10.1.2.3", 1000),  # each is a client of its own
    ],
)
async def test_forwarded_addresses(proxies: str | None, address: str, expected: int) -> None:
    settings = Settings(rate_limit="30/hour", trusted_proxies=proxies)
    registry = fake_registry(settings, "en-de")
    app = create_app(registry, settings)
    passed = 0
    async with app.router.lifespan_context(app), client_at(app, address) as client:
        while registry.loading:
            await client.get("/health/live")
        for number in range(1000):
            headers = {"X-Forwarded-For": f"1.2.{number // 250}.{number % 250}"}
            answer = await client.post(
                "/v1/translate", json={**NATIVE, "text": ""}, headers=headers
            )
            assert answer.status_code in (200, 429)
            passed += answer.status_code == 200
    assert passed == expected


async def test_what_a_trusted_proxy_was_told_is_not_believed() -> None:
    settings = Settings(rate_limit="30/hour", trusted_proxies="10.0.0.0/8")
    registry = fake_registry(settings, "en-de")
    app = create_app(registry, settings)
    passed = 0
    async with app.router.lifespan_context(app), client_at(app, "10.0.0.1") as client:
        while registry.loading:
            await client.get("/health/live")
        for number in range(100):  # the client's own lie, then its address as the proxy saw it
            headers = {"X-Forwarded-For": f"1.2.3.{number}, 198.51.100.9"}
            answer = await client.post(
                "/v1/translate", json={**NATIVE, "text": ""}, headers=headers
            )
            passed += answer.status_code == 200
    assert passed == 30


@pytest.mark.parametrize("proxies", ["all", "*", "10.0.0.1/8", "10.0.0.1,", ""])
def test_proxies_are_addresses(proxies: str) -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/8"):
        Settings(trusted_proxies=proxies)


async def test_keys_are_nowhere(
    serving: Serving,
    keys_file: Path,
    add_key: AddKey,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.WARNING, logger="httpx")  # the client's own lines
    caplog.set_level(logging.INFO)
    key, metrics = add_key("website", rate="100/hour"), add_key("prometheus", Scope.METRICS)
    settings = Settings(keys_file=keys_file)
    told = ""
    async with serving(fake_registry(settings, "en-de"), settings) as client:
        for _ in range(10):
            for send, *_ in PLACES.values():
                for presented in (key, WRONG):
                    told += (await send(client, presented)).text
        told += (await client.get(f"/{key}?key={key}", headers={"X-Request-ID": "a"})).text
        told += (await client.get("/metrics", headers=bearer(metrics))).text
        assert app_reloads(client)
    captured = capfd.readouterr()
    for text in (caplog.text, told, captured.out, captured.err):
        for secret in (key, metrics, WRONG, keys_file.read_text().split('"sha256": "')[1][:64]):
            assert secret not in text
    assert "key=website" in caplog.text  # names are the operator's own


def app_reloads(client: httpx.AsyncClient) -> bool:
    transport = client._transport
    assert isinstance(transport, httpx.ASGITransport)
    app = transport.app
    assert isinstance(app, FastAPI)
    access = app.state.access
    assert isinstance(access, Access)
    return access.reload()


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
