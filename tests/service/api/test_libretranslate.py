"""LibreTranslate's API as its applications use it: every kind of body, lists, and errors."""

import json
import logging
import threading
from typing import Any

import httpx
import pytest

from service.lifecycle import Lifecycle, Phase
from service.serving.registry import Registry
from service.settings import Settings
from tests.service.api.conftest import held_back
from tests.service.conftest import Serving
from tests.service.fakes import FakeTranslator, fake_model, fake_registry

pytestmark = pytest.mark.anyio
SETTINGS = Settings(max_texts=4, max_characters=200, max_body_bytes=4096)
ASKED = {"q": "a b", "source": "en", "target": "de"}
MARK = "KEEPTHISPRIVATE"


def multipart(fields: dict[str, str]) -> dict[str, Any]:
    return {name: (None, value) for name, value in fields.items()}


@pytest.mark.parametrize(
    "request_parts",
    [
        {"json": ASKED},
        {"json": {**ASKED, "api_key": None, "format": "text", "alternatives": 0}},
        {"json": {**ASKED, "apiKey": "abc"}},
        {"data": ASKED},
        {"files": multipart(ASKED)},
        {"params": ASKED},
        {"params": {"q": "a b"}, "files": multipart({"source": "en", "target": "de"})},
        {"json": {**ASKED, "source": "EN-us", "target": "de_AT"}},
    ],
)
async def test_fields_in_query_form_or_json(
    serving: Serving, request_parts: dict[str, Any]
) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        answer = await client.post("/translate", **request_parts)
    assert (answer.status_code, answer.json()) == (200, {"translatedText": "A B"})


@pytest.mark.parametrize("text", ["两个人", "%E4%B8%A4个人", "größe+und +", "👩‍👧 a&q2"])
async def test_a_form_in_plain_utf_8(serving: Serving, text: str) -> None:
    form = f"q={text}&source=en&target=de".replace("&q2", "%26q2")
    headers = {"Content-Type": "application/x-www-form-urlencoded"}  # as curl -d sends it
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        answer = await client.post("/translate", content=form.encode(), headers=headers)
    expected = text.replace("%E4%B8%A4", "两").replace("+", " ").upper()
    assert answer.json() == {"translatedText": expected}


async def test_a_list_gets_lists(serving: Serving) -> None:
    texts = ["Where is the station, please?", "", "Où est la gare, s'il vous plaît ?"]
    body = {"q": texts, "source": "auto", "target": "de", "alternatives": 2}
    async with serving(fake_registry(SETTINGS, "en-de", "fr-de"), SETTINGS) as client:
        answer = (await client.post("/translate", json=body)).json()
        one = (await client.post("/translate", json={**body, "q": texts[:1]})).json()
        none = (await client.post("/translate", json={**body, "q": []})).json()
    assert answer["translatedText"] == [text.upper() for text in texts]
    languages = [found["language"] for found in answer["detectedLanguage"]]
    assert (languages[0], languages[2]) == ("en", "fr")
    assert answer["detectedLanguage"][1]["confidence"] == 0
    assert [len(others) for others in answer["alternatives"]] == [2, 2, 2]
    assert {len(column) for column in one.values()} == {1}
    assert none == {"translatedText": [], "detectedLanguage": [], "alternatives": []}


async def test_a_single_text_gets_plain_values(serving: Serving) -> None:
    body = {"q": "Where is the station?", "source": "auto", "target": "de", "alternatives": "1"}
    async with serving(fake_registry(SETTINGS, "en-de", "fr-de"), SETTINGS) as client:
        answer = (await client.post("/translate", data=body)).json()
    confidence = answer["detectedLanguage"].pop("confidence")
    assert 90 < confidence <= 100
    assert answer == {
        "translatedText": "WHERE IS THE STATION?",
        "detectedLanguage": {"language": "en"},
        "alternatives": ["WHERE IS THE STATION? 1"],
    }


