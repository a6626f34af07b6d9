"""libretranslatepy and deep-translator, unmodified, do their whole job against us."""

import json
from pathlib import Path
from urllib.error import HTTPError

import pytest
from deep_translator import LibreTranslator
from deep_translator.exceptions import ServerException
from libretranslatepy import LibreTranslateAPI

# libretranslatepy leaves its answers to the collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(params=[None, "any-key"])
def client(address: str, request: pytest.FixtureRequest) -> LibreTranslateAPI:
    return LibreTranslateAPI(address, request.param)


def test_libretranslatepy_translates(client: LibreTranslateAPI) -> None:
    assert client.translate("good morning", "en", "de") == "GOOD MORNING"
    assert client.translate("Where is the train station?", "auto", "de") == (
        "WHERE IS THE TRAIN STATION?"
    )


def test_libretranslatepy_lists_languages(client: LibreTranslateAPI) -> None:
    assert client.languages() == [
        {"code": "en", "name": "English", "targets": ["de", "pt"]},
        {"code": "fr", "name": "French", "targets": ["de"]},
        {"code": "de", "name": "German", "targets": ["en"]},
        {"code": "pt", "name": "Portuguese", "targets": []},
    ]


def test_libretranslatepy_detects(client: LibreTranslateAPI) -> None:
    first, *others = client.detect("Où est la gare, s'il vous plaît ?")
    assert first["language"] == "fr"
    assert first["confidence"] > 90
    assert sum(guess["confidence"] for guess in (first, *others)) == pytest.approx(100, abs=1)


@pytest.mark.parametrize(
    ("text", "source", "target", "status", "words"),
    [
        ("a", "zz", "de", 400, "the source language is not supported; there are: en, fr, de"),
        ("a", "en", "zz", 400, "the target language is not supported; there are: en, de, pt"),
        ("a", "fr", "pt", 400, "this translation from French is not supported"),
        ("secret" * 400, "en", "de", 413, "max_characters"),
        ("CRASH-ADD secret", "en", "de", 500, "the model failed on q"),
        ("REFUSE secret", "en", "de", 400, "q: this cannot be cut into segments"),
    ],
)
def test_libretranslatepy_reports_errors(
    address: str, text: str, source: str, target: str, status: int, words: str
) -> None:
    with pytest.raises(HTTPError) as caught:
        LibreTranslateAPI(address).translate(text, source, target)
    with caught.value as answer:
        body = json.load(answer)
    assert caught.value.code == status
    assert body.keys() == {"error"}
    assert words in body["error"]
    assert "secret" not in body["error"]


def translator(address: str, source: str = "en", target: str = "de") -> LibreTranslator:
    return LibreTranslator(source, target, api_key="any-key", custom_url=f"{address}/")


def test_deep_translator_translates(address: str) -> None:
    assert translator(address).translate("good morning") == "GOOD MORNING"
    assert translator(address, "auto").translate("Good morning, all of you") == (
        "GOOD MORNING, ALL OF YOU"
    )


def test_deep_translator_translates_a_batch_in_order(address: str) -> None:
    texts = ["one two three", "four", "five & six = 11 + ü"]
    assert translator(address).translate_batch(texts) == [text.upper() for text in texts]


def test_deep_translator_reports_errors(address: str) -> None:
    with pytest.raises(ServerException, match="BAD_REQUEST"):
        translator(address, "fr", "pt").translate("a")
    with pytest.raises(ServerException, match="INTERNAL"):
        translator(address).translate("CRASH-ADD")


def test_deep_translator_translates_a_file(address: str, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("one\ntwo", encoding="utf-8")
    assert translator(address).translate_file(str(path)) == "ONE\nTWO"


def test_a_server_that_cannot_answer_now(full: str, loading: str, slow: str) -> None:
    text = "w " * 100
    for address, status, words, code in (
        (full, 429, "max_queue_texts", "TOO_MANY"),
        (loading, 503, "loading", "NOT_AVAIBLE"),  # its spelling
        (slow, 504, "deadline_s", "API server error"),
    ):
        with pytest.raises(HTTPError) as caught:
            LibreTranslateAPI(address).translate(text, "en", "de")
        with caught.value as answer:
            assert words in json.load(answer)["error"]
            assert answer.headers["Retry-After"]
        assert caught.value.code == status
        with pytest.raises(ServerException, match=code):
            translator(address).translate(text)
