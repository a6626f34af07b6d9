"""Signs of a bad translation: what counts as one, and what does not."""

from types import SimpleNamespace
from typing import Any

import pytest

from service.settings import Settings
from service.text.quality_warnings import has_loop, numbers, warnings_of
from tests.service.conftest import Serving
from tests.service.fakes import fake_registry


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


@pytest.mark.parametrize(
    ("source", "target", "same"),
    [
        ("It costs 1,000.50 euros.", "Es kostet 1.000,50 Euro.", True),
        ("It costs 1,000.50 euros.", "Es kostet 1000,5 Euro.", False),
        ("in 2024", "im Jahr 2024", True),
        ("in 2024", "im Jahr 2042", False),
        ("two or 3 men", "zwei oder drei Männer", True),
        ("at 14:30 on 5/6/2023", "am 5-6-2023 um 14.30", True),
        ("13 and 13", "13", False),
        ("٤٢ men", "42 Männer", True),
        ("no number", "keine Zahl", True),
    ],
)
def test_numbers_survive_in_any_notation(source: str, target: str, same: bool) -> None:
    assert (numbers(source) == numbers(target)) == same
    assert ("numbers" in warnings_of(source, translation(target))) != same


def test_each_sign() -> None:
    assert warnings_of("a b", translation("c d")) == []
    assert warnings_of(" a b", translation("a b ")) == ["copied"]
    assert warnings_of("4 + 2", translation("4 + 2")) == []
    assert warnings_of("a", translation("b", truncated=True)) == ["cut"]
    assert warnings_of("a", translation("b", target_tokens=3)) == ["too_short"]
    assert warnings_of("a", translation("b", target_tokens=26)) == ["too_long"]
    assert warnings_of("a", translation("b", source_tokens=2, target_tokens=9)) == []
    segment = SimpleNamespace(target_pieces=("x",) * 9)
    assert warnings_of("a", translation("b", segments=(segment,))) == ["loop"]


@pytest.mark.anyio
async def test_they_are_told_on_request(serving: Serving) -> None:
    async with serving(fake_registry(Settings(), "en-de"), Settings()) as client:
        body = {"source": "en", "target": "de", "text": ["ABC", "fine"]}
        plain = (await client.post("/v1/translate", json=body)).json()["translations"]
        told = (await client.post("/v1/translate", json={**body, "warnings": True})).json()
    assert all("warnings" not in each for each in plain)
    assert [each["warnings"] for each in told["translations"]] == [["copied"], []]
