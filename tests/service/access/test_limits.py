"""Quotas and rates, by key or by address, as clients meet them."""

from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from service.http.app import create_app
from service.settings import Settings
from tests.service.access.asking import (
    ASKED,
    DEEPL,
    GOOGLE,
    NATIVE,
    PLACES,
    bearer,
)
from tests.service.conftest import AddKey, Serving
from tests.service.fakes import fake_registry

pytestmark = pytest.mark.anyio


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


async def test_refused_requests_are_not_charged_to_the_rate(serving: Serving) -> None:
    settings = Settings(rate_limit="2/hour")
    registry = fake_registry(settings, "en-de")
    async with serving(registry, settings) as client:

        async def statuses(**parts: str) -> list[int]:
            body = {**ASKED, **parts}
            return [(await client.post("/translate", json=body)).status_code for _ in range(4)]

        assert 429 not in await statuses(target="xx")
        (model,) = registry.served_models
        model.queue_limits.num_texts += settings.max_queue_texts  # the queue is full
        full = await client.post("/v1/translate", json=NATIVE)
        assert full.json()["error"]["code"] == "queue_full"
        model.queue_limits.num_texts -= settings.max_queue_texts
        assert await statuses() == [200, 200, 429, 429]


async def test_a_text_with_markup_counts_as_one_text(serving: Serving) -> None:
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
    app = create_app(registry, settings).asgi
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


async def test_forwarded_addresses_from_before_a_trusted_proxy_are_ignored() -> None:
    settings = Settings(rate_limit="30/hour", trusted_proxies="10.0.0.0/8")
    registry = fake_registry(settings, "en-de")
    app = create_app(registry, settings)
    passed = 0
    async with (
        app.asgi.router.lifespan_context(app.asgi),
        client_at(app.asgi, "10.0.0.1") as client,
    ):
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
