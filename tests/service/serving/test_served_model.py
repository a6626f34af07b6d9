"""Queue bounds, deadlines, cancellation, faults inside the model, loading and leaving."""

import asyncio
import threading
import time
from dataclasses import replace
from typing import Any

import httpx
import pytest

from model.errors import NoEngine
from service.errors import (
    DeadlineExceeded,
    InvalidRequest,
    ModelUnavailable,
    QueueFull,
    ShuttingDown,
    TranslationFailed,
)
from service.lifecycle import Lifecycle, Phase
from service.serving.cache import TranslationCache
from service.serving.registry import Registry
from service.serving.served_model import LoadedModel, ModelState, ServedModel
from service.settings import Settings
from tests.service.conftest import Serving
from tests.service.fakes import FakeSearch, FakeTranslator, fake_info, fake_model, fake_registry

pytestmark = pytest.mark.anyio


async def started(translator: FakeTranslator, settings: Settings | None = None) -> ServedModel:
    served_model = fake_model("en-de", settings or Settings(), translator=translator)
    served_model.start()
    while served_model.state is ModelState.LOADING:
        await asyncio.sleep(0.001)
    return served_model


CACHE = TranslationCache(0)  # remembers nothing; requests for the same texts share their work


async def texts(served_model: ServedModel, *texts: str, deadline_s: float = 5.0) -> list[str]:
    cached = await CACHE.translate(
        served_model,
        texts,
        FakeSearch(),  # type: ignore[arg-type]
        alignments=False,
        segmentation="line",
        deadline_s=deadline_s,
        name_of=lambda i: f"text[{i}]",
    )
    return [translation.text for translation in cached.translations]


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_concurrent_requests_get_the_sequential_answers() -> None:
    served_model = await started(FakeTranslator())
    requests = [[f"{i} {'w ' * (i * j % 5)}" for j in range(i % 7 + 1)] for i in range(60)]
    answers = await asyncio.gather(*(texts(served_model, *request) for request in requests))
    assert answers == [[text.upper() for text in request] for request in requests]
    assert served_model.close(5)


async def test_a_model_that_is_not_exact_here_says_so(caplog: pytest.LogCaptureFixture) -> None:
    inexact = replace(fake_info("en", "de"), exact=False, precision="bf16")
    loaded = LoadedModel(FakeTranslator(), inexact)  # type: ignore[arg-type]
    served_model = ServedModel("en-de", lambda: loaded, Settings())
    served_model.start()
    await until(lambda: served_model.state is ModelState.READY)
    assert not served_model.info.exact
    warnings = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "model en-de is not exact on this machine (exact: false): in bf16" in warnings[0]
    assert served_model.close(5)


async def test_a_short_request_does_not_wait_for_a_long_list() -> None:
    translator = FakeTranslator(delay_s=0.001)
    served_model = await started(translator, Settings(max_slots=4))
    long = asyncio.ensure_future(texts(served_model, *["a b c d e"] * 200))
    await until(lambda: translator.busy)
    await texts(served_model, "short")
    assert not long.done()
    assert len(await long) == 200
    assert served_model.close(5)


async def test_full_queue_refuses_at_once_and_takes_again_later() -> None:
    translator = FakeTranslator()
    settings = Settings(max_texts=2, max_queue_texts=4, max_characters=50, max_queue_characters=60)
    served_model = await started(translator, settings)
    translator.running.clear()
    first = [asyncio.ensure_future(texts(served_model, f"a{i}", "b")) for i in range(2)]
    await until(lambda: served_model.queue_limits.num_texts == 4)
    loop = asyncio.get_running_loop()
    before = loop.time()
    with pytest.raises(QueueFull, match=r"would hold 5 texts.*max_queue_texts") as refusal:
        await texts(served_model, "c")
    assert loop.time() - before < 0.05
    assert refusal.value.retry_after_s is not None
    assert 1 <= refusal.value.retry_after_s <= 60
    translator.running.set()
    await asyncio.gather(*first)
    assert await texts(served_model, "c") == ["C"]

    translator.running.clear()
    long = asyncio.ensure_future(texts(served_model, "x" * 50))
    await until(lambda: served_model.queue_limits.num_texts == 1)
    with pytest.raises(QueueFull, match=r"61 characters, the limit is 60 .max_queue_characters"):
        await texts(served_model, "y" * 11)
    translator.running.set()
    await long
    assert served_model.close(5)


