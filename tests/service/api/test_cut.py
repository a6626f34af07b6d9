"""A translation that was cut at the length limit is never passed off as whole, by any API."""

from dataclasses import replace
from typing import Any

import pytest

from service.serving.registry import Registry
from service.settings import Settings
from tests.service.conftest import Serving
from tests.service.fakes import (
    FakeSearch,
    FakeTranslation,
    FakeTranslator,
    fake_model,
    translated,
)

pytestmark = pytest.mark.anyio
PAIR = {"source": "en", "target": "de"}
HEADER = "X-Translation-Warnings"


def cutting(text: str, search: FakeSearch, alignments: bool) -> FakeTranslation:
    return replace(translated(text, search, alignments), truncated="long" in text)


def models(*names: str) -> Registry:
    return Registry(
        [fake_model(name, Settings(), translator=FakeTranslator(answer=cutting)) for name in names]
    )


def azure(text: str) -> dict[str, Any]:
    return {"inputs": [{"text": text, "language": "en", "targets": [{"language": "de"}]}]}


REQUESTS: list[Any] = [
    lambda text: {"url": "/v1/translate", "json": {**PAIR, "text": ["short", text]}},
    lambda text: {"url": "/translate", "json": {**PAIR, "q": ["short", text]}},
    lambda text: {"url": "/translate", "json": {"q": text, "source": "auto", "target": "de"}},
    lambda text: {
        "url": "/translate",
        "json": {**PAIR, "q": f"<b>short</b><i>{text}</i>", "format": "html"},
    },
    lambda text: {
        "url": "/v2/translate",
        "json": {"text": ["short", text], "source_lang": "EN", "target_lang": "DE"},
    },
    lambda text: {"url": "/language/translate/v2", "json": {**PAIR, "q": ["short", text]}},
    lambda text: {
        "url": "/translate",
        "params": {"api-version": "3.0", "from": "en", "to": "de"},
        "json": [{"text": "short"}, {"text": text}],
    },
    lambda text: {
        "url": "/translate",
        "params": {"api-version": "2026-06-06"},
        "json": azure(text),
    },
    lambda text: {
        "method": "GET",
        "url": "/translate",
        "params": {"q": text, "langpair": "en|de"},
    },
]


@pytest.mark.parametrize("request_of", REQUESTS)
async def test_every_api_reports_a_cut_translation_in_the_header(
    serving: Serving, request_of: Any
) -> None:
    async with serving(models("en-de"), Settings(cors_origins="*")) as client:
        for _ in range(2):  # the second time it is remembered
            answer = await client.request(
                **{"method": "POST", **request_of("a long one")},
                headers={"Origin": "https://example.org"},
            )
            assert answer.status_code == 200, answer.text
            assert answer.headers[HEADER] == "cut"
            assert HEADER in answer.headers["Access-Control-Expose-Headers"]
        whole = await client.request(**{"method": "POST", **request_of("another one")})
    assert whole.status_code == 200
    assert HEADER not in whole.headers


async def test_a_cut_by_the_first_model_of_a_pivot_is_reported(serving: Serving) -> None:
    settings = Settings(pivot=True)
    async with serving(models("fr-en", "en-de"), settings) as client:
        body = {"q": "a long one", "source": "fr", "target": "de"}
        answer = await client.post("/translate", json=body)
    # The second model gets LONG, in capitals, which it neither cuts nor changes.
    assert (answer.headers[HEADER], answer.headers["X-Pivot-Language"]) == ("copied, cut", "en")
