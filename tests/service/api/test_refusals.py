"""Every wrong request is a 4xx in our JSON that names the culprit and repeats nothing."""

import json
import logging
from typing import Any

import httpx
import pytest

from service.protocol.error_table import ERROR_TABLE
from service.settings import Settings
from tests.service.conftest import Serving
from tests.service.fakes import fake_registry

pytestmark = pytest.mark.anyio
SETTINGS = Settings(max_texts=4, max_characters=100, max_queue_texts=8, max_body_bytes=4096)
PAIR = {"source": "en", "target": "de"}
MARK = "KEEPTHISPRIVATE"


def check(answer: httpx.Response, status: int, code: str, field: str | None = None) -> str:
    """The error's message, after checking the shape all errors have."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body.keys() == {"error"}
    error = body["error"]
    assert error["code"] == code
    assert error.get("field") == field
    assert MARK not in answer.text
    if status in (429, 503, 504):
        assert int(answer.headers["retry-after"]) >= 1
    return str(error["message"])


@pytest.mark.parametrize(
    ("body", "status", "code", "field", "words"),
    [
        # the model
        ({"text": "a", "model": MARK}, 404, "unknown_model", "model", "en-de"),
        ({"text": "a", "model": "../en-de"}, 404, "unknown_model", "model", "en-de"),
        ({"text": "a", "source": "de", "target": "en"}, 404, "unknown_language_pair", "target",
         "en to de"),
        ({"text": "a", "model": "en-de", "source": "en", "target": "fr"}, 404,
         "unknown_language_pair", "model", "en to de"),
        ({"text": "a"}, 422, "invalid_request", None, "source and target, or model"),
        ({"text": "a", "source": "en"}, 422, "invalid_request", None, "target is missing"),
        ({"text": "a", "source": MARK * 9, "target": "de"}, 422, "invalid_request", "source",
         "at most 35"),
        ({"text": "a", "source": "en/..", "target": "de"}, 422, "invalid_request", "source",
         "language tag"),
        # the fields
        ({**PAIR}, 422, "invalid_request", "text", "text is missing"),
        ({**PAIR, "text": 5}, 422, "invalid_request", "text", "string"),
        ({**PAIR, "text": None}, 422, "invalid_request", "text", "string"),
        ({**PAIR, "text": {"q": MARK}}, 422, "invalid_request", "text", "string"),
        ({**PAIR, "text": ["a", "b", 5]}, 422, "invalid_request", "text[2]", "string"),
        ({**PAIR, "text": [["a"]]}, 422, "invalid_request", "text[0]", "string"),
        ({**PAIR, "text": "a", "beam": 5}, 422, "invalid_request", "beam", "not a field"),
        ({**PAIR, "text": "a", f"{MARK} x": 5}, 422, "invalid_request", None, "not a field"),
        ({**PAIR, "text": "a", "beam_size": "5"}, 422, "invalid_request", "beam_size", "integer"),
        ({**PAIR, "text": "a", "beam_size": True}, 422, "invalid_request", "beam_size", "integer"),
        ({**PAIR, "text": "a", "beam_size": 2.0}, 422, "invalid_request", "beam_size", "integer"),
        ({**PAIR, "text": "a", "beam_size": 0}, 422, "invalid_request", "beam_size", "equal to 1"),
        ({**PAIR, "text": "a", "beam_size": 99}, 422, "invalid_request", "beam_size", "16"),
        ({**PAIR, "text": "a", "beam_size": 10**400}, 422, "invalid_request", "beam_size", "16"),
        ({**PAIR, "text": "a", "alternatives": 5}, 422, "invalid_request", "alternatives",
         "beam_size"),
        ({**PAIR, "text": "a", "length_penalty": -1}, 422, "invalid_request", "length_penalty",
         "equal to 0"),
        ({**PAIR, "text": "a", "min_length_ratio": 2, "max_length_ratio": 1}, 422,
         "invalid_request", None, "above max_length_ratio"),
        ({**PAIR, "text": "a", "alignments": "yes"}, 422, "invalid_request", "alignments",
         "boolean"),
        ({**PAIR, "text": "a", "segmentation": MARK}, 422, "invalid_request", "segmentation",
         "'sentence', 'line' or 'none'"),
        ({**PAIR, "text": "a", "offsets": 1}, 422, "invalid_request", "offsets", "boolean"),
        ({**PAIR, "text": "a", "words": "yes"}, 422, "invalid_request", "words", "boolean"),
        # the texts
        ({**PAIR, "text": ["a", "b\0c"]}, 422, "invalid_request", "text[1]", "NUL"),
        ({**PAIR, "text": "\ud800"}, 400, "malformed_body", None, "surrogate"),
        ({**PAIR, "text": ["\udfff" + MARK]}, 400, "malformed_body", None, "surrogate"),
        ({**PAIR, "\ud800": "a"}, 400, "malformed_body", None, "surrogate"),
        ({**PAIR, "text": ["a"] * 5}, 413, "request_too_large", "text", "max_texts"),
        ({**PAIR, "text": ["a" * 60, "b" * 60]}, 413, "request_too_large", "text",
         "max_characters"),
        ({**PAIR, "text": ["a", "REFUSE " + MARK]}, 422, "invalid_request", "text[1]", "segments"),
        # not an object
        ([], 422, "invalid_request", None, "the body"),
        ("text", 422, "invalid_request", None, "the body"),
        (None, 422, "invalid_request", None, "the body"),
    ],
)  # fmt: skip
async def test_translate_refuses(
    serving: Serving, body: Any, status: int, code: str, field: str | None, words: str
) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        content = json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        answer = await client.post("/v1/translate", content=content, headers=headers)
        assert words in check(answer, status, code, field)
        after = await client.post("/v1/translate", json={**PAIR, "text": "a"})
    assert after.status_code == 200


@pytest.mark.parametrize(
    ("pairs", "field"),
    [
        ([{"source": "a"}], "pairs[0].target"),
        ([{"source": "a", "target": "b", "x": 1}], "pairs[0].x"),
        ([{"source": "a", "target": 1}], "pairs[0].target"),
        ([{"source": "a\0", "target": "b"}], "pairs[0].source"),
        ([{"source": "a", "target": "b"}, {"source": "REFUSE", "target": "b"}], "pairs[1]"),
        ("a", "pairs"),
    ],
)
async def test_score_refuses(serving: Serving, pairs: Any, field: str) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        answer = await client.post("/v1/score", json={**PAIR, "pairs": pairs})
        check(answer, 422, "invalid_request", field)
        many = [{"source": "a", "target": "b"}] * 5
        answer = await client.post("/v1/score", json={**PAIR, "pairs": many})
        check(answer, 413, "request_too_large", "pairs")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"{", "line 1 column 1"),
        (b"text=a&source=en", "not JSON"),
        (b'{"text": "a"} x', "not JSON"),
        (b'{"text": "\xe9"}', "offset 10"),
        ('{"text": "a"}'.encode("utf-16"), "not UTF-8"),
        (b'{"text": "a\nb"}', "not JSON"),
        (b'{"length_penalty": NaN}', "NaN"),
        (b'{"length_penalty": -Infinity}', "Infinity"),
        (b'{"length_penalty": 1e400}', "too large"),
        (b'{"beam_size": ' + b"1" * 5000 + b"}", "digits"),
        (b'{"text": "a", "text": "b"}', "twice"),
        (b"[" * 17 + b"]" * 17, "deeper than 16"),
        (b"[" * 5000, "deeper than 16"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "deeper than 16"),
        (b'{"a": 1, "%s": 2, "%s": 3}' % (MARK.encode(), MARK.encode()), "twice"),
    ],
)
async def test_a_body_that_is_not_json_is_refused(
    serving: Serving, content: bytes, words: str
) -> None:
    settings = Settings(max_body_bytes=1_000_000)
    async with serving(fake_registry(settings, "en-de"), settings) as client:
        for path in ("/v1/translate", "/v1/score"):
            answer = await client.post(
                path, content=content, headers={"content-type": "application/json"}
            )
            assert words in check(answer, 400, "malformed_body")


async def test_a_byte_order_mark_is_accepted(serving: Serving) -> None:
    content = b"\xef\xbb\xbf" + json.dumps({**PAIR, "text": "a"}).encode()
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        headers = {"content-type": "application/json; charset=UTF-8"}
        answer = await client.post("/v1/translate", content=content, headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": ""},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "text/plain"},
        {"content-type": "application/json; charset=latin-1"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
async def test_other_content_types_are_refused(serving: Serving, headers: dict[str, str]) -> None:
    content = json.dumps({**PAIR, "text": "a"}).encode()
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        answer = await client.post("/v1/translate", content=content, headers=headers)
    check(answer, 415, "unsupported_media_type")


async def test_errors_of_the_framework_are_json(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        check(await client.get(f"/{MARK}"), 404, "not_found")
        check(await client.get("/v1/models/"), 404, "not_found")
        check(await client.get("/static-offline-docs/../../settings.py"), 404, "not_found")
        answer = await client.get("/v1/translate")
        check(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == "POST"
        answer = await client.head("/v1/translate")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_a_large_body_is_refused(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        answer = await client.post("/v1/translate", json={**PAIR, "text": "a" * 10_000_000})
        assert "max_body_bytes" in check(answer, 413, "request_too_large")
        assert answer.headers["connection"] == "close"


async def test_an_error_lists_only_a_few_of_many_problems(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        answer = await client.post("/v1/translate", json={**PAIR, "text": [1] * 500})
    message = check(answer, 422, "invalid_request", "text[0]")
    assert message.endswith("and 497 more problems")


async def test_request_ids_are_taken_over_and_returned(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        given = await client.get("/health/live", headers={"X-Request-ID": "abc-123"})
        forged = await client.get("/health/live", headers={"X-Request-ID": "a b\x1b[2J"})
        refused = await client.post("/v1/translate", headers={"X-Request-ID": "abc-124"})
    assert given.headers["x-request-id"] == "abc-123"
    assert len(forged.headers["x-request-id"]) == 32
    assert refused.headers["x-request-id"] == "abc-124"


async def test_each_request_has_one_log_line_without_text(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="dragoman")
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        await client.post("/v1/translate", json={**PAIR, "text": [MARK, "b"]})
        await client.post("/v1/translate", json={**PAIR, "text": f"CRASH-ADD {MARK}"})
        await client.get(f"/{MARK}?q={MARK}")
    lines = [r.getMessage() for r in caplog.records if r.name == "dragoman.request"]
    assert len(lines) == 3
    assert "POST /v1/translate 200" in lines[0]
    assert lines[0].endswith("model=en-de texts=2 characters=16 refusal=-")
    assert "GET - 404" in lines[2]
    assert MARK not in caplog.text


def test_every_error_has_one_row() -> None:
    kinds = [kind for kind, *_ in ERROR_TABLE]
    assert len(set(kinds)) == len(kinds)
    for later, kind in enumerate(kinds):  # else the later row would never be reached
        assert not any(issubclass(kind, earlier) for earlier in kinds[:later])
    for _, status, _, retry_after in ERROR_TABLE:
        assert (retry_after is not None) == (status in (429, 503, 504))