async def test_requests_for_the_same_share_one_translation() -> None:
    translator = FakeTranslator()
    served_model = await started(translator)
    translator.running.clear()
    same = [asyncio.ensure_future(texts(served_model, "a b", "c")) for _ in range(6)]
    other = asyncio.ensure_future(texts(served_model, "a b"))
    await until(lambda: served_model.queue_limits.num_texts == 3)
    translator.running.set()
    assert await asyncio.gather(*same) == [["A B", "C"]] * 6
    assert await other == ["A B"]
    assert translator.num_tickets == 1 + 2 + 1  # the first sentence, the same, the other
    assert served_model.queue_limits.num_texts == served_model.queue_limits.num_characters == 0
    assert served_model.close(5)


async def test_equal_requests_have_their_own_deadlines_and_do_not_affect_each_other() -> None:
    translator = FakeTranslator()
    served_model = await started(translator)
    translator.running.clear()
    hasty = asyncio.ensure_future(texts(served_model, "a b", deadline_s=0.05))
    gone = asyncio.ensure_future(texts(served_model, "a b"))
    patient = asyncio.ensure_future(texts(served_model, "a b"))
    await until(lambda: served_model.queue_limits.num_texts == 1)
    gone.cancel()
    with pytest.raises(DeadlineExceeded):
        await hasty
    translator.running.set()
    assert await patient == ["A B"]
    assert not translator.cancelled
    assert served_model.num_cancelled_texts == 0
    assert served_model.close(5)


async def test_a_shared_translation_is_not_refused_by_the_shorter_deadline() -> None:
    translator = FakeTranslator()
    served_model = await started(translator, Settings(queue_wait_s=0.2))
    served_model.queue_limits.speed = lambda: 10.0
    translator.running.clear()
    first = asyncio.create_task(texts(served_model, "w" * 9))
    await until(lambda: served_model.queue_limits.num_texts == 1)
    hasty = asyncio.create_task(texts(served_model, "same", deadline_s=0.1))
    await asyncio.sleep(0.01)
    patient = asyncio.create_task(texts(served_model, "same", deadline_s=5.0))
    with pytest.raises((QueueFull, DeadlineExceeded)):
        await hasty
    translator.running.set()
    assert await patient == ["SAME"]
    await first
    assert served_model.close(5)


async def test_speed_is_known_when_all_slots_were_busy_and_not_before() -> None:
    translator = FakeTranslator(delay_s=0.01)
    served_model = await started(translator)
    for number in range(3):  # alone, for more than a second
        await texts(served_model, f"{number} " + "w " * 40)
    assert served_model.queue_limits.speed() is None
    started_at = time.monotonic()
    requests = [texts(served_model, f"{number} " + "w " * 9) for number in range(60)]
    assert len(await asyncio.gather(*requests)) == 60
    seconds = time.monotonic() - started_at
    speed = served_model.queue_limits.speed()
    assert speed is not None
    assert 0.5 < speed / (60 * 20 / seconds) < 2
    # One long text takes a slot for long and finishes nothing meanwhile.
    long = asyncio.create_task(texts(served_model, "w " * 100))
    others = [texts(served_model, f"again {number}") for number in range(8)]
    await asyncio.gather(long, *others)
    assert served_model.close(5)


async def test_a_shared_translation_is_cancelled_when_all_clients_disconnect() -> None:
    translator = FakeTranslator(delay_s=0.001)
    served_model = await started(translator)
    same = [asyncio.ensure_future(texts(served_model, "w " * 10_000)) for _ in range(5)]
    await until(lambda: translator.busy)
    for request in same:
        request.cancel()
    await asyncio.gather(*same, return_exceptions=True)
    await until(lambda: translator.idle)
    assert len(translator.cancelled) == served_model.num_cancelled_texts == 1
    assert served_model.close(5)


async def test_a_shared_error_names_the_text_for_each_request() -> None:
    served_model = await started(FakeTranslator())

    async def refused(name: str) -> None:
        with pytest.raises(InvalidRequest, match=f"{name} 1: this cannot be cut") as refusal:
            await CACHE.translate(
                served_model,
                ["fine", "REFUSE"],
                FakeSearch(),  # type: ignore[arg-type]
                alignments=False,
                segmentation="line",
                deadline_s=5,
                name_of=lambda index: f"{name} {index}",
            )
        assert refusal.value.field == f"{name} 1"

    await asyncio.gather(refused("text"), refused("q"))
    assert served_model.close(5)


