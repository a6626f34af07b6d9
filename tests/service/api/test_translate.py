"""POST /v1/translate and /v1/score with fake models: answers to valid requests."""

import asyncio
from typing import Any

import httpx
import pytest

from model.text.segmenter import Segmentation
from service.serving.registry import Registry
from service.settings import Settings
from tests.service.conftest import Serving
from tests.service.fakes import FakeTranslator, fake_model, fake_registry

pytestmark = pytest.mark.anyio
SETTINGS = Settings()


async def translate(client: httpx.AsyncClient, **body: Any) -> Any:
    body = {"source": "en", "target": "de"} | body
    answer = await client.post("/v1/translate", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_one_text(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de")) as client:
        answer = await translate(client, text="good morning")
    assert answer == {
        "model": {"name": "en-de", "version": "0123456789ab", "source": "en", "target": "de"},
        "translations": [
            {
                "text": "GOOD MORNING",
                "score": -6.0,
                "log_prob": -1.0,
                "truncated": False,
                "source_tokens": 2,
                "target_tokens": 2,
            }
        ],
    }


async def test_list_keeps_its_order_though_the_short_ones_finish_first(serving: Serving) -> None:
    texts = [" ".join(["w"] * (7 * i % 11)) + f" {i}" for i in range(40)]
    async with serving(fake_registry(SETTINGS, "en-de")) as client:
        answer = await translate(client, text=texts)
    assert [t["text"] for t in answer["translations"]] == [text.upper() for text in texts]


@pytest.mark.parametrize("texts", [[], [""], ["  \n\t "], ["", "word", "\n"]])
async def test_blank_texts_are_returned_unchanged(serving: Serving, texts: list[str]) -> None:
    async with serving(fake_registry(SETTINGS, "en-de")) as client:
        answer = await translate(client, text=texts)
    assert [t["text"] for t in answer["translations"]] == [text.upper() for text in texts]


async def test_requests_with_different_settings_share_decoding_steps(serving: Serving) -> None:
    translator = FakeTranslator(delay_s=0.001)
    registry = Registry([fake_model("en-de", SETTINGS, translator=translator)])
    async with serving(registry) as client:
        answers = await asyncio.gather(
            *(translate(client, text="a b c d e f g h", beam_size=beam) for beam in (1, 2, 3, 4))
        )
    assert [a["translations"][0]["score"] for a in answers] == [-2.0, -3.0, -4.0, -5.0]
    assert max(translator.searches_together) > 1
    assert translator.threads == {"model en-de"}  # never the event loop's


async def test_search_settings_reach_the_search(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de")) as client:
        answer = await translate(client, text="a", beam_size=3, length_penalty=0.5)
    assert answer["translations"][0]["score"] == -3.5


async def test_alternatives(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de")) as client:
        answer = await translate(client, text="a b", alternatives=2)
    assert answer["translations"][0]["alternatives"] == [
        {"text": "A B 1", "score": -3.0, "log_prob": -4.0},
        {"text": "A B 2", "score": -4.0, "log_prob": -5.0},
    ]


async def test_alignments_and_token_log_probs(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de")) as client:
        both = await translate(client, text="a b", alignments=True, token_log_probs=True)
        aligned = await translate(client, text="a b", alignments=True)
        scored = await translate(client, text="a b", token_log_probs=True)
    (segment,) = both["translations"][0]["segments"]
    assert segment == {
        "source": "a b",
        "text": "A B",
        "score": -1.0,
        "source_pieces": ["a", "b"],
        "target_pieces": ["A", "B"],
        "token_log_probs": [-0.25, -0.25, -0.25],
        "alignment": [[0.3333, 0.3333, 0.3333]] * 3,
    }
    assert "token_log_probs" not in aligned["translations"][0]["segments"][0]
    assert "alignment" not in scored["translations"][0]["segments"][0]


async def test_offsets_and_words(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de")) as client:
        answer = await translate(client, text="a b", offsets=True, words=True)
        offsets = await translate(client, text="a b", offsets=True)
    (segment,) = answer["translations"][0]["segments"]
    places = {"source_start": 0, "source_end": 3, "target_start": 0, "target_end": 3}
    sources = [
        {"text": "a", "start": 0, "end": 1, "weight": 0.5},
        {"text": "b", "start": 2, "end": 3, "weight": 0.5},
    ]
    assert segment == {
        "source": "a b",
        "text": "A B",
        "score": -1.0,
        **places,
        "words": [  # exp(-0.25)
            {"text": "A", "start": 0, "end": 1, "confidence": 0.7788, "sources": sources},
            {"text": "B", "start": 2, "end": 3, "confidence": 0.7788, "sources": sources},
        ],
    }
    (segment,) = offsets["translations"][0]["segments"]
    assert segment == {"source": "a b", "text": "A B", "score": -1.0, **places}


@pytest.mark.parametrize(
    ("setting", "asked", "used"),
    [
        ("sentence", {}, "sentence"),
        ("line", {}, "line"),
        ("line", {"segmentation": "none"}, "none"),
    ],
)
async def test_segmentation_is_the_settings_unless_asked(
    serving: Serving, setting: Segmentation, asked: dict[str, str], used: str
) -> None:
    settings, translator = Settings(segmentation=setting), FakeTranslator()
    registry = Registry([fake_model("en-de", settings, translator=translator)])
    async with serving(registry, settings) as client:
        await translate(client, text="a", **asked)
    assert translator.segmentations[1:] == [used]  # the first was the model's own


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({"source": "EN", "target": "De"}, "en-de"),
        ({"source": "en-US", "target": "de_AT"}, "en-de"),
        ({"source": "en", "target": "fr-CA"}, "en-fr"),
        ({"model": "en-fr"}, "en-fr"),
        ({"model": "en-fr", "source": "en-GB", "target": "fr"}, "en-fr"),
    ],
)
async def test_model_is_chosen_by_name_or_languages(
    serving: Serving, asked: dict[str, str], name: str
) -> None:
    async with serving(fake_registry(SETTINGS, "en-de", "en-fr")) as client:
        answer = await client.post("/v1/translate", json={"text": "a", **asked})
    assert answer.json()["model"]["name"] == name


async def test_first_name_serves_a_pair_that_two_models_know(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de-v2", "en-de-v1")) as client:
        by_pair = await translate(client, text="a")
        by_name = await client.post("/v1/translate", json={"text": "a", "model": "en-de-v2"})
    assert by_pair["model"]["name"] == "en-de-v1"
    assert by_name.json()["model"]["name"] == "en-de-v2"


async def test_scores_of_given_translations(serving: Serving) -> None:
    pairs = [{"source": "a", "target": "x" * i + " y"} for i in range(40)]
    body = {"source": "en", "target": "de", "pairs": pairs}
    async with serving(fake_registry(SETTINGS, "en-de")) as client:
        answer = await client.post("/v1/score", json=body)
    scores = answer.json()["scores"]
    assert [score["score"] for score in scores] == [-2.0 - i for i in range(40)]
    assert scores[1] == {
        "score": -3.0,
        "log_prob": -1.0,
        "pieces": ["x", "y"],
        "token_log_probs": [-0.5, -0.5],
    }


async def test_models_are_listed(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-fr", "en-de")) as client:
        answer = await client.get("/v1/models")
    assert [model["name"] for model in answer.json()["models"]] == ["en-de", "en-fr"]
    assert answer.json()["models"][0] == {
        "name": "en-de",
        "status": "ready",
        "source": "en",
        "target": "de",
        "version": "0123456789ab",
        "precision": "fp32",
        "exact": True,
        "max_source_tokens": 200,
        "beam_size": 5,
        "metrics": {"test": {"bleu": 41.5}, "calibration": {"unsure_below": 0.06}},
    }


async def test_documentation_needs_no_other_host(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de")) as client:
        page = (await client.get("/docs")).text
        scripts = [part.split('"')[0] for part in page.split('src="')[1:]]
        loaded = [await client.get(script) for script in scripts]
        schema = (await client.get("/openapi.json")).json()
    assert scripts
    assert "https://" not in page
    assert all(answer.status_code == 200 for answer in loaded)
    refusals = schema["paths"]["/v1/translate"]["post"]["responses"]
    assert refusals["422"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/ErrorBody"
    }
