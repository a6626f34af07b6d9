"""Google's API, with requests as recorded from google-cloud-translate."""

from typing import Any

import httpx
import pytest

from service.settings import Settings
from tests.service.conftest import Serving
from tests.service.fakes import fake_registry

pytestmark = pytest.mark.anyio
SETTINGS = Settings(max_texts=4)
URL = "/language/translate/v2"
_NULLS = dict.fromkeys(("source", "format", "model"))
RECORDED: dict[str, Any] = {"target": "de", "cid": [], **_NULLS}


async def post(serving: Serving, path: str, body: dict[str, Any]) -> httpx.Response:
    async with serving(fake_registry(SETTINGS, "en-de", "fr-de"), SETTINGS) as client:
        headers = {"Authorization": "Bearer any-key"}
        return await client.post(f"{URL}{path}?prettyPrint=false", json=body, headers=headers)


async def test_html_in_order_with_each_text_detected(serving: Serving) -> None:
    texts = ["Where is the <b>train</b> station?", "Où est la gare, s'il vous plaît ?"]
    answer = await post(serving, "", {**RECORDED, "q": texts})
    assert answer.json()["data"]["translations"] == [
        {
            "translatedText": "WHERE IS THE <b>TRAIN</b> STATION?",
            "detectedSourceLanguage": "en",
        },
        {"translatedText": texts[1].upper(), "detectedSourceLanguage": "fr"},
    ]


async def test_plain_text_with_a_source_and_a_model(serving: Serving) -> None:
    body = {**RECORDED, "q": "a <b", "source": "en-US", "format": "text", "model": "nmt"}
    answer = await post(serving, "", body)
    assert answer.json()["data"]["translations"] == [{"translatedText": "A <B", "model": "nmt"}]


async def test_all_in_the_query(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        query = "key=abc&alt=json&q=a&q=b%20%26amp%3B&target=de&source=en"
        translated = (await client.get(f"{URL}?{query}")).json()
        detected = (await client.get(f"{URL}/detect?key=abc&q=Where+is+it")).json()
    texts = [one["translatedText"] for one in translated["data"]["translations"]]
    assert texts == ["A", "B &amp;"]
    assert detected["data"]["detections"][0][0]["language"] == "en"


async def test_languages(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        plain = (await client.get(f"{URL}/languages")).json()
        named = (await client.get(f"{URL}/languages?target=de&key=abc")).json()
    assert plain["data"]["languages"] == [{"language": "en"}, {"language": "de"}]
    assert named["data"]["languages"] == [
        {"language": "en", "name": "Englisch"},
        {"language": "de", "name": "Deutsch"},
    ]


async def test_detection(serving: Serving) -> None:
    answer = await post(serving, "/detect", {"q": ["Où est la gare ?", "12"]})
    (french,), (nothing,) = answer.json()["data"]["detections"]
    assert (french["language"], french["isReliable"]) == ("fr", True)
    assert (nothing["confidence"], nothing["isReliable"]) == (0, False)


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("", {**RECORDED, "q": ["a"], "target": "zz"}, 400, "target language is not supported"),
        ("", {**RECORDED, "q": ["a"], "source": "zz"}, 400, "source language is not supported"),
        ("", {**RECORDED, "q": ["a"], "cid": ["x"]}, 400, "cid: "),
        ("", {**RECORDED, "q": ["a"], "colour": 1}, 400, "colour is not a field"),
        ("", {"q": ["a"]}, 400, "target is missing"),
        ("", {**RECORDED, "q": ["a"] * 5}, 413, "max_texts"),
        ("", {**RECORDED, "q": ["CRASH-ADD"], "source": "en"}, 500, "the model failed on q[0]"),
        ("/glossaries", {}, 404, "no such path"),
    ],
)
async def test_refusals(
    serving: Serving, path: str, body: dict[str, Any], status: int, words: str
) -> None:
    answer = await post(serving, path, body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, status)
    assert words in error["message"]
    assert error["errors"][0]["message"] == error["message"]