async def test_deadline_ends_the_request_and_frees_its_slots() -> None:
    translator = FakeTranslator(delay_s=0.01)
    served_model = await started(translator)
    with pytest.raises(DeadlineExceeded, match=r"within 0\.1 s \(deadline_s\)"):
        await texts(served_model, "w " * 1000, "x " * 1000, "y " * 1000, deadline_s=0.1)
    await until(lambda: translator.idle)
    assert len(translator.cancelled) == 3
    assert await texts(served_model, "next") == ["NEXT"]
    assert served_model.close(5)


async def test_a_request_may_ask_for_an_earlier_deadline(serving: Serving) -> None:
    settings = Settings(deadline_s=0.2)
    model = fake_model("en-de", settings, translator=FakeTranslator(delay_s=0.001))
    body = {"text": "w " * 10_000, "source": "en", "target": "de"}
    async with serving(Registry([model]), settings) as client:

        async def ask(seconds: str) -> httpx.Response:
            headers = {"X-Deadline-Seconds": seconds}
            return await client.post("/v1/translate", json=body, headers=headers)

        for asked, met in (("0.05", "0.05"), ("3600", "0.2")):
            answer = await ask(asked)
            assert answer.status_code == 504
            assert f"within {met} s" in answer.json()["error"]["message"]
        for wrong in ("0", "-1", "soon", "1e3", "nan", ""):
            answer = await ask(wrong)
            assert answer.status_code == 422
            assert answer.json()["error"]["field"] == "X-Deadline-Seconds"


async def test_a_cancelled_request_leaves_the_engine() -> None:
    translator = FakeTranslator(delay_s=0.001)
    served_model = await started(translator)
    requests = [asyncio.ensure_future(texts(served_model, f"{i} {'w ' * 9999}")) for i in range(20)]
    await until(lambda: len(translator.busy) == 4)
    for request in requests:
        request.cancel()
    await asyncio.gather(*requests, return_exceptions=True)
    await until(lambda: translator.idle)
    assert await texts(served_model, "next") == ["NEXT"]
    assert served_model.close(5)


async def test_a_text_that_fails_inside_the_model_fails_alone() -> None:
    translator = FakeTranslator(delay_s=0.001)
    served_model = await started(translator)
    good = [asyncio.ensure_future(texts(served_model, "a b c", f"d {i}")) for i in range(10)]
    bad = asyncio.ensure_future(texts(served_model, "a", "POISON b c", "c"))
    with pytest.raises(TranslationFailed, match=r"text\[1\]"):
        await bad
    assert await asyncio.gather(*good) == [["A B C", f"D {i}"] for i in range(10)]
    assert await texts(served_model, "next") == ["NEXT"]
    assert served_model.close(5)


async def test_a_model_without_engines_says_so_and_is_not_ready() -> None:
    class Forsaken(FakeTranslator):
        def step(self, timeout_s: float | None = None) -> Any:
            if any("FORSAKEN" in text for _, text, *_ in self.waiting):
                raise NoEngine("no memory")
            return super().step(timeout_s)

    served_model = await started(Forsaken())
    assert await texts(served_model, "fine") == ["FINE"]
    with pytest.raises(ModelUnavailable):
        await texts(served_model, "FORSAKEN")
    await until(lambda: served_model.state is ModelState.STOPPED)
    assert served_model.close(5)


async def test_a_pair_that_fails_inside_the_model_is_named() -> None:
    served_model = await started(FakeTranslator())
    pairs = [("a", "b")] * 20 + [("POISON", "b")] + [("a", "b")] * 20
    with pytest.raises(TranslationFailed, match=r"pairs\[20\]"):
        await served_model.score(pairs, deadline_s=5)
    assert len(await served_model.score(pairs[:20], deadline_s=5)) == 20
    assert served_model.close(5)


async def test_closing_cancels_waiting_requests_with_an_error() -> None:
    translator = FakeTranslator(delay_s=0.001)
    served_model = await started(translator)
    waiting = asyncio.ensure_future(texts(served_model, "w " * 100_000))
    await until(lambda: translator.busy)
    assert await asyncio.to_thread(served_model.close, 5)
    with pytest.raises(ShuttingDown):
        await waiting


PAIR = {"source": "en", "target": "de", "text": "a"}


