"""Overload is told at the door, in every API's words, and only while nobody has room."""

import httpx
import pytest

from service.admission import Load
from service.registry import Registry
from service.settings import Settings
from tests.service.conftest import Serving
from tests.service.fakes import fake_model

pytestmark = pytest.mark.anyio

SETTINGS = Settings(max_texts=2, max_queue_texts=2, queue_wait_s=0.0)
BAD = b"not even JSON"  # which would be told if anybody looked at it


def status_of_all(answers: list[httpx.Response]) -> set[int]:
    return {answer.status_code for answer in answers}


async def test_translations_are_refused_unread_while_no_model_has_room(serving: Serving) -> None:
    models = [fake_model(name, SETTINGS) for name in ("en-de", "en-fr")]
    async with serving(Registry(models), SETTINGS) as client:

        async def send(path: str) -> httpx.Response:
            return await client.post(path, content=BAD)

        paths = ("/v1/translate", "/v1/score", "/translate", "/v2/translate")
        google = "/language/translate/v2"
        await models[0].admission.enter(Load(2, 2), 1.0)
        assert 429 not in status_of_all([await send(path) for path in (*paths, google)])
        await models[1].admission.enter(Load(2, 2), 1.0)
        answers = [await send(path) for path in (*paths, google)]
        assert status_of_all(answers) == {429}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
        assert answers[0].json()["error"]["code"] == "queue_full"
        assert "max_queue_texts" in answers[2].json()["error"]
        assert "max_queue_texts" in answers[3].json()["message"]
        assert answers[4].json()["error"]["code"] == 429
        for path in ("/health/live", "/health/ready", "/metrics", "/v1/models", "/languages", "/"):
            assert (await client.get(path)).status_code == 200
        models[1].admission.leave(Load(2, 2))
        assert 429 not in status_of_all([await send(path) for path in (*paths, google)])
