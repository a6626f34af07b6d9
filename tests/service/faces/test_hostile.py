"""Hostile and broken requests on every route: always a refusal or an answer, never a fault.

None is answered with 5xx, and no refusal repeats what was sent.
"""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service.settings import Settings
from tests.service.conftest import Serving
from tests.service.fakes import fake_registry

pytestmark = pytest.mark.anyio
MARK = "ZQXJ"
GOOD: dict[str, Any] = {
    "q": "hello",
    "text": ["hello"],
    "source": "en",
    "target": "de",
    "target_lang": "DE",
    "langpair": "en|de",
    "pairs": [{"source": "a", "target": "b"}],
}
ROUTES = {
    "POST /v1/translate": ("text", "source", "target", "model", "beam_size", "warnings"),
    "POST /v1/score": ("pairs", "source", "target", "model"),
    "POST /translate": ("q", "source", "target", "format", "alternatives", "api_key", "unknown"),
    "GET /translate": ("q", "langpair"),
    "POST /detect": ("q", "api_key"),
    "GET /languages": ("api_key",),
    "GET /frontend/settings": ("unknown",),
    "GET /listPairs": ("unknown",),
    "POST /v2/translate": (
        *("text", "target_lang", "source_lang", "formality", "tag_handling", "ignore_tags"),
        *("split_sentences", "glossary_id", "show_billed_characters", "context"),
    ),
    "GET /v2/languages": ("type",),
    "GET /v2/usage": ("unknown",),
    "POST /language/translate/v2": ("q", "target", "source", "format", "model"),
    "POST /language/translate/v2/detect": ("q",),
    "GET /language/translate/v2": ("q", "target"),
    "GET /language/translate/v2/languages": ("target",),
}
# Azure's fields: those of the query string, those of the body's texts, those of their targets.
AZURE = {
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
VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        1e308,
        10**40,
        "",
        " \u3000",
        MARK,
        MARK * 3000,
        f"\0{MARK}",
        f"\ud800{MARK}",
    ),
    *([], [MARK], [MARK, None], [[MARK]], {}, {MARK: MARK}, [""] * 300, "auto", "de-DE-x-" + MARK),
    *("../../etc/passwd", f"<script>{MARK}", f"%00{MARK}", f"<{MARK}" * 200, "👍" + MARK),
)
BODIES = (
    *(b"", b"{", b"null", b"[]", b'"x"', b"[" * 5000, b"\xff\xfe", b'{"q":NaN}', b"--x\r\n"),
    b'{"q":"a","q":"b"}',
    b'--x\r\nContent-Disposition: form-data; name="q"\r\n\r\nhello',
    b"q=%ff%fe&source=en&target=de",
    b"&" * 5000,
)
TYPES = (
    *("application/json", "application/json; charset=utf-16", "application/x-www-form-urlencoded"),
    *("multipart/form-data", "multipart/form-data; boundary=x", "text/plain", "", MARK),
)


def requests(method: str, path: str, fields: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """What `httpx` is to send."""
    good = {name: GOOD[name] for name in fields if name in GOOD}
    for field in fields:
        for value in VALUES:
            given = {**good, field: value}
            content = json.dumps(given).encode("utf-8", "surrogatepass")
            yield {"content": content, "headers": {"Content-Type": "application/json"}}
            plain = {
                name: text if isinstance(text, str) else json.dumps(text)
                for name, text in given.items()
            }
            sent = {n: t.encode("utf-8", "ignore").decode()[:2000] for n, t in plain.items()}
            yield {"params": sent} if method == "GET" else {"data": sent}
            yield {"files": {name: (None, text) for name, text in sent.items()}}
    for body in BODIES:
        for media_type in TYPES:
            yield {"content": body, "headers": {"Content-Type": media_type}}


def azure_requests(path: str, *fields: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The same for Azure: something wrong in the query, a text, a target or all of the body."""
    _, _, version, name = path.strip("/").split("/")
    target = {"language": "de"}
    text: dict[str, Any] = {"text": "hello"}
    params = {"api-version": version.removeprefix("v")}
    if name == "translate":
        params |= {"to": "de"} if version == "v3.0" else {}
        text |= {"targets": [target]} if version != "v3.0" else {}

    def asked(params: dict[str, Any], text: Any) -> dict[str, Any]:
        body = [text] if version == "v3.0" else {"inputs": [text]}
        content = json.dumps(body).encode("utf-8", "surrogatepass")
        headers = {"Content-Type": "application/json", "Accept-Language": MARK}
        return {"params": params, "content": content, "headers": headers}

    for value in VALUES:
        sent = value if isinstance(value, str) else json.dumps(value)
        sent = sent.encode("utf-8", "ignore").decode()[:2000]
        for field in fields[0]:
            yield asked({**params, field: sent}, text)
            yield asked({**params, field: [sent[:40]] * 300}, text)
        yield asked({**params, "api-version": sent}, text)
        for field in fields[1]:
            yield asked(params, {**text, field: value})
        for field in fields[2]:
            yield asked(params, {**text, "targets": [{**target, field: value}]})
        if value != {MARK: MARK}:  # a short plain name of a field is told
            yield asked(params, value)
        yield {"content": json.dumps(value).encode("utf-8", "surrogatepass"), "params": params}
    for body in BODIES:
        for media_type in TYPES:
            yield {"content": body, "headers": {"Content-Type": media_type}, "params": params}


@pytest.mark.parametrize("route", [*ROUTES, *AZURE])
async def test_no_request_is_a_fault_or_comes_back(route: str, serving: Serving) -> None:
    method, path = route.split()
    settings = Settings()
    count = 0
    # Azure's are at the root, too, where `api-version` is looked for first.
    paths = [path, f"/{path.rpartition('/')[2]}"] if route in AZURE else [path]
    async with serving(fake_registry(settings, "en-de", "de-en"), settings) as client:
        client.headers["Authorization"] = "DeepL-Auth-Key k"
        for request in (
            azure_requests(path, *AZURE[route])
            if route in AZURE
            else requests(method, path, ROUTES[route])
        ):
            for asked_path in paths:
                answer = await client.request(method, asked_path, **request)
                assert answer.status_code < 500, (request, answer.text)
                if answer.is_error:
                    assert MARK not in answer.text, (request, answer.text)
                    answer.json()  # in words of the API, never a page of the framework
                count += 1
        for path_of_none in (f"{path}/{MARK}", f"/{MARK}{path}"):
            answer = await client.request(method, path_of_none)
            assert answer.status_code in (404, 405)
            assert MARK not in answer.text
    assert count > 150


async def test_an_answer_to_nothing_is_fast(serving: Serving) -> None:
    settings = Settings(max_body_bytes=4096)
    async with serving(fake_registry(settings, "en-de"), settings) as client:
        answer: httpx.Response = await client.post("/translate", content=b"x" * 100_000)
    assert answer.status_code == 413
    assert answer.json().keys() == {"error"}
