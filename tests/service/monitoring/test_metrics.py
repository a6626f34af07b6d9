"""The metrics of /metrics: the load of the service and statistics of its translations."""

import re

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.settings import Settings
from tests.service.conftest import Serving
from tests.service.fakes import fake_registry

pytestmark = pytest.mark.anyio
SETTINGS = Settings(max_texts=3)


async def read(client: httpx.AsyncClient) -> dict[str, float]:
    """Every sample, by its name and labels."""
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        sample.name
        + "".join(f" {name}={value}" for name, value in sorted(sample.labels.items())): (
            sample.value
        )
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_requests_and_texts_are_counted(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        body = {"source": "en", "target": "de", "text": ["one two three", "42", "ABC"]}
        for _ in range(2):
            assert (await client.post("/v1/translate", json=body)).status_code == 200
        assert (await client.post("/v1/translate", json={**body, "text": ["a"] * 4})).is_error
        deepl = {"text": ["one"], "target_lang": "DE"}
        assert (await client.post("/v2/translate", json=deepl)).status_code == 200
        found = await read(client)
    translate = "dragoman_requests_total method=POST route=/v1/translate"
    assert found[f"{translate} status=200"] == 2
    assert found[f"{translate} status=413"] == 1
    assert found["dragoman_request_seconds_count route=/v1/translate"] == 3
    of_model = "model=en-de version=0123456789ab"
    assert found[f"dragoman_texts_total {of_model}"] == 7
    assert found[f"dragoman_source_tokens_total {of_model}"] == 11
    # Upper case comes back as it was; digits are no copy.
    assert found["dragoman_warnings_total model=en-de version=0123456789ab warning=copied"] == 2
    assert found[f"dragoman_length_ratio_count {of_model}"] == 7
    assert found["dragoman_model_state model=en-de state=ready"] == 1
    assert found["dragoman_model_state model=en-de state=failed"] == 0
    assert found["dragoman_waiting_texts model=en-de"] == 0
    assert found["dragoman_waiting_seconds model=en-de"] == 0
    assert found["dragoman_busy_seconds_total model=en-de"] > 0
    assert found["dragoman_refused_total reason=request_too_large"] == 1
    assert found["dragoman_slots model=en-de"] == 4
    assert found["dragoman_slots_busy model=en-de"] == 0
    assert found["dragoman_step_seconds_count model=en-de"] >= 3
    assert found["dragoman_cancelled_texts_total model=en-de"] == 0
    for stage in ("queue", "decode"):
        assert found[f"dragoman_stage_seconds_count model=en-de stage={stage}"] == 2
    assert found["dragoman_stage_seconds_count model=- stage=render"] == 3  # not of the refusal
    assert (
        found["dragoman_stage_seconds_count model=- stage=detect"] == 1
    )  # DeepL's, without source
    assert found["dragoman_connections"] == 0  # it is spoken to without a socket
    assert found["dragoman_max_connections"] == SETTINGS.max_connections


async def test_no_label_holds_data_of_a_request(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        for number in range(20):
            await client.get(f"/SECRET/{number}", headers={"X-Request-ID": "SECRET"})
            await client.request("SECRET", f"/v1/SECRET{number}")
            text = f"SECRET {number}"
            await client.post("/v1/translate", json={"text": text, "model": text})
        before = await read(client)
        text = "SECRET POISON"
        await client.post("/v1/translate", json={"text": text, "source": "en", "target": "de"})
        output = (await client.get("/metrics")).text
    assert "SECRET" not in output
    assert "test" not in re.sub(r"^#.*$", "", output, flags=re.MULTILINE)  # the host asked for
    assert before["dragoman_requests_total method=GET route=- status=404"] == 20


async def test_metrics_answer_while_a_model_is_loading(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS, wait=False) as client:
        assert "dragoman_model_state model=en-de state=loading" in await read(client)
