"""The cache of translations: its contents, eviction, and that no key gets another's answer."""

from dataclasses import replace

import pytest

from service.serving.cache import TranslationCache, TranslationKey
from service.serving.registry import Registry
from service.settings import Settings
from tests.service.conftest import Serving
from tests.service.fakes import FakeSearch, FakeTranslator, fake_model, translated
from tests.service.monitoring.test_metrics import read

KEY = TranslationKey("v1", "fp32", FakeSearch(), "line", "a b")  # type: ignore[arg-type]


def put(cache: TranslationCache, key: TranslationKey, text: str) -> None:
    cache.put(key, translated(text, FakeSearch(), alignments=False))  # type: ignore[arg-type]


def test_a_cache_key_has_the_model_the_settings_and_the_text() -> None:
    cache = TranslationCache(10_000)
    put(cache, KEY, "a b")
    remembered = cache.get(KEY)
    assert remembered is not None
    assert remembered.text == "A B"
    for other in (
        replace(KEY, version="v2"),
        replace(KEY, precision="int8"),
        replace(KEY, search=FakeSearch(beam_size=1)),  # type: ignore[arg-type]
        replace(KEY, segmentation="none"),
        replace(KEY, text="a b "),
    ):
        assert cache.get(other) is None


def test_the_least_recently_used_entries_are_evicted() -> None:
    cache = TranslationCache(1_000)
    keys = [replace(KEY, text=f"{number:02}") for number in range(20)]
    put(cache, keys[0], keys[0].text)
    for key in keys[1:]:
        assert cache.get(keys[0]) is not None
        put(cache, key, key.text)
    assert cache.num_characters <= 1_000
    assert cache.get(keys[0]) is not None
    assert cache.get(keys[1]) is None
    assert cache.get(keys[-1]) is not None


def test_a_text_too_large_for_the_cache_is_not_stored() -> None:
    cache = TranslationCache(1_000)
    put(cache, KEY, "a b")
    put(cache, replace(KEY, text="x" * 300), "x" * 300)
    assert cache.get(KEY) is not None
    assert cache.get(replace(KEY, text="x" * 300)) is None


def test_a_cache_of_size_zero_stores_nothing() -> None:
    cache = TranslationCache(0)
    put(cache, KEY, "a b")
    assert cache.get(KEY) is None


@pytest.mark.anyio
async def test_a_text_is_translated_once(serving: Serving) -> None:
    translator = FakeTranslator()
    settings = Settings()
    registry = Registry([fake_model("en-de", settings, translator=translator)])
    body = {"source": "en", "target": "de", "text": ["one", "two", "one"], "alternatives": 1}
    async with serving(registry, settings) as client:
        first = await client.post("/v1/translate", json=body)
        assert translator.num_tickets == 1 + 2
        assert (await client.post("/v1/translate", json=body)).json() == first.json()
        assert translator.num_tickets == 1 + 2
        libretranslate = {"source": "en", "target": "de", "q": ["two", "three"]}
        answer = await client.post("/translate", json={**libretranslate, "alternatives": 1})
        assert answer.json()["translatedText"] == ["TWO", "THREE"]
        # Without alternatives, and with alignments, it is something else.
        await client.post("/v1/translate", json={**body, "alternatives": 0})
        await client.post("/v1/translate", json={**body, "alternatives": 0, "alignments": True})
        assert translator.num_tickets == 1 + 2 + 1 + 2 + 2
        found = await read(client)
    assert found["dragoman_cache_texts_total result=hit"] == 1 + 3 + 1 + 1 + 1
    assert found["dragoman_cache_texts_total result=miss"] == 2 + 1 + 2 + 2
    assert found["dragoman_cache_characters"] > 0
    assert found["dragoman_texts_total model=en-de version=0123456789ab"] == 3 + 3 + 2 + 3 + 3


@pytest.mark.anyio
async def test_a_bad_text_that_is_repeated_is_named_by_its_first_index(serving: Serving) -> None:
    settings = Settings()
    registry = Registry([fake_model("en-de", settings)])
    async with serving(registry, settings) as client:
        body = {"source": "en", "target": "de", "text": ["a", "a", "b", "REFUSE", "REFUSE"]}
        answer = await client.post("/v1/translate", json=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == "text[3]"
