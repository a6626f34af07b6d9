"""Translation through a third language over HTTP: every API, with fake models."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from service.serving.registry import Registry
from service.serving.reload import Reloader
from service.serving.served_model import LoadedModel, ModelState, ServedModel
from service.settings import Settings
from tests.service.conftest import Serving
from tests.service.fakes import (
    FakeSearch,
    FakeTranslation,
    FakeTranslator,
    fake_info,
    translated,
)

pytestmark = pytest.mark.anyio
SETTINGS = Settings(pivot=True)
PAIR = {"source": "fr", "target": "de"}
GERMAN = "Ich weiß nicht, wo der Bahnhof ist."


def telling(name: str, version: str = "1", beam_size: int = 5, **kind: Any) -> ServedModel:
    """A model that adds its name to what it reads; `name` is `en-de`."""
    source, target = name.split("-")

    def answer(text: str, search: FakeSearch, alignments: bool) -> FakeTranslation:
        found = translated(f"{text} {name}", search, alignments)
        return replace(found, text=f"{text} {name}" if text.strip() else text)

    def load() -> LoadedModel:
        info = replace(
            fake_info(source, target),
            version=f"{name} {version}",
            search=FakeSearch(beam_size=beam_size),  # type: ignore[arg-type]
        )
        return LoadedModel(FakeTranslator(answer=answer, **kind), info)  # type: ignore[arg-type]

    return ServedModel(name, load, SETTINGS)


def registry(*names: str) -> Registry:
    return Registry([telling(name) for name in names or ("fr-en", "en-de")])


async def translate(client: httpx.AsyncClient, **body: Any) -> Any:
    answer = await client.post("/v1/translate", json={**PAIR, **body})
    assert answer.status_code == 200, answer.text
    assert answer.headers["X-Pivot-Language"] == "en"
    return answer.json()


async def test_the_answer_names_the_pivot_language(serving: Serving) -> None:
    async with serving(registry(), SETTINGS) as client:
        answer = await translate(client, text=["one", " \n", "two", "one"])
    texts = [each["text"] for each in answer["translations"]]
    assert texts == ["one fr-en en-de", " \n", "two fr-en en-de", "one fr-en en-de"]
    assert answer["model"] == {
        "name": "en-de",
        "version": "en-de 1",
        "source": "en",
        "target": "de",
    }
    assert answer["pivot"] == {
        "language": "en",
        "model": {"name": "fr-en", "version": "fr-en 1", "source": "fr", "target": "en"},
    }
    first = answer["translations"][0]
    assert (first["log_prob"], first["score"]) == (-2.0, -12.0)
    assert (first["source_tokens"], first["target_tokens"]) == (2, 3)


async def test_a_direct_translation_has_no_pivot_field(serving: Serving) -> None:
    async with serving(registry("fr-en", "en-de", "fr-de"), SETTINGS) as client:
        answer = await client.post("/v1/translate", json={**PAIR, "text": "a"})
    assert answer.json()["translations"][0]["text"] == "a fr-de"
    assert "pivot" not in answer.json()
    assert "X-Pivot-Language" not in answer.headers


async def test_pivots_are_off_by_default(serving: Serving) -> None:
    async with serving(registry(), Settings()) as client:
        answer = await client.post("/v1/translate", json={**PAIR, "text": "a"})
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "unknown_language_pair"
        body = {"q": "a", "source": "fr", "target": "de"}
        assert (await client.post("/translate", json=body)).status_code == 400
        listed = (await client.get("/languages")).json()
    assert {each["code"]: each["targets"] for each in listed}["fr"] == ["en"]


@pytest.mark.parametrize("name", ["alignments", "offsets", "token_log_probs", "words"])
async def test_details_of_one_model_are_refused_with_a_pivot(serving: Serving, name: str) -> None:
    async with serving(registry(), SETTINGS) as client:
        answer = await client.post("/v1/translate", json={**PAIR, "text": "a", name: True})
        error = answer.json()["error"]
        assert (answer.status_code, error["field"]) == (422, name)
        assert f"{name} is not available for a translation through en" in error["message"]
        body = {"text": "a", "model": "en-de", name: True}
        assert (await client.post("/v1/translate", json=body)).status_code == 200


async def test_scores_come_from_one_model_not_from_a_pivot(serving: Serving) -> None:
    async with serving(registry(), SETTINGS) as client:
        body = {**PAIR, "pairs": [{"source": "a", "target": "b"}]}
        assert (await client.post("/v1/score", json=body)).status_code == 404


async def test_each_model_of_a_pivot_searches_as_alone_and_only_the_last_gives_alternatives(
    serving: Serving,
) -> None:
    models = Registry([telling("fr-en", beam_size=2), telling("en-de", beam_size=7)])
    async with serving(models, SETTINGS) as client:
        (plain,) = (await translate(client, text="a"))["translations"]
        assert plain["score"] == -3.0 - 8.0
        (rich,) = (await translate(client, text="a", alternatives=5))["translations"]
        texts = [each["text"] for each in rich["alternatives"]]
        assert texts == [f"A FR-EN EN-DE {rank}" for rank in range(1, 6)]
        assert rich["alternatives"][0]["log_prob"] == -1.0 - 4.0
        (wide,) = (await translate(client, text="a", beam_size=10))["translations"]
        assert wide["score"] == -11.0 - 11.0
        refused = await client.post("/v1/translate", json={**PAIR, "text": "a", "alternatives": 7})
        assert refused.json()["error"]["field"] == "alternatives"


async def test_warnings_of_a_translation_by_two_models_are_returned(serving: Serving) -> None:
    async with serving(registry(), SETTINGS) as client:
        answer = await translate(client, text="x " * 8 + "1234", warnings=True)
    assert answer["translations"][0]["warnings"] == ["loop"]


async def test_both_models_of_a_pivot_share_one_deadline(serving: Serving) -> None:
    # Each takes 0.2 s, which would be soon enough for one of them.
    models = Registry([telling("fr-en", delay_s=0.04), telling("en-de", delay_s=0.04)])
    async with serving(models, SETTINGS) as client:
        headers = {"X-Deadline-Seconds": "0.3"}
        answer = await client.post(
            "/v1/translate", json={**PAIR, "text": "a b c d e"}, headers=headers
        )
        assert answer.status_code == 504
        assert "no answer within 0.3 s" in answer.json()["error"]["message"]
        last = models.served_models[0]
        while last.queue_limits.num_texts:
            await asyncio.sleep(0.001)


async def test_errors_of_either_leg_name_the_text(serving: Serving) -> None:
    def fails(_text: str, search: FakeSearch, alignments: bool) -> FakeTranslation:
        return replace(translated("", search, alignments), text="REFUSE secret")

    refusing = telling("fr-en")
    refusing._load = lambda: LoadedModel(
        FakeTranslator(answer=fails),  # type: ignore[arg-type]
        fake_info("fr", "en"),
    )
    cases = (
        (registry(), ["a", "REFUSE"], "text[1]"),
        (Registry([refusing, telling("en-de")]), ["a", "b"], "text[0]"),
    )
    for models, texts, culprit in cases:
        async with serving(models, SETTINGS) as client:
            answer = await client.post("/v1/translate", json={**PAIR, "text": texts})
            assert (answer.status_code, answer.json()["error"]["field"]) == (422, culprit)
            assert "secret" not in answer.text


async def test_each_model_of_a_pivot_has_its_own_cache_entries(serving: Serving) -> None:
    async with serving(registry(), SETTINGS) as client:
        await translate(client, text="a")
        await client.post("/v1/translate", json={"text": "b fr-en", "model": "en-de"})
        await translate(client, text="b")
        metrics = (await client.get("/metrics")).text
    assert 'dragoman_cache_texts_total{result="hit"} 1.0' in metrics
    assert 'dragoman_cache_texts_total{result="miss"} 4.0' in metrics
    assert 'dragoman_texts_total{model="fr-en",version="fr-en 1"} 2.0' in metrics


async def test_a_pivot_model_replaced_during_a_request_still_answers(serving: Serving) -> None:
    held = FakeTranslator(answer=lambda *asked: replace(translated(*asked), text="between"))
    old = [telling("fr-en"), telling("en-de")]
    old[0]._load = lambda: LoadedModel(held, fake_info("fr", "en"))  # type: ignore[arg-type]
    models = Registry(old)
    reloader = Reloader(models, None)
    async with serving(reloader, SETTINGS) as client:
        held.running.clear()
        asking = asyncio.create_task(translate(client, text="a"))
        while not old[0].queue_limits.num_texts:
            await asyncio.sleep(0.001)
        newer = telling("en-de", version="2")
        newer.start()
        while newer.state is ModelState.LOADING:
            await asyncio.sleep(0.001)
        models.put(newer)
        reloader._retire(old[1])  # it has nothing to do yet, and is wanted soon
        await asyncio.sleep(0.1)
        assert old[1].queue_limits.num_texts == 0
        assert models.retired == {old[1]}  # not closed yet
        held.running.set()
        answer = await asking
        assert answer["translations"][0]["text"] == "between en-de"
        assert answer["model"]["version"] == "en-de 1"
        assert (await translate(client, text="b"))["model"]["version"] == "en-de 2"
        while models.retired:
            await asyncio.sleep(0.001)
        assert old[1].state is ModelState.STOPPED


@contextmanager
def log_lines() -> Iterator[list[str]]:
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("dragoman.request")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


REQUESTS: list[tuple[str, dict[str, Any], str]] = [
    ("POST", {"url": "/v1/translate", "json": {**PAIR, "text": "a"}}, "a fr-en en-de"),
    ("POST", {"url": "/translate", "json": {**PAIR, "q": "a"}}, "a fr-en en-de"),
    (
        "POST",
        {
            "url": "/v2/translate",
            "json": {"text": ["a"], "source_lang": "FR", "target_lang": "DE"},
            "headers": {"Authorization": "DeepL-Auth-Key any"},
        },
        "a fr-en en-de",
    ),
    (
        "POST",
        {"url": "/language/translate/v2", "json": {**PAIR, "q": ["a"], "format": "text"}},
        "a fr-en en-de",
    ),
    (
        "POST",
        {
            "url": "/translate",
            "params": {"api-version": "3.0", "from": "fr", "to": "de"},
            "json": [{"text": "a"}],
        },
        "a fr-en en-de",
    ),
    (
        "POST",
        {
            "url": "/translate",
            "params": {"api-version": "2026-06-06"},
            "json": {"inputs": [{"text": "a", "language": "fr", "targets": [{"language": "de"}]}]},
        },
        "a fr-en en-de",
    ),
    (
        "GET",
        {"url": "/translate", "params": {"q": "a", "langpair": "fr|de"}},
        "a fr-en en-de",
    ),
]


@pytest.mark.parametrize(("method", "asked", "expected"), REQUESTS)
async def test_every_api_translates_by_a_pivot(
    serving: Serving, method: str, asked: dict[str, Any], expected: str
) -> None:
    async with serving(registry(), SETTINGS) as client:
        with log_lines() as lines:
            answer = await client.request(method, **asked)
    assert answer.status_code == 200, answer.text
    assert expected in answer.text
    assert answer.headers["X-Pivot-Language"] == "en"
    (line,) = lines
    assert "model=fr-en,en-de " in line


async def test_every_api_lists_the_pairs_reached_by_a_pivot(serving: Serving) -> None:
    async with serving(registry("fr-en", "en-de", "cs-sv"), SETTINGS) as client:

        async def get(url: str) -> Any:
            headers = {"Authorization": "DeepL-Auth-Key any"} if "/v2/" in url else {}
            return (await client.get(url, headers=headers)).json()

        languages = {each["code"]: each["targets"] for each in await get("/languages")}
        assert languages == {"fr": ["en", "de"], "en": ["de"], "cs": ["sv"], "de": [], "sv": []}
        pairs = (await get("/listPairs"))["responseData"]
        assert {"sourceLanguage": "fr", "targetLanguage": "de"} in pairs
        assert len(pairs) == 4
        targets = await get("/v2/languages?type=target")
        assert [each["language"] for each in targets] == ["EN-GB", "EN-US", "DE", "SV"]
        azure = (await get("/languages?api-version=3.0"))["translation"]
        assert set(azure) == {"fr", "en", "de", "cs", "sv"}


async def test_texts_of_one_request_take_routes_by_their_language(serving: Serving) -> None:
    texts = ["Où est la gare, s'il vous plaît ?", "Where is the train station, please?", GERMAN]
    async with serving(registry("fr-en", "en-de", "de-en"), SETTINGS) as client:
        with log_lines() as lines:
            answer = await client.post(
                "/translate", json={"q": texts, "source": "auto", "target": "de"}
            )
    assert answer.json()["translatedText"] == [
        f"{texts[0]} fr-en en-de",
        f"{texts[1]} en-de",
        GERMAN,
    ]
    assert answer.headers["X-Pivot-Language"] == "en"
    assert "model=fr-en,en-de,en-de " in lines[0]
