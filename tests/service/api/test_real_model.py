"""The service over a real checkpoint, small and untrained: same words over HTTP as without it."""

import asyncio
import os
import re
import shutil
import signal
import statistics
from pathlib import Path
from typing import Any

import httpx
import pytest

from model.checkpoint import load_checkpoint, save_checkpoint
from model.decoding.search_config import SearchConfig
from model.quality import least_word_confidence
from model.translator import Translator
from service.serving.model_folder import ModelFolder
from service.serving.registry import open_models
from service.settings import Settings
from tests.service.conftest import Serving
from tests.tiny_checkpoint import ENGLISH

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick")]
SETTINGS = Settings(threads_per_model=1, max_slots=8, deadline_s=60)
TEXTS = [
    "We have two apples and nine pears.",
    "",
    "We have two apples.\n\n  And ten pears?",
    "seven",
    "👍 naïve ﬁ 日本語\ttab",
]


async def post(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> Any:
    answer = await client.post(path, json={"source": "en", "target": "de", **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_http_gives_what_the_translator_gives(
    serving: Serving, tiny_checkpoint: Path
) -> None:
    expected = Translator.load(tiny_checkpoint).translate(TEXTS, segmentation="sentence")
    async with serving(open_models(ModelFolder(tiny_checkpoint, SETTINGS)), SETTINGS) as client:
        assert (await client.get("/health/ready")).status_code == 200
        together = (await post(client, "/v1/translate", {"text": TEXTS}))["translations"]
        others = [
            post(client, "/v1/translate", {"text": TEXTS[0], "beam_size": beam})
            for beam in (1, 3, 4)
        ]
        alone = await asyncio.gather(
            *(post(client, "/v1/translate", {"text": text}) for text in TEXTS), *others
        )
    for index, translation in enumerate(expected):
        assert together[index]["text"] == translation.text
        assert together[index]["score"] == translation.score
        assert alone[index]["translations"][0] == together[index]


async def test_a_model_warns_by_the_bound_of_its_own_checkpoint(
    serving: Serving, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    loaded = load_checkpoint(tiny_checkpoint)
    texts = ENGLISH[:5]
    with Translator.load(tiny_checkpoint) as translator:
        found = [least_word_confidence(each.segments) for each in translator.translate(texts)]
    bound = statistics.median(found)
    save_checkpoint(
        tmp_path / "tiny",
        config=loaded.config,
        weights=dict(loaded.network.named_parameters()),
        tokenizers=loaded.tokenizers,
        metrics={"calibration": {"unsure_below": bound}},
        card="",
    )
    unsure = []
    for folder in (tiny_checkpoint, tmp_path / "tiny"):
        async with serving(open_models(ModelFolder(folder, SETTINGS)), SETTINGS) as client:
            for _ in range(2):  # the second time from memory
                answer = await post(client, "/v1/translate", {"text": texts, "warnings": True})
                signs = [translation["warnings"] for translation in answer["translations"]]
                unsure.append(["unsure" in of_text for of_text in signs])
            counted = (await client.get("/metrics")).text
    below = [confidence < bound for confidence in found]
    assert sum(below) == 2
    assert unsure == [[False] * 5, [False] * 5, below, below]
    assert re.search(r"dragoman_warnings_total\{.*warning=\"unsure\"\} 4\.0", counted)


async def test_engines_in_processes_translate_alike_and_can_be_lost(
    serving: Serving, tiny_checkpoint: Path
) -> None:
    settings = SETTINGS.model_copy(update={"threads_per_model": 2})
    with Translator.load(tiny_checkpoint) as translator:
        found = translator.translate(TEXTS, segmentation="sentence")
        expected = [translation.text for translation in found]
    registry = open_models(ModelFolder(tiny_checkpoint, settings))
    async with serving(registry, settings) as client:

        async def ask(number: int) -> str:
            body = {"text": TEXTS[number % len(TEXTS)]}
            answer = await post(client, "/v1/translate", body)
            return str(answer["translations"][0]["text"])

        worker = registry.served_models[0]._worker
        assert worker is not None
        engines = worker._translator.process_ids  # type: ignore[attr-defined]
        assert len(engines) == 2
        os.kill(engines[0], signal.SIGKILL)
        asked = [asyncio.ensure_future(ask(number)) for number in range(40)]
        await asyncio.sleep(0.05)
        os.kill(engines[1], signal.SIGKILL)
        assert await asyncio.gather(*asked) == [
            expected[number % len(TEXTS)] for number in range(40)
        ]
        assert (await client.get("/health/ready")).status_code == 200


async def test_details_of_a_translation(serving: Serving, tiny_checkpoint: Path) -> None:
    search = SearchConfig(beam_size=3, n_best=3, length_penalty=0.5)
    (expected,) = Translator.load(tiny_checkpoint).translate(["two pears"], search)
    body = {
        "text": "two pears",
        "beam_size": 3,
        "alternatives": 2,
        "length_penalty": 0.5,
        "alignments": True,
        "token_log_probs": True,
    }
    async with serving(open_models(ModelFolder(tiny_checkpoint, SETTINGS)), SETTINGS) as client:
        (translation,) = (await post(client, "/v1/translate", body))["translations"]
    others = [other.text for other in expected.alternatives]
    assert [other["text"] for other in translation["alternatives"]] == others
    (segment,) = translation["segments"]
    assert segment["token_log_probs"] == list(expected.segments[0].token_log_probs)
    assert len(segment["alignment"]) == len(segment["token_log_probs"])
    for row in segment["alignment"]:
        assert len(row) == len(segment["source_pieces"]) + 1
        assert sum(row) == pytest.approx(1, abs=0.01)


async def test_segments_rebuild_text_and_translation(
    serving: Serving, tiny_checkpoint: Path
) -> None:
    text = " Ten apples. 👍 Two\u2028pears!\r\n\u200b\n\n3. seven\u3000"
    body = {"text": text, "offsets": True, "words": True}
    async with serving(open_models(ModelFolder(tiny_checkpoint, SETTINGS)), SETTINGS) as client:
        answers = {
            mode: (await post(client, "/v1/translate", {**body, "segmentation": mode}))[
                "translations"
            ][0]
            for mode in ("sentence", "line", "none")
        }
    sources = {mode: [s["source"] for s in found["segments"]] for mode, found in answers.items()}
    assert sources == {
        "sentence": ["Ten apples.", "👍 Two", "pears!", "\u200b", "3. seven"],
        "line": ["Ten apples. 👍 Two", "pears!", "\u200b", "3. seven"],
        "none": [text.strip()],
    }
    for translation in answers.values():
        for whole, side, key in (
            (text, "source", "source"),
            (translation["text"], "target", "text"),
        ):
            rest = whole
            for segment in reversed(translation["segments"]):
                start, end = segment[f"{side}_start"], segment[f"{side}_end"]
                assert whole[start:end] == segment[key]
                rest = rest[:start] + rest[end:]
            assert rest.strip() == ""
        words = [word for segment in translation["segments"] for word in segment["words"]]
        assert words
        for word in words:
            assert translation["text"][word["start"] : word["end"]] == word["text"]
            assert 0 <= word["confidence"] <= 1
            assert sum(each["weight"] for each in word["sources"]) == pytest.approx(1, abs=0.01)
            for each in word["sources"]:
                assert text[each["start"] : each["end"]] == each["text"]


async def test_scores_of_given_translations(serving: Serving, tiny_checkpoint: Path) -> None:
    pairs = [("We have two apples.", "Wir haben zwei Äpfel."), ("ten", "zehn"), ("ten", "")]
    expected = Translator.load(tiny_checkpoint).score(pairs)
    bodies = [{"source": source, "target": target} for source, target in pairs]
    async with serving(open_models(ModelFolder(tiny_checkpoint, SETTINGS)), SETTINGS) as client:
        scores = (await post(client, "/v1/score", {"pairs": bodies}))["scores"]
        long = {"source": "pear " * 100, "target": "x"}
        refused = await client.post(
            "/v1/score", json={"model": tiny_checkpoint.name, "pairs": [*bodies, long]}
        )
    assert [score["log_prob"] for score in scores] == [score.log_prob for score in expected]
    assert refused.status_code == 422
    assert refused.json()["error"]["field"] == "pairs[3]"
    assert "the limit is 40" in refused.json()["error"]["message"]


async def test_impossible_lengths_are_refused(serving: Serving, tiny_checkpoint: Path) -> None:
    async with serving(open_models(ModelFolder(tiny_checkpoint, SETTINGS)), SETTINGS) as client:
        body = {"source": "en", "target": "de", "text": "a", "min_length_ratio": 5}
        answer = await client.post("/v1/translate", json=body)
    assert answer.status_code == 422
    assert "min_length_ratio" in answer.json()["error"]["message"]


async def test_a_damaged_checkpoint_does_not_stop_the_others(
    serving: Serving, tiny_checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path / "good")
    shutil.copytree(tiny_checkpoint, tmp_path / "damaged")
    weights = tmp_path / "damaged" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    async with serving(open_models(ModelFolder(tmp_path, SETTINGS)), SETTINGS) as client:
        ready = await client.get("/health/ready")
        answer = await post(client, "/v1/translate", {"text": "ten"})
    assert ready.json() == {"status": "ready", "models": {"damaged": "failed", "good": "ready"}}
    assert answer["model"]["name"] == "good"
    assert "model damaged failed to load" in caplog.text
    assert "weights.safetensors does not match SHA256SUMS" in caplog.text
