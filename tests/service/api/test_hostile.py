"""Hostile and broken requests on every route: always a refusal or an answer, never a fault.

None is answered with 5xx, and no refusal repeats what was sent. They stand in `hostile.py`.
"""

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

import httpx
import pytest

from service.settings import Settings
from tests.service.api import hostile
from tests.service.api.hostile import MARK
from tests.service.conftest import Serving
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
    "GET /language/translate/v2": ("q", "target"),
    "GET /language/translate/v2/languages": ("target", "model", "prettyPrint"),
    "GET /health/live": ("unknown",),
    "GET /health/ready": ("unknown",),
    "GET /health": ("unknown",),
    "GET /metrics": ("unknown",),
    "GET /": ("unknown",),
}
# Routes share the requests: those that read nothing get every fourth, the others every second one;
# each request comes to several routes.
UNREAD = [route for route, fields in ROUTES.items() if fields == ("unknown",)]
UNREAD_SHARES, READ_SHARES = 4, 2
# Azure's fields: those of the query string, those of the body's texts, those of their targets.
AZURE: dict[str, tuple[tuple[str, ...], ...]] = {
    "POST /translator/text/v3.0/translate": (
        ("to", "from", "textType", "category", "profanityAction", "includeAlignment", "toScript"),
        ("text", "Text", "unknown"),
        (),
    ),
    "POST /translator/text/v3.0/detect": (("unknown",), ("text",), ()),
    "GET /translator/text/v3.0/languages": (("scope", "unknown"), (), ()),
    "POST /translator/text/v2026-06-06/translate": (
        ("ClientTraceId", "unknown"),
        ("text", "language", "textType", "script", "targets"),
        ("language", "tone", "deploymentName", "referenceTextPairs", "unknown"),
    ),
    "GET /translator/text/v2026-06-06/languages": (("scope", "api-version"), (), ()),
}
JSON = {"Content-Type": "application/json"}
LANGUAGE = {"Accept-Language": MARK}


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


def azure_requests(path: str, *fields: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The same for Azure: something wrong in the query, a text, a target or all of the body."""
    _, _, version, name = path.strip("/").split("/")
    target = {"language": "de"}
    good: dict[str, Any] = {"text": "hello"}
    params = {"api-version": version.removeprefix("v")}
    if name == "translate":
        params |= {"to": "de"} if version == "v3.0" else {}
        good |= {"targets": [target]} if version != "v3.0" else {}

    def asked(params: dict[Any, Any], text: str) -> dict[str, Any]:
        body = f"[{text}]" if version == "v3.0" else f'{{"inputs": [{text}]}}'
        return {"params": params, "content": body.encode(), "headers": {**JSON, **LANGUAGE}}

    for index, text in enumerate(hostile.TEXTS):
        in_query, in_text, in_target = (each and each[index % len(each)] for each in fields)
        yield asked({**params, in_query: plain(text)}, json.dumps(good))
        yield asked({**params, in_query: [plain(text)[:40]] * 100}, json.dumps(good))
        yield asked({**params, "api-version": plain(text)}, json.dumps(good))
        if in_text:
            yield asked(params, json.dumps({**good, in_text: text}))
        if in_target:
            yield asked(params, json.dumps({**good, "targets": [{**target, in_target: text}]}))
    for value in hostile.JSON_VALUES:
        if MARK not in value:  # errors quote short plain names of fields
            yield asked(params, value)
        yield asked(params, f'{{"text": {value}}}')
    for body in hostile.BODIES:
        for media_type in hostile.CONTENT_TYPES:
            yield {"content": body, "headers": {"Content-Type": media_type}, "params": params}


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


READ = [route for route in (*ROUTES, *AZURE) if route not in UNREAD]


@pytest.mark.parametrize("route", [*ROUTES, *AZURE])
async def test_no_hostile_request_is_a_server_error_or_is_echoed(
    route: str, serving: Serving
) -> None:
    method, path = route.split()
    settings = Settings(max_body_bytes=65_536)
    count = 0
    async with serving(fake_registry(settings, "en-de", "de-en"), settings) as client:
        # Azure's are at the root, too, where `api-version` is looked for first.
        paths = [path, f"/{path.rpartition('/')[2]}"] if route in AZURE else [path]
        sent = (
            azure_requests(path, *AZURE[route])
            if route in AZURE
            else requests(method, ROUTES[route])
        )
        sharing, shares = (UNREAD, UNREAD_SHARES) if route in UNREAD else (READ, READ_SHARES)
        sent = islice(sent, sharing.index(route) % shares, None, shares)
        for number, request in enumerate(sent):
            check(await client.request(method, paths[number % len(paths)], **request), request)
            count += 1
        for other in hostile.METHODS:
            check(await client.request(other, path), other)
        for end in hostile.PATHS:
            url = client.base_url.copy_with(raw_path=(path.rstrip("/") + end).encode("ascii"))
            answer = await client.request(method, url)
            assert answer.status_code in (400, 404, 405), end  # 400: what DeepL has and we have not
            check(answer, end)
        after = {"text": "a b", "source": "en", "target": "de"}
        assert (await client.post("/v1/translate", json=after)).status_code == 200
    assert count > 700 / shares


def test_routes_that_share_requests_have_all_of_them() -> None:
    assert len(UNREAD) >= 2 * UNREAD_SHARES
    assert len(READ) >= 2 * READ_SHARES


async def test_hostile_paths(serving: Serving) -> None:
    settings = Settings()
    async with serving(fake_registry(settings, "en-de"), settings) as client:
        for path in hostile.PATHS:
            for method in ("GET", "POST"):
                url = client.base_url.copy_with(raw_path=path.encode("ascii"))
                answer = await client.request(method, url)
                assert answer.status_code in (400, 404, 405), path
                check(answer, path)


def test_requests_of_this_file_are_written_by_hand() -> None:
    assert hostile.NUM_WRITTEN >= 300
    for written in (hostile.TEXTS, hostile.JSON_VALUES, hostile.BODIES, hostile.PATHS):
        assert len(set(written)) == len(written)


async def test_a_too_large_body_gets_the_error_of_its_api(serving: Serving) -> None:
    settings = Settings(max_body_bytes=4096)
    async with serving(fake_registry(settings, "en-de"), settings) as client:
        answer: httpx.Response = await client.post("/translate", content=b"x" * 100_000)
    assert answer.status_code == 413
    assert answer.json().keys() == {"error"}
