"""Hostile and broken requests on every route: always a refusal or an answer, never a fault.

None is answered with 5xx, and no refusal repeats what was sent. They stand in `hostile.py`.
"""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service.settings import Settings
from tests.service.conftest import Serving
from tests.service.faces import hostile
from tests.service.faces.hostile import MARK
from tests.service.fakes import fake_registry

pytestmark = pytest.mark.anyio
GOOD: dict[str, Any] = {
    "q": "hello",
    "text": ["hello"],
    "source": "en",
    "target": "de",
    "target_lang": "DE",
    "langpair": "en|de",
    "pairs": [{"source": "a", "target": "b"}],
}
# Each with its fields, the one that holds the texts first.
ROUTES = {
    "POST /v1/translate": (
        *("text", "source", "target", "model", "beam_size", "alternatives", "length_penalty"),
        *("min_length_ratio", "max_length_ratio", "alignments", "token_log_probs", "warnings"),
    ),
    "POST /v1/score": ("pairs", "source", "target", "model"),
    "GET /v1/models": ("unknown",),
    "POST /translate": ("q", "source", "target", "format", "alternatives", "api_key", "unknown"),
    "GET /translate": ("q", "langpair", "markUnknown", "format", "key"),
    "POST /detect": ("q", "api_key"),
    "GET /languages": ("api_key",),
    "GET /frontend/settings": ("unknown",),
    "GET /listPairs": ("unknown",),
    "POST /v2/translate": (
        *("text", "target_lang", "source_lang", "formality", "tag_handling", "ignore_tags"),
        *("split_sentences", "glossary_id", "show_billed_characters", "context", "model_type"),
    ),
    "GET /v2/languages": ("type",),
    "GET /v2/usage": ("unknown",),
    "POST /language/translate/v2": ("q", "target", "source", "format", "model", "cid", "key"),
    "POST /language/translate/v2/detect": ("q", "key"),
    "GET /language/translate/v2/languages": ("target", "model", "prettyPrint"),
    "GET /health/live": ("unknown",),
    "GET /health/ready": ("unknown",),
    "GET /health": ("unknown",),
    "GET /metrics": ("unknown",),
    "GET /": ("unknown",),
}
JSON = {"Content-Type": "application/json"}


def requests(method: str, fields: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """What `httpx` is to send."""
    good = {name: GOOD[name] for name in fields if name in GOOD}
    for index, text in enumerate(hostile.TEXTS):
        # Every text as the text; and each as another field, in turn.
        for field in dict.fromkeys((fields[0], fields[index % len(fields)])):
            given = {**good, field: text}
            yield {"content": json.dumps(given).encode(), "headers": JSON}
        sent = {name: plain(value) for name, value in given.items()}
        yield {"params": sent} if method == "GET" or index % 2 else {"data": sent}
        yield {"files": {name: (None, value) for name, value in sent.items()}}
    for index, value in enumerate(hostile.JSON_VALUES):
        for field in dict.fromkeys((fields[0], fields[index % len(fields)])):
            written = {name: json.dumps(other) for name, other in good.items()} | {field: value}
            members = ", ".join(f'"{name}": {other}' for name, other in written.items())
            yield {"content": f"{{{members}}}".encode(), "headers": JSON}
    for body in hostile.BODIES:
        for media_type in hostile.CONTENT_TYPES:
            yield {"content": body, "headers": {"Content-Type": media_type}}
    for headers in hostile.HEADERS:
        given_type = (
            () if headers[0][0] == b"content-type" else ((b"content-type", b"application/json"),)
        )
        yield {"content": json.dumps(good).encode(), "headers": [*given_type, *headers]}


def plain(value: object) -> str:
    """As a form has it; what is no UTF-8 is left out, and long texts are cut for the query."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode("utf-8", "ignore").decode()[:2000]


def check(answer: httpx.Response, request: object) -> None:
    assert answer.status_code < 500, (request, answer.text)
    assert MARK not in str(answer.headers), request
    if answer.is_error:
        assert MARK not in answer.text, (request, answer.text)
        if answer.request.method != "HEAD":
            answer.json()  # in words of the API, never a page of the framework


@pytest.mark.parametrize("route", ROUTES)
async def test_no_request_is_a_fault_or_comes_back(route: str, serving: Serving) -> None:
    method, path = route.split()
    settings = Settings(max_body_bytes=65_536)
    count = 0
    async with serving(fake_registry(settings, "en-de", "de-en"), settings) as client:
        for request in requests(method, ROUTES[route]):
            check(await client.request(method, path, **request), request)
            count += 1
        for other in hostile.METHODS:
            check(await client.request(other, path), other)
        for end in hostile.PATHS:
            url = client.base_url.copy_with(raw_path=(path.rstrip("/") + end).encode("ascii"))
            answer = await client.request(method, url)
            assert answer.status_code in (404, 405), end
            check(answer, end)
        after = {"text": "a b", "source": "en", "target": "de"}
        assert (await client.post("/v1/translate", json=after)).status_code == 200
    assert count > 700


async def test_paths_by_themselves(serving: Serving) -> None:
    settings = Settings()
    async with serving(fake_registry(settings, "en-de"), settings) as client:
        for path in hostile.PATHS:
            for method in ("GET", "POST"):
                url = client.base_url.copy_with(raw_path=path.encode("ascii"))
                answer = await client.request(method, url)
                assert answer.status_code in (404, 405), path
                check(answer, path)


def test_they_are_written_by_hand() -> None:
    assert hostile.NUM_WRITTEN >= 300
    for written in (hostile.TEXTS, hostile.JSON_VALUES, hostile.BODIES, hostile.PATHS):
        assert len(set(written)) == len(written)


async def test_an_answer_to_nothing_is_fast(serving: Serving) -> None:
    settings = Settings(max_body_bytes=4096)
    async with serving(fake_registry(settings, "en-de"), settings) as client:
        answer: httpx.Response = await client.post("/translate", content=b"x" * 100_000)
    assert answer.status_code == 413
    assert answer.json().keys() == {"error"}