async def test_health_while_loading_failed_and_leaving(serving: Serving) -> None:
    settings = Settings()
    release = threading.Event()
    lifecycle = Lifecycle()

    def broken() -> None:
        raise RuntimeError("weights.safetensors does not match SHA256SUMS")

    registry = Registry(
        [
            fake_model("en-de", settings, before=lambda: (release.wait(), None)[1]),
            fake_model("en-fr", settings, before=broken),
        ]
    )
    async with serving(registry, settings, lifecycle, wait=False) as client:
        assert (await client.get("/health/live")).json() == {"status": "live"}
        answer = await client.get("/health/ready")
        assert (answer.status_code, answer.json()["status"]) == (503, "loading")
        assert int(answer.headers["retry-after"]) >= 1
        answer = await client.post("/v1/translate", json=PAIR)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_loading")
        release.set()
        await until(lambda: not registry.loading)

        answer = await client.get("/health/ready")
        assert answer.status_code == 200
        assert answer.json() == {"status": "ready", "models": {"en-de": "ready", "en-fr": "failed"}}
        assert (await client.head("/health/ready")).status_code == 200
        assert (await client.head("/health/live")).status_code == 200
        listed = (await client.get("/v1/models")).json()["models"]
        assert listed[1] == {"name": "en-fr", "status": "failed"}
        answer = await client.post("/v1/translate", json={"text": "a", "model": "en-fr"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_unavailable")

        lifecycle.phase = Phase.LEAVING
        assert (await client.get("/health/ready")).status_code == 503
        assert (await client.post("/v1/translate", json=PAIR)).status_code == 200
        lifecycle.phase = Phase.CLOSING
        assert (await client.get("/health/live")).status_code == 200
        answer = await client.post("/v1/translate", json=PAIR)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "shutting_down")
        assert int(answer.headers["retry-after"]) >= 1


async def test_not_ready_when_no_model_loads(serving: Serving) -> None:
    settings = Settings()

    def broken() -> None:
        raise RuntimeError("out of memory")

    registry = Registry([fake_model("en-de", settings, before=broken)])
    async with serving(registry, settings) as client:
        answer = await client.get("/health/ready")
        assert (answer.status_code, answer.json()["status"]) == (503, "no model")
    assert registry.none_loads
    assert registry.served_models[0].failure == "RuntimeError: out of memory"


async def test_a_model_that_cannot_translate_is_not_ready() -> None:
    class Broken(FakeTranslator):
        def step(self, timeout_s: float | None = None) -> Any:
            raise RuntimeError("no kernel")

    served_model = fake_model("en-de", Settings(), translator=Broken())
    served_model.start()
    await until(lambda: served_model.state is ModelState.FAILED)


async def test_a_translator_that_cannot_even_cancel_stops_its_model_only(serving: Serving) -> None:
    class Wrecked(FakeTranslator):
        def cancel(self, ticket: int) -> None:
            raise RuntimeError("slots are gone")

    settings = Settings()
    registry = Registry(
        [fake_model("en-de", settings, translator=Wrecked()), fake_model("en-fr", settings)]
    )
    async with serving(registry, settings) as client:
        answer = await client.post("/v1/translate", json={**PAIR, "text": ["POISON", "b"]})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_unavailable")
        answer = await client.post("/v1/translate", json={**PAIR, "target": "fr"})
        assert answer.status_code == 200
        assert (await client.get("/health/ready")).status_code == 503


async def test_overload_over_http(serving: Serving) -> None:
    translator = FakeTranslator()
    settings = Settings(max_texts=2, max_queue_texts=2, deadline_s=0.3)
    registry = Registry([fake_model("en-de", settings, translator=translator)])

    async def post(client: httpx.AsyncClient, number: int) -> httpx.Response:
        return await client.post("/v1/translate", json={**PAIR, "text": f"text {number}"})

    async with serving(registry, settings) as client:
        translator.running.clear()
        answers = await asyncio.gather(*(post(client, number) for number in range(10)))
        codes = sorted(answer.json()["error"]["code"] for answer in answers)
        assert codes == ["deadline_exceeded"] * 2 + ["queue_full"] * 8
        assert sorted(answer.status_code for answer in answers) == [429] * 8 + [504] * 2
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
        assert (await client.get("/health/ready")).status_code == 200
        translator.running.set()
        assert (await post(client, 10)).status_code == 200


async def test_an_unexpected_error_is_a_500_with_the_request_id(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise ValueError("secret text")

    registry = fake_registry(Settings(), "en-de")
    async with serving(registry) as client:
        monkeypatch.setattr(registry, "choose", fail)
        answer = await client.post("/v1/translate", json=PAIR, headers={"X-Request-ID": "r-1"})
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] == "r-1"
    assert answer.json()["error"]["code"] == "internal_error"
    assert "secret" not in answer.text