async def test_more_alternatives_than_the_models_own_beam(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        answer = await client.post("/translate", json={**ASKED, "alternatives": 9})
        refused = await client.post("/translate", json={**ASKED, "alternatives": 16})
    assert len(answer.json()["alternatives"]) == 9
    assert refused.status_code == 400
    assert "max_beam_size" in refused.json()["error"]


async def test_text_in_the_target_language_is_returned_unchanged(serving: Serving) -> None:
    body = {"q": "Wo ist der Bahnhof, bitte?", "source": "auto", "target": "de-AT"}
    async with serving(fake_registry(SETTINGS, "en-de", "de-en"), SETTINGS) as client:
        answer = (await client.post("/translate", json=body)).json()
    assert answer["translatedText"] == body["q"]
    assert answer["detectedLanguage"]["language"] == "de"


async def test_a_text_without_letters_is_translated_anyway(serving: Serving) -> None:
    body = {"q": "12:30", "source": "auto", "target": "fr"}
    async with serving(fake_registry(SETTINGS, "en-de", "it-fr"), SETTINGS) as client:
        answer = (await client.post("/translate", json=body)).json()
        guesses = (await client.post("/detect", json={"q": "12:30"})).json()
    assert answer["detectedLanguage"] == {"language": "it", "confidence": 0}
    assert guesses == [{"language": "en", "confidence": 0}]


async def test_html_keeps_its_tags_and_is_detected_as_a_whole(serving: Serving) -> None:
    """As Mastodon asks: a list of HTML, a key of null."""
    texts = ['<p>Où <a href="/gare">est la</a> gare ?</p>', "<p>Rock &amp; roll is <b>here</b></p>"]
    body = {"q": texts, "source": "auto", "target": "de", "format": "html", "api_key": None}
    settings = Settings(max_texts=8)
    async with serving(fake_registry(settings, "en-de", "fr-de"), settings) as client:
        answer = (await client.post("/translate", json={**body, "alternatives": 1})).json()
        failed = await client.post("/translate", json={**body, "q": [*texts, "<i>a</i>CRASH-ADD"]})
    assert answer["translatedText"] == [
        '<p>OÙ <a href="/gare">EST LA</a> GARE ?</p>',
        "<p>ROCK &amp; ROLL IS <b>HERE</b></p>",
    ]
    assert [found["language"] for found in answer["detectedLanguage"]] == ["fr", "en"]
    assert answer["alternatives"][1] == ["<p>ROCK &amp; ROLL IS  1<b>HERE 1</b></p>"]
    check(failed, 500, "the model failed on q[2]")


def check(answer: httpx.Response, status: int, words: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error"}
    assert words in answer.json()["error"]
    assert MARK not in answer.text


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"q": "a", "source": "en"}, 400, "target is missing"),
        ({"source": "en", "target": "de"}, 400, "q is missing"),
        ({**ASKED, "q": 5}, 400, "q: "),
        ({**ASKED, "q": ["a", 5]}, 400, "q[1]"),
        ({**ASKED, "q": ["a", "\ud800"]}, 400, "surrogate"),
        ({**ASKED, "q": "a\0"}, 400, "q holds a NUL"),
        ({**ASKED, "source": MARK}, 400, "source language is not supported; there are: en"),
        ({**ASKED, "source": MARK * 9}, 400, "source: "),
        ({**ASKED, "source": ["en"]}, 400, "source: "),
        ({**ASKED, "q": "<p>a</p>" * 5, "format": "html"}, 413, "max_texts"),
        ({**ASKED, "format": MARK}, 400, "format: "),
        ({**ASKED, "alternatives": -1}, 400, "alternatives: "),
        ({**ASKED, "alternatives": "many"}, 400, "alternatives: "),
        ({**ASKED, "colour": MARK}, 400, "colour is not a field"),
        ({**ASKED, "q": ["a"] * 5}, 413, "max_texts"),
        ({**ASKED, "q": MARK * 20}, 413, "max_characters"),
        ({**ASKED, "q": MARK * 1000}, 413, "max_body_bytes"),
        ([MARK], 400, "not an object"),
    ],
)
async def test_refusals(serving: Serving, body: Any, status: int, words: str) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        content = json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        check(await client.post("/translate", content=content, headers=headers), status, words)


@pytest.mark.parametrize(
    ("kind", "content", "status", "words"),
    [
        ("application/json", b"{", 400, "not JSON"),
        ("application/json", b'{"q": NaN}', 400, "NaN"),
        ("text/plain", b"q=a", 415, "Content-Type"),
        ("application/x-www-form-urlencoded", b"q=%ff", 400, "UTF-8"),
        ("application/x-www-form-urlencoded", b"q=\xff", 400, "UTF-8"),
        ("application/x-www-form-urlencoded", b"q=\xe4%B8%A4", 400, "UTF-8"),
        ("application/x-www-form-urlencoded", b"q=\xed\xa0\x80", 400, "UTF-8"),
        ("application/x-www-form-urlencoded", b"q=%00", 400, "NUL"),
        ("application/x-www-form-urlencoded", b"q=a&" * 100, 413, "fields"),
        ("application/x-www-form-urlencoded; charset=latin-1", b"q=a", 415, "charset"),
        ("multipart/form-data", b"--x", 400, "multipart"),
        ("multipart/form-data; boundary=x", b"\xff", 400, "UTF-8"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="q"; filename="f"\r\n\r\na\r\n--x--\r\n',
            400,
            "without files",
        ),
    ],
)
async def test_bodies_that_cannot_be_read(
    serving: Serving, kind: str, content: bytes, status: int, words: str
) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        for path in ("/translate", "/detect"):
            answer = await client.post(path, content=content, headers={"content-type": kind})
            check(answer, status, words)


