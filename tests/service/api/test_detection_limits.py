"""Detection has the deadline, the bound and the regard for clients that leave of translation."""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from service.errors import QueueFull
from service.settings import Settings
from service.text.detection import Detector
from tests.service.conftest import Serving
from tests.service.fakes import fake_registry

pytestmark = pytest.mark.anyio
SETTINGS = Settings(max_texts=4, max_queue_texts=4)
AZURE = {"api-version": "3.0"}
# All that detect, before a translation or for its own sake.
ASKING: list[dict[str, Any]] = [
    {"url": "/detect", "json": {"q": "a"}},
    {"url": "/language/translate/v2/detect", "json": {"q": "a"}},
    {"url": "/detect", "params": AZURE, "json": [{"text": "a"}]},
    {"url": "/translate", "json": {"q": "a", "source": "auto", "target": "de"}},
    {"url": "/v2/translate", "json": {"text": ["a"], "target_lang": "DE"}},
    {"url": "/language/translate/v2", "json": {"q": "a", "target": "de"}},
    {"url": "/translate", "params": {**AZURE, "to": "de"}, "json": [{"text": "a"}]},
]


class Held:
    """Holds all detection until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = threading.Event()
        self.asked: list[list[str]] = []
        self.threads: set[str] = set()
        detect = Detector._detect

        def held(detector: Detector, texts: list[str], languages: Any) -> Any:
            self.asked.append(texts)
            self.threads.add(threading.current_thread().name)
            self.go.wait(10)
            return detect(detector, texts, languages)

        monkeypatch.setattr(Detector, "_detect", held)

    async def begun(self) -> None:
        while not self.asked:
            await asyncio.sleep(0.002)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    held = Held(monkeypatch)
    yield held
    held.go.set()


@pytest.mark.parametrize("asking", ASKING)
@pytest.mark.parametrize("by", ["setting", "header"])
async def test_deadline(serving: Serving, held: Held, asking: dict[str, Any], by: str) -> None:
    settings = SETTINGS.model_copy(update={"deadline_s": 0.05 if by == "setting" else 8.0})
    headers = {"Authorization": "DeepL-Auth-Key any"}
    if by == "header":
        headers["X-Deadline-Seconds"] = "0.05"
    async with serving(fake_registry(settings, "en-de"), settings) as client:
        started = time.monotonic()
        answer = await client.post(**asking, headers=headers)
        assert time.monotonic() - started < 2
        assert answer.status_code == 504, answer.text
        assert "no answer within 0.05 s" in answer.text
        refused = await client.post(**asking, headers={**headers, "X-Deadline-Seconds": "soon"})
        assert refused.status_code == 400
        held.go.set()


@pytest.mark.parametrize("asking", ASKING)
async def test_texts_waiting_for_detection_are_bounded(
    serving: Serving, held: Held, asking: dict[str, Any]
) -> None:
    headers = {"Authorization": "DeepL-Auth-Key any"}
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        many = {"q": ["a"] * 4}
        first = asyncio.create_task(client.post("/language/translate/v2/detect", json=many))
        await held.begun()
        answer = await client.post(**asking, headers=headers)
        assert answer.status_code == 429, answer.text
        assert answer.headers["Retry-After"] == "1"
        assert "max_queue_texts" in answer.text
        held.go.set()
        assert (await first).status_code == 200
        assert (await client.post(**asking, headers=headers)).status_code == 200
    assert held.threads == {"detection_0"}


async def test_a_cancelled_detection_frees_its_place_in_the_queue(held: Held) -> None:
    detector = Detector(4)
    first, second = (
        asyncio.create_task(detector.detect([text, text], ["en"])) for text in ("a", "b")
    )
    await held.begun()
    with pytest.raises(QueueFull):
        await detector.detect(["c"], ["en"])
    second.cancel()
    await asyncio.wait([second])
    third = asyncio.create_task(detector.detect(["c"], ["en"]))
    held.go.set()
    await asyncio.gather(first, third)
    assert held.asked == [["a", "a"], ["c"]]  # nothing was done for the second
    detector.close()


async def test_a_single_request_is_accepted_however_large_it_is() -> None:
    detector = Detector(2)
    assert len(await detector.detect(["a"] * 9, ["en"])) == 9
    detector.close()


async def test_a_client_that_hangs_up(serving: Serving, held: Held) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        app = client._transport.app  # type: ignore[attr-defined]
        body = b'{"q": "a"}'
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[Any] = []

        async def receive() -> Any:
            if messages:
                return messages.pop()
            await held.begun()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            **scope_of("/detect"),
            "headers": [(b"content-type", b"application/json"), (b"content-length", b"10")],
        }
        async with asyncio.timeout(2):
            await app(scope, receive, send)
        held.go.set()
    assert sent[0]["status"] == 499


def scope_of(path: str) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "client": ("127.0.0.1", 1),
        "server": ("test", 80),
    }
