"""Signs of a bad translation: each sign is found in bad translations and not in good ones."""

import math
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from model.quality import least_word_confidence, unsure_below
from service.settings import Settings
from service.text.number_values import same_numbers
from service.text.quality_warnings import has_loop, warnings_of
from tests.service.conftest import Serving
from tests.service.fakes import fake_registry
from tests.service.text import demo_translations
from training.release.calibration import calibration


def segment(pieces: list[str], probabilities: list[float]) -> Any:
    log_probs = tuple(map(math.log, probabilities))
    return SimpleNamespace(target_pieces=tuple(pieces), token_log_probs=log_probs)


def translation(text: str, **fields: Any) -> Any:
    given = {"segments": (), "truncated": False, "source_tokens": 10, "target_tokens": 10}
    return SimpleNamespace(text=text, **{**given, **fields})


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ("a b c d", False),
        ("a a a b", False),
        ("x a a a a", True),
        ("x a b a b a b a b y", True),
        ("a b a b a b y", False),
        ("1 2 3 4 5 6 7 8 " * 4, True),
        ("1 2 3 4 5 6 7 8 9 " * 4, False),
        ("", False),
    ],
)
def test_a_loop_is_the_same_again_and_again(pieces: str, expected: bool) -> None:
    assert has_loop(pieces.split()) == expected


def signs(source: str, translated: Any, *, unsure_below: float | None = 0.5) -> list[str]:
    return list(warnings_of(source, translated, unsure_below=unsure_below))


def test_each_sign_of_a_bad_translation() -> None:
    assert signs("a b", translation("c d")) == []
    assert signs(" a b", translation("a b ")) == ["copied"]
    assert signs("4 + 2", translation("4 + 2")) == []
    assert signs("a", translation("b", truncated=True)) == ["cut"]
    assert signs("a", translation("b", target_tokens=3)) == ["too_short"]
    assert signs("a", translation("b", target_tokens=26)) == ["too_long"]
    assert signs("a", translation("b", source_tokens=2, target_tokens=9)) == []
    assert signs("at 5:30 pm", translation("um 17:30 Uhr")) == []
    assert signs("at 5:30 pm", translation("um 17:20 Uhr")) == ["numbers"]
    assert signs("a", translation("b", segments=(segment(["x"] * 9, [1.0] * 9),))) == ["loop"]


def test_a_word_below_the_models_own_bound_is_unsure() -> None:
    # ▁Reise büro is 0.8 * 0.6 = 0.48; the end's 0.1 is no word's.
    sure = segment(["▁Ja", "."], [0.9, 0.9, 0.1])
    unsure = segment(["▁Das", "▁Reise", "büro"], [0.9, 0.8, 0.6, 0.1])
    assert signs("a", translation("b", segments=(sure,))) == []
    assert signs("a", translation("b", segments=(sure, unsure))) == ["unsure"]
    assert signs("a", translation("b", segments=(sure, unsure)), unsure_below=0.47) == []
    assert signs("a", translation("b", segments=(sure, unsure)), unsure_below=None) == []


def test_on_the_demo_most_wrong_translations_are_flagged_and_hardly_any_right_one() -> None:
    """The bound is measured on the dev split as in an export, the signs are counted on test."""
    demo = demo_translations.read()
    dev = [each for each in demo if each.split == "dev"]
    measured = calibration(
        [least_word_confidence(each.translation.segments) for each in dev],
        [each.translation.text for each in dev],
        [each.reference for each in dev],
    )
    assert measured is not None
    bound = unsure_below({"calibration": measured})
    flagged = Counter(
        (each.is_right, bool(signs(each.source, each.translation, unsure_below=bound)))
        for each in demo
        if each.split == "test"
    )
    assert flagged.total() == 1_000
    assert flagged[True, True] <= 10
    assert flagged[False, True] >= 60


def test_on_the_demo_no_right_translation_has_lost_a_number() -> None:
    for each in demo_translations.read():
        assert not each.is_right or same_numbers(each.source, each.reference), each.source


@pytest.mark.anyio
async def test_warnings_are_in_the_answer_on_request(serving: Serving) -> None:
    async with serving(fake_registry(Settings(), "en-de"), Settings()) as client:
        body = {"source": "en", "target": "de", "text": ["ABC", "fine"]}
        plain = (await client.post("/v1/translate", json=body)).json()["translations"]
        answer = (await client.post("/v1/translate", json={**body, "warnings": True})).json()
    assert all("warnings" not in each for each in plain)
    assert [each["warnings"] for each in answer["translations"]] == [["copied"], []]