async def test_a_field_in_two_places_is_refused(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        answer = await client.post("/translate?source=fr", json=ASKED)
    check(answer, 400, "source is both")


async def test_errors_of_the_framework_have_the_apis_error_body(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        check(await client.put("/translate"), 405, "method")
        check(await client.post("/translate_file"), 404, "no such path")


async def test_languages_with_a_body_and_by_post(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        answers = [
            await client.request("GET", "/languages", data={"api_key": "a"}),
            await client.request("GET", "/languages", files=multipart({"a": ""})),
            await client.post("/languages", data={"api_key": "a"}),
        ]
    assert [answer.json()[0]["code"] for answer in answers] == ["en"] * 3


async def test_settings_and_health(serving: Serving) -> None:
    lifecycle = Lifecycle()
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS, lifecycle) as client:
        settings = (await client.get("/frontend/settings")).json()
        healthy = await client.get("/health")
        lifecycle.phase = Phase.LEAVING
        leaving = await client.get("/health")
    assert settings["charLimit"] == 200
    assert settings["language"]["target"] == {"code": "de", "name": "German"}
    assert (healthy.status_code, healthy.json()) == (200, {"status": "ok"})
    check(leaving, 503, "not ready")
    assert leaving.headers["retry-after"] == "1"


async def test_nothing_is_supported_while_loading(serving: Serving) -> None:
    loaded = threading.Event()
    registry = Registry([fake_model("en-de", SETTINGS, before=held_back(loaded))])
    async with serving(registry, SETTINGS, wait=False) as client:
        try:
            for answer in (
                await client.post("/translate", json=ASKED),
                await client.post("/detect", json={"q": "a"}),
                await client.get("/languages"),
                await client.get("/health"),
            ):
                check(answer, 503, "")
                assert answer.headers["retry-after"]
        finally:
            loaded.set()


async def test_one_failing_language_ends_the_work_of_the_other(serving: Serving) -> None:
    held = FakeTranslator(delay_s=0.001)
    registry = Registry(
        [fake_model("en-de", SETTINGS, translator=held), fake_model("fr-de", SETTINGS)]
    )
    texts = ["Where is the station? " + "the " * 30, "Où est la gare, s'il vous plaît ? REFUSE"]
    body = {"q": texts, "source": "auto", "target": "de"}
    async with serving(registry, SETTINGS) as client:
        check(await client.post("/translate", json=body), 400, "q[1]: ")
        after = await client.post("/translate", json=ASKED)
    assert after.status_code == 200
    assert not held.busy  # the long one would be, for thirty steps more
    assert not held.waiting


async def test_log_lines_have_models_and_sizes_but_no_text(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="dragoman")
    body = {"q": [f"Where is {MARK}, please?", "Où est la gare ?"], "source": "auto"}
    async with serving(fake_registry(SETTINGS, "en-de", "fr-de"), SETTINGS) as client:
        await client.post("/translate", json={**body, "target": "de"})
        await client.post(f"/translate?q={MARK}")
        await client.post("/detect", data={"q": MARK})
    lines = [r.getMessage() for r in caplog.records if r.name == "dragoman.request"]
    assert "POST /translate 200" in lines[0]
    assert lines[0].endswith("model=en-de,fr-de texts=2 characters=49 refusal=-")
    assert lines[2].endswith("model=- texts=1 characters=15 refusal=-")
    assert MARK not in caplog.text


async def test_a_text_in_a_language_without_a_model_from_it(serving: Serving) -> None:
    german = "Guten Morgen, wie geht es Ihnen? Ich habe das Buch gelesen."
    async with serving(fake_registry(SETTINGS, "en-de", "en-fr"), SETTINGS) as client:

        async def translate(text: str, target: str) -> httpx.Response:
            return await client.post(
                "/translate", json={"q": text, "source": "auto", "target": target}
            )

        there = (await translate(german, "de")).json()
        assert there["translatedText"] == german
        assert there["detectedLanguage"]["language"] == "de"
        refused = await translate(german, "fr")
        assert refused.status_code == 400
        assert "from German is not supported" in refused.json()["error"]
        # "Bank" is rather German, but by far not sure.
        assert (await translate("Bank", "de")).json()["translatedText"] == "BANK"
        (guess, *_) = (await client.post("/detect", json={"q": german})).json()
        assert guess["language"] == "de"
        assert {
            each["language"] for each in (await client.post("/detect", json={"q": "Bank"})).json()
        } == {"en"}
