"""Bodies of a million values: refused in each API's error format before objects are made."""

import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service.errors import MalformedBody, RequestTooLarge
from service.limits import Limits
from service.protocol import strict_json
from service.protocol import validation as invalid
from service.protocol.strict_json import parse_json
from service.settings import Settings
from tests.service.conftest import AddKey, Serving
from tests.service.fakes import fake_registry

pytestmark = pytest.mark.anyio
NUM = 150_000
AZURE_3 = "/translate?api-version=3.0&to=de&from=en"
AZURE = "/translate?api-version=2026-06-06"

# Path, and the body with `%s` for what is many.
JSON_BODIES = [
    ("/v1/translate", '{"source": "en", "target": "de", "text": [%s]}'),
    ("/v1/score", '{"source": "en", "target": "de", "pairs": [%s]}'),
    ("/translate", '{"source": "en", "target": "de", "q": [%s]}'),
    ("/v2/translate", '{"target_lang": "DE", "text": [%s]}'),
    ("/language/translate/v2", '{"target": "de", "q": [%s]}'),
    ("/language/translate/v2/detect", '{"q": [%s]}'),
    ("/detect", '{"q": [%s]}'),
    (AZURE_3, "[%s]"),
    ("/detect?api-version=3.0", "[%s]"),
    (AZURE, '{"inputs": [%s]}'),
    ("/translator/text/v3.0/translate?to=de", "[%s]"),
    ("/translate", "{%s}"),
]
MANY = {
    "objects": ",".join(["{}"] * NUM),
    "numbers": ",".join(["1"] * NUM),
    "lists": ",".join(["[]"] * NUM),
    "texts": ",".join(['"a"'] * NUM),
    "keys": ",".join(f'"{number}":0' for number in range(NUM)),
}


def message_of(body: Any) -> str:
    """The message of an error, in whichever API's words."""
    if "message" in body:
        return str(body["message"])
    error = body["error"]
    return str(error if isinstance(error, str) else error["message"])


