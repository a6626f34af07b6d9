"""Log lines: one a request, readable by people or by a program, without anybody's text."""

import io
import json
import logging
from collections.abc import Iterator

import httpx
import pytest

from service.monitoring.logs import formatter
from service.settings import LogFormat, Settings
from tests.service.conftest import Serving
from tests.service.fakes import fake_registry

pytestmark = pytest.mark.anyio


@pytest.fixture
def lines(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """What is logged while the service works."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter(request.param))
    logger = logging.getLogger("dragoman")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(level)


async def ask(client: httpx.AsyncClient, text: str) -> int:
    body = {"text": text, "source": "en", "target": "de"}
    answer = await client.post("/v1/translate", json=body, headers={"X-Request-ID": "mine-1"})
    return answer.status_code


@pytest.mark.parametrize("lines", ["json"], indirect=True)
async def test_json_lines_have_fields(serving: Serving, lines: io.StringIO) -> None:
    settings = Settings()
    async with serving(fake_registry(settings, "en-de"), settings) as client:
        assert await ask(client, "two words") == 200
        assert await ask(client, "POISON word") == 500
    rows = [json.loads(line) for line in lines.getvalue().splitlines()]
    first, second = [row for row in rows if row["logger"] == "dragoman.request"]
    assert first["level"] == "INFO"
    assert first["time"].startswith("20")
    assert (first["request_id"], first["method"], first["route"]) == (
        "mine-1",
        "POST",
        "/v1/translate",
    )
    assert (first["status"], first["model"], first["num_texts"]) == (200, "en-de", 1)
    assert first["num_characters"] == len("two words")
    assert 0 < first["seconds"] < 10
    assert second["status"] == 500
    assert any(row["level"] == "ERROR" for row in rows)


@pytest.mark.parametrize("lines", ["json", "text"], indirect=True)
async def test_no_line_holds_text(serving: Serving, lines: io.StringIO) -> None:
    settings = Settings()
    async with serving(fake_registry(settings, "en-de"), settings) as client:
        for text in ("SECRET one", "SECRET POISON", "SECRET REFUSE", "SECRET CRASH-ADD"):
            await ask(client, text)
        await client.get("/SECRET", params={"q": "SECRET"})
    output = lines.getvalue()
    assert output.count("mine-1") >= 4
    assert "SECRET" not in output


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_line_of_text_stays_one_line(log_format: LogFormat) -> None:
    record = logging.makeLogRecord({"msg": "asked %s", "args": ("to end",), "levelname": "INFO"})
    line = formatter(log_format).format(record)
    assert "\n" not in line
    assert "asked to end" in line
