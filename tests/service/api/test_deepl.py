"""DeepL's API beyond the Python client: deepl-node's forms, and errors before any route."""

import re

import pytest

from service.serving.registry import Registry
from service.settings import Settings
from tests.service.conftest import Serving
from tests.service.fakes import FakeTranslator, fake_model, fake_registry

pytestmark = pytest.mark.anyio
SETTINGS = Settings(max_texts=4, max_body_bytes=2048)
KEY = {"Authorization": "DeepL-Auth-Key any-key"}


async def test_a_form_as_deepl_node_sends_it(serving: Serving) -> None:
    form = {"text": ["a b", "c"], "target_lang": "de", "show_billed_characters": "1"}
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        answer = await client.post("/v2/translate", data=form, headers=KEY)
        languages = await client.get("/v2/languages?type=target", headers=KEY)
    assert answer.json() == {
        "translations": [
            {"detected_source_language": "EN", "text": "A B", "billed_characters": 3},
            {"detected_source_language": "EN", "text": "C", "billed_characters": 1},
        ]
    }
    assert languages.json() == [{"language": "DE", "name": "German", "supports_formality": False}]


async def test_text_is_translated_between_variants_that_a_model_serves(serving: Serving) -> None:
    body = {"text": ["我想去火车站。"], "target_lang": "ZH-HANT"}
    async with serving(fake_registry(SETTINGS, "zh-zh_Hant"), SETTINGS) as client:
        answer = await client.post("/v2/translate", json={**body, "text": ["火车站 abc"]})
        same = await client.post("/v2/translate", json={**body, "target_lang": "ZH-HANS"})
    assert answer.json()["translations"][0]["text"] == "火车站 ABC"
    assert same.json()["translations"][0]["text"] == body["text"][0]


@pytest.mark.parametrize(
    ("asked", "used"),
    [({}, "line"), ({"split_sentences": "0"}, "none"), ({"split_sentences": "1"}, "sentence")],
)
async def test_split_sentences(serving: Serving, asked: dict[str, str], used: str) -> None:
    settings, translator = Settings(segmentation="line"), FakeTranslator()
    registry = Registry([fake_model("en-de", settings, translator=translator)])
    async with serving(registry, settings) as client:
        body = {"text": ["a"], "source_lang": "EN", "target_lang": "DE", **asked}
        answer = await client.post("/v2/translate", json=body)
    assert answer.status_code == 200
    assert translator.segmentations[1:] == [used]  # the first was the model's own


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/document"),
        ("POST", "/v2/document/SECRET/result"),
        ("GET", "/v2/glossaries"),
        ("DELETE", "/v3/glossaries/SECRET/dictionaries"),
        ("GET", "/v2/glossary-language-pairs"),
        ("PATCH", "/v3/style_rules/SECRET"),
        ("PUT", "/v3/style_rules/SECRET/configured_rules"),
        ("POST", "/v3/translation_memories/import"),
        ("POST", "/v2/write/rephrase"),
    ],
)
async def test_unsupported_routes_of_deepl_are_refused_with_a_message(
    serving: Serving, method: str, path: str
) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        for body in (b"", b"\xff\x00{", b"text=SECRET"):
            answer = await client.request(method, path, content=body)
            assert answer.status_code == (404 if "glossaries/" in path else 400)
            assert re.search("this service", answer.json()["message"])
            assert "SECRET" not in answer.text
        other = await client.request(method, path, headers={"Authorization": "Bearer x"})
        assert other.status_code == 403
        routes = (await client.get("/metrics")).text
    assert "SECRET" not in routes


async def test_every_error_is_a_message(serving: Serving) -> None:
    body = {"text": ["a"], "target_lang": "DE"}
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        answers = {
            400: await client.post("/v2/translate", json={}),
            403: await client.post("/v2/translate", json=body, headers={"Authorization": "x"}),
            404: await client.get("/v3/nothing"),
            405: await client.get("/v2/translate"),
            413: await client.post("/v2/translate", json={**body, "text": ["a" * 4096]}),
            415: await client.post("/v2/translate", content=b"a"),
        }
    for status, answer in answers.items():
        assert answer.status_code == status
        assert answer.json().keys() == {"message"}