@pytest.mark.parametrize(("path", "body"), JSON_BODIES)
@pytest.mark.parametrize("many", MANY)
async def test_json(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, path: str, body: str, many: str
) -> None:
    def unreached(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(strict_json, "jiter", SimpleNamespace(from_json=unreached))
    monkeypatch.setattr(strict_json, "check_value", unreached)
    monkeypatch.setattr(invalid, "invalid_request", unreached)
    async with serving(fake_registry(Settings(), "en-de"), Settings()) as client:
        started = time.process_time()
        answer = await client.post(
            path,
            content=body % MANY[many],
            headers={"Content-Type": "application/json", "Authorization": "DeepL-Auth-Key any"},
        )
        assert time.process_time() - started < 1
    assert answer.status_code == 413, answer.text
    assert "max_texts" in message_of(answer.json())


@pytest.mark.parametrize("path", ["/translate", "/v2/translate", "/language/translate/v2"])
@pytest.mark.parametrize("form", ["urlencoded", "multipart"])
async def test_forms(serving: Serving, path: str, form: str) -> None:
    part = 'Content-Disposition: form-data; name="q"\r\n\r\na\r\n--x'
    content, kind = {
        "urlencoded": ("q=a&" * NUM, "application/x-www-form-urlencoded"),
        "multipart": ("--x\r\n" + f"{part}\r\n" * 30_000, "multipart/form-data; boundary=x"),
    }[form]
    async with serving(fake_registry(Settings(), "en-de"), Settings()) as client:
        started = time.process_time()
        answer = await client.post(path, content=content, headers={"Content-Type": kind})
        assert time.process_time() - started < 1
    assert answer.status_code == 413, answer.text
    assert "max_texts" in message_of(answer.json())


async def test_a_key_is_found_in_each_place(
    serving: Serving, add_key: AddKey, keys_file: Path
) -> None:
    add_key("website")
    settings = Settings(keys_file=keys_file)
    async with serving(fake_registry(settings, "en-de"), settings) as client:
        answer = await client.post("/translate", json={"q": [{}] * NUM})
    assert answer.status_code == 413
    assert "max_texts" in message_of(answer.json())


@pytest.mark.parametrize(
    "body",
    ["[" * NUM, '["' + '\\"' * NUM, '{"a":' * NUM, '"' * NUM, ',"' * NUM + "\\", ",\\" * NUM],
)
def test_broken_bodies_are_refused(body: str) -> None:
    started = time.process_time()
    with pytest.raises((MalformedBody, RequestTooLarge)):
        parse_json(body.encode(), Limits(Settings()))
    assert time.process_time() - started < 1


def test_refused_bodies_take_no_memory() -> None:
    body = f"[{MANY['objects']}]".encode()
    tracemalloc.start()
    try:
        with pytest.raises(RequestTooLarge):
            parse_json(body, Limits(Settings()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * len(body)


TEXTS = [f"text, [{{{number}" for number in range(40)]  # whose own signs are no JSON's
LARGEST: list[tuple[str, Callable[[list[str]], object]]] = [
    ("/v1/translate", lambda texts: {"text": texts, "source": "en", "target": "de"}),
    (
        "/v1/score",
        lambda texts: {
            "pairs": [{"source": text, "target": text} for text in texts],
            "source": "en",
            "target": "de",
        },
    ),
    ("/translate", lambda texts: {"q": texts, "source": "en", "target": "de"}),
    ("/v2/translate", lambda texts: {"text": texts, "source_lang": "EN", "target_lang": "DE"}),
    ("/language/translate/v2", lambda texts: {"q": texts, "source": "en", "target": "de"}),
    (AZURE_3, lambda texts: [{"text": text} for text in texts]),
    (
        AZURE,
        lambda texts: {
            "inputs": [
                {
                    "text": text,
                    "language": "en",
                    "textType": "plain",
                    "script": None,
                    "targets": [
                        {
                            "language": "de",
                            "deploymentName": "general",
                            "allowFallback": True,
                            "profanityAction": "NoAction",
                            "profanityMarker": "Asterisk",
                            "referenceTextPairs": None,
                            "adaptiveDatasetId": None,
                            "gender": None,
                            "grade": None,
                            "script": None,
                            "tone": None,
                        }
                    ],
                }
                for text in texts
            ]
        },
    ),
]


@pytest.mark.parametrize(("path", "body_of"), LARGEST)
async def test_the_largest_request_works_and_one_more_text_is_refused(
    serving: Serving, path: str, body_of: Callable[[list[str]], object]
) -> None:
    settings = Settings(max_texts=len(TEXTS))
    async with serving(fake_registry(settings, "en-de"), settings) as client:
        answer = await client.post(path, json=body_of(TEXTS))
        assert answer.status_code == 200, answer.text
        refused = await client.post(path, json=body_of([*TEXTS, "one more"]))
    assert refused.status_code == 413
    assert f"holds {len(TEXTS) + 1} items, the limit is {len(TEXTS)}" in message_of(refused.json())


def test_a_text_may_contain_anything() -> None:
    text = ",[{\\\"'\n" * 20_000
    limits = Limits(Settings(max_texts=1))
    assert parse_json(json.dumps([text]).encode(), limits) == [text]
    assert parse_json(json.dumps(list(range(1019))).encode(), limits) == list(range(1019))
    with pytest.raises(RequestTooLarge):
        parse_json(json.dumps(list(range(1020))).encode(), limits)


@pytest.mark.parametrize(
    ("path", "body_of"),
    [
        ("/translate", lambda text: {"q": text, "source": "en", "target": "de", "format": "html"}),
        ("/v2/translate", lambda text: {"text": text, "target_lang": "DE", "tag_handling": "xml"}),
        ("/language/translate/v2", lambda text: {"q": text, "target": "de", "format": "html"}),
        (f"{AZURE_3}&textType=html", lambda text: [{"text": text}]),
    ],
)
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<b>x</b>" * 200_000, "4 times max_characters"),
        ("<b>x</b>" * 40_000, "more than 256 texts between its tags"),
    ],
)
async def test_tags(
    serving: Serving, path: str, body_of: Callable[[str], object], text: str, words: str
) -> None:
    async with serving(fake_registry(Settings(), "en-de"), Settings()) as client:
        started = time.process_time()
        answer = await client.post(
            path, json=body_of(text), headers={"Authorization": "DeepL-Auth-Key any"}
        )
        assert time.process_time() - started < 0.5
        assert (answer.status_code, words in message_of(answer.json())) == (413, True), answer.text
        long = "<i>" * 20_000 + "a" + "<b>" * 20_000  # read in a thread
        answer = await client.post(
            path, json=body_of(long), headers={"Authorization": "DeepL-Auth-Key any"}
        )
    assert "<i>A<b>" in answer.text
