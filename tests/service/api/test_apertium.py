"""Apertium's API, with requests as OmegaT sends them."""

import pytest

from service.settings import Settings
from tests.service.conftest import Serving
from tests.service.fakes import fake_registry

pytestmark = pytest.mark.anyio
SETTINGS = Settings(max_characters=100)


@pytest.mark.parametrize("pair", ["en|de", "eng|deu", "EN-US|de-AT"])
async def test_a_text(serving: Serving, pair: str) -> None:
    query = {"q": "a & ü", "markUnknown": "no", "langpair": pair, "key": "any-key"}
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        answer = await client.get("/translate", params=query)
    assert answer.json() == {
        "responseStatus": 200,
        "responseData": {"translatedText": "A & Ü"},
        "responseDetails": None,
    }


async def test_pairs(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de", "de-en"), SETTINGS) as client:
        answer = (await client.get("/listPairs")).json()
    assert answer["responseData"] == [
        {"sourceLanguage": "de", "targetLanguage": "en"},
        {"sourceLanguage": "en", "targetLanguage": "de"},
    ]


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ({"q": "a", "langpair": "en|fr"}, 400, "target language is not supported"),
        ({"q": "a", "langpair": "en"}, 400, "not a pair of languages"),
        ({"langpair": "en|de"}, 400, "q is missing"),
        ({"q": "a", "langpair": "en|de", "format": "docx"}, 400, "format: "),
        ({"q": "a" * 101, "langpair": "en|de"}, 413, "max_characters"),
    ],
)
async def test_refusals(serving: Serving, query: dict[str, str], status: int, words: str) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        answer = await client.get("/translate", params=query)
    body = answer.json()
    assert (answer.status_code, body["code"], body["status"]) == (status, status, "error")
    assert words in body["explanation"]
