"""CORS: preflight requests of browsers for pages and extensions, and the service's answers."""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.api.translation_service import TranslationService
from service.settings import Settings
from tests.service.conftest import AddKey, Serving
from tests.service.fakes import fake_registry

pytestmark = pytest.mark.anyio
PAGE, EXTENSION = "https://example.org:8443", "moz-extension://0a1b-2c3d"
OURS = Settings(cors_origins=f"{PAGE}, {EXTENSION}")
BODY = {"q": "a", "source": "en", "target": "de"}


async def preflight(
    client: httpx.AsyncClient, origin: str, url: str = "/translate", **more: str
) -> httpx.Response:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-api-key",
        **more,
    }
    return await client.options(url, headers=asked)


async def test_no_origin_is_allowed_unless_set(serving: Serving) -> None:
    async with serving(fake_registry(Settings(), "en-de")) as client:
        answers = [
            await preflight(client, PAGE),
            await client.post("/translate", json=BODY, headers={"Origin": PAGE}),
        ]
    assert [answer.status_code for answer in answers] == [405, 200]
    for answer in answers:
        assert not any(name.startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize("url", ["/translate", "/v1/translate", "/v2/translate", "/languages"])
@pytest.mark.parametrize("origin", [PAGE, EXTENSION])
async def test_a_preflight_needs_no_key(
    serving: Serving, keys_file: Path, url: str, origin: str
) -> None:
    settings = OURS.model_copy(update={"keys_file": keys_file})
    async with serving(fake_registry(settings, "en-de"), settings) as client:
        answer = await preflight(
            client, origin, url, **{"Access-Control-Request-Private-Network": "true"}
        )
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert "x-api-key" in answer.headers["Access-Control-Allow-Headers"]
    assert answer.headers["Access-Control-Allow-Private-Network"] == "true"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert answer.headers["X-Request-ID"]


async def test_answers_and_errors_of_every_layer_can_be_read(
    serving: Serving, add_key: AddKey, keys_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = OURS.model_copy(update={"keys_file": keys_file, "max_body_bytes": 1024})
    key = add_key("extension")
    async with serving(fake_registry(settings, "en-de"), settings) as client:

        async def post(**asked: Any) -> httpx.Response:
            return await client.post("/translate", headers={"Origin": PAGE}, **asked)

        answers = [
            await post(json={**BODY, "api_key": key}),
            await post(json=BODY),  # refused by the authentication middleware
            await post(content=b"x" * 2000),  # by the body limit
            await post(json={**BODY, "api_key": key, "target": "zz"}),  # by the API
        ]

        def broken(*_: object, **__: object) -> None:
            raise LookupError

        monkeypatch.setattr(TranslationService, "served", broken)
        answers.append(await post(json={**BODY, "api_key": key}))  # an unexpected error
    assert [answer.status_code for answer in answers] == [200, 403, 413, 400, 500]
    for answer in answers:
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
        assert answer.headers["Vary"] == "Origin"
        assert "Retry-After" in answer.headers["Access-Control-Expose-Headers"]
        assert "X-Request-ID" in answer.headers["Access-Control-Expose-Headers"]
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert answer.headers["X-Request-ID"]


Asking = Callable[[httpx.AsyncClient, str], Awaitable[httpx.Response]]


@pytest.mark.parametrize(
    "ask", [preflight, lambda c, o: c.get("/languages", headers={"Origin": o})]
)
@pytest.mark.parametrize(
    "origin", ["https://example.org", "https://example.org:84430", "null", "https://evil.example"]
)
async def test_an_origin_that_is_not_allowed_gets_no_cors_headers(
    serving: Serving, ask: Asking, origin: str
) -> None:
    async with serving(fake_registry(OURS, "en-de"), OURS) as client:
        answer = await ask(client, origin)
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert origin not in answer.text


@pytest.mark.parametrize("url", ["/translate", "/v1/translate", "/v2/translate", "/SECRET"])
async def test_a_refused_preflight_is_an_error_like_others(
    serving: Serving, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="dragoman.request")
    async with serving(fake_registry(OURS, "en-de"), OURS) as client:
        stranger = await preflight(client, "https://SECRET.example", url)
        method = await preflight(client, PAGE, url, **{"Access-Control-Request-Method": "SECRET"})
        counted = (await client.get("/metrics")).text
    for answer, words in ((stranger, "DRAGOMAN_CORS_ORIGINS"), (method, "GET, HEAD, POST")):
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["error"]["code"] == "cross_origin_refused"
        assert words in answer.json()["error"]["message"]
        assert "Origin" in answer.headers["Vary"]
        assert "SECRET" not in answer.text
    assert method.headers["Access-Control-Allow-Origin"] == PAGE  # so its page may read why
    assert 'dragoman_refused_total{reason="cross_origin_refused"} 2.0' in counted
    assert caplog.messages[0].endswith("refusal=cross_origin_refused")
    assert "SECRET" not in "".join(caplog.messages)


async def test_all(serving: Serving) -> None:
    settings = Settings(cors_origins="*")
    async with serving(fake_registry(settings, "en-de"), settings) as client:
        asked = await preflight(client, "https://anybody.example")
        answer = await client.post(
            "/translate", json=BODY, headers={"Origin": "https://anybody.example"}
        )
        plain = await client.post("/translate", json=BODY)
    assert (asked.status_code, answer.status_code) == (200, 200)
    for each in (asked, answer):
        assert each.headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in each.headers
    assert "Access-Control-Allow-Origin" not in plain.headers
