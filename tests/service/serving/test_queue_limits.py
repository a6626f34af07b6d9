"""How much work a queue accepts, which requests wait for space, and which are refused."""

import asyncio

import pytest

from service.errors import QueueFull
from service.limits import MAX_WAITING
from service.serving.pending import PendingRequests
from service.serving.queue_limits import Load, QueueLimits
from service.settings import Settings

pytestmark = pytest.mark.anyio

SMALL = Settings(
    max_texts=2,
    max_queue_texts=4,
    max_characters=50,
    max_queue_characters=100,
    queue_wait_s=5.0,
)
AT_ONCE = SMALL.model_copy(update={"queue_wait_s": 0.0})


def queue_of(settings: Settings, speed: float | None = None) -> QueueLimits:
    queue = QueueLimits("en-de", settings)
    queue.speed = lambda: speed
    return queue


async def waiting(queue: QueueLimits, load: Load) -> "asyncio.Task[None]":
    """A request that waits for space."""
    task = asyncio.create_task(queue.acquire(load, 10.0))
    await asyncio.sleep(0.001)
    assert not task.done()
    return task


async def test_texts_and_characters_are_bounded() -> None:
    queue = queue_of(AT_ONCE)
    await queue.acquire(Load(3, 40), 10.0)
    with pytest.raises(QueueFull, match=r"would hold 5 texts, the limit is 4 \(max_queue_texts\)"):
        await queue.acquire(Load(2, 1), 10.0)
    with pytest.raises(QueueFull, match=r"101 characters, the limit is 100 \(max_queue_char"):
        await queue.acquire(Load(1, 61), 10.0)
    await queue.acquire(Load(1, 60), 10.0)
    assert (queue.num_texts, queue.num_characters) == (4, 100)
    queue.release(Load(3, 40))
    assert (queue.num_texts, queue.num_characters) == (1, 60)


async def test_a_full_queue_lets_requests_wait_in_turn() -> None:
    queue = queue_of(SMALL)
    await queue.acquire(Load(4, 4), 10.0)
    first = await waiting(queue, Load(2, 2))
    second = await waiting(queue, Load(1, 1))
    queue.release(Load(1, 1))
    await asyncio.sleep(0.001)
    assert not first.done()
    assert not second.done()  # there is space for it, but it is not its turn
    queue.release(Load(1, 1))
    await first
    assert not second.done()
    queue.release(Load(1, 1))
    await second
    assert (queue.num_texts, queue.num_characters) == (4, 4)


async def test_a_later_request_does_not_overtake_waiting_ones() -> None:
    queue = queue_of(SMALL)
    await queue.acquire(Load(3, 3), 10.0)
    large = await waiting(queue, Load(2, 2))
    small = await waiting(queue, Load(1, 1))
    queue.release(Load(3, 3))
    await asyncio.gather(large, small)


async def test_a_request_that_waited_too_long_is_refused() -> None:
    queue = queue_of(SMALL.model_copy(update={"queue_wait_s": 0.03}))
    await queue.acquire(Load(4, 4), 10.0)
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(QueueFull, match="would hold 5 texts"):
        await queue.acquire(Load(1, 1), 10.0)
    assert 0.02 < loop.time() - started < 1.0
    queue.release(Load(4, 4))
    assert queue.num_texts == 0


async def test_a_request_cancelled_while_it_waits_takes_no_space() -> None:
    queue = queue_of(SMALL)
    await queue.acquire(Load(4, 4), 10.0)
    cancelled = await waiting(queue, Load(1, 1))
    stays = await waiting(queue, Load(1, 1))
    cancelled.cancel()
    queue.release(Load(1, 1))  # before the cancelled request runs
    await asyncio.gather(cancelled, stays, return_exceptions=True)
    queue.release(Load(1, 1))
    queue.release(Load(3, 3))
    assert queue.num_texts == queue.num_characters == 0


async def test_the_number_of_waiting_requests_is_limited() -> None:
    queue = queue_of(SMALL)
    await queue.acquire(Load(4, 4), 10.0)
    line = [await waiting(queue, Load(1, 1)) for _ in range(8)]
    started = asyncio.get_running_loop().time()
    with pytest.raises(QueueFull):
        await queue.acquire(Load(1, 1), 10.0)
    assert asyncio.get_running_loop().time() - started < 1.0
    for task in line:
        task.cancel()
    await asyncio.gather(*line, return_exceptions=True)


async def test_a_queue_with_too_long_an_estimated_wait_is_full() -> None:
    settings = Settings(queue_wait_s=0.0, max_queue_s=2.0)
    queue = queue_of(settings, speed=100.0)
    await queue.acquire(Load(1, 199), 10.0)
    await queue.acquire(Load(1, 51), 10.0)  # 1.99 s of work wait for it
    with pytest.raises(
        QueueFull, match=r"wait for 2\.5 s, the limit is 2 s \(max_queue_s\)"
    ) as refusal:
        await queue.acquire(Load(1, 1), 10.0)
    assert refusal.value.retry_after_s == 3  # 2.5 s of work
    queue.release(Load(1, 51))
    with pytest.raises(QueueFull):  # one with a shorter deadline
        await queue.acquire(Load(1, 1), 1.0)
    queue.release(Load(1, 199))
    await queue.acquire(Load(1, 9_000), 10.0)  # the first is accepted however long it takes
    assert queue_of(settings).num_texts == 0


async def test_waiting_bulk_does_not_delay_small_requests() -> None:
    queue = queue_of(Settings(queue_wait_s=0.05))
    for _ in range(2):
        await queue.acquire(Load(1, 100_000, bulk=True), 10.0)
    waits = await waiting(queue, Load(1, 20_000, bulk=True))
    for _ in range(10):
        await asyncio.wait_for(queue.acquire(Load(1, 50), 10.0), 0.02)
    with pytest.raises(QueueFull, match="half of max_queue_characters"):
        await waits


async def test_a_freed_place_goes_to_the_next_waiting_request() -> None:
    queue = queue_of(SMALL.model_copy(update={"queue_wait_s": 0.2}))
    await queue.acquire(Load(3, 3), 10.0)
    large = asyncio.create_task(queue.acquire(Load(2, 2), 0.03))  # no time to wait for long
    await asyncio.sleep(0.01)
    small = asyncio.create_task(queue.acquire(Load(1, 1), 10.0))
    with pytest.raises(QueueFull):
        await large
    await asyncio.wait_for(small, 0.1)


async def test_small_requests_overtake_bulk_requests() -> None:
    settings = Settings(queue_wait_s=0.0, max_queue_s=2.0)
    queue = queue_of(settings, speed=10_000.0)
    await queue.acquire(Load(1, 100_000, bulk=True), 10.0)
    await queue.acquire(Load(1, 50), 10.0)  # passes it
    with pytest.raises(QueueFull, match="max_queue_s"):  # waits for all of them
        await queue.acquire(Load(1, 20_000, bulk=True), 10.0)
    queue = queue_of(settings)
    for _ in range(2):
        await queue.acquire(Load(1, 100_000, bulk=True), 10.0)
    with pytest.raises(QueueFull, match=r"220000 .* 200000 \(half of max_queue_characters\)"):
        await queue.acquire(Load(1, 20_000, bulk=True), 10.0)
    await queue.acquire(Load(1, 50), 10.0)


@pytest.mark.parametrize(
    ("speed", "most"),
    [(None, 10_000), (100.0, 2_000), (8_000.0, 4_000), (1e6, 10_000)],
)
async def test_requests_above_the_bulk_limit_are_bulk(speed: float | None, most: int) -> None:
    queue = queue_of(SMALL, speed)
    assert queue.load_of(["a" * (most - 1), "a"]) == Load(2, most)
    assert queue.load_of(["a" * most, "a"]) == Load(2, most + 1, bulk=True)


async def test_pending_requests_take_space() -> None:
    queue = queue_of(AT_ONCE)
    pending = PendingRequests()
    await queue.acquire(Load(2, 2), 10.0)
    first, second = pending.new(), pending.new()
    first.start(30)
    first.start(30)  # counted once
    assert queue.overloaded(pending) is None
    second.start(30)
    refusal = queue.overloaded(pending)
    assert refusal is not None
    assert "would hold 5 texts" in str(refusal)
    await queue.acquire(Load(1, 1), 10.0, first)
    first.end()
    assert (pending.num_requests, pending.num_bytes) == (1, 30)
    assert queue.overloaded(pending) is not None  # three texts, one pending
    second.end()
    second.start(30)  # too late to be counted
    assert (pending.num_requests, pending.num_bytes) == (0, 0)
    assert queue.overloaded(pending) is None


async def test_a_full_queue_is_overloaded_when_enough_requests_wait() -> None:
    queue = queue_of(SMALL)
    pending = PendingRequests()
    await queue.acquire(Load(4, 4), 10.0)
    tasks = [await waiting(queue, Load(1, 1)) for _ in range(MAX_WAITING - 1)]
    assert queue.overloaded(pending) is None
    pending.new().start(1)
    assert queue.overloaded(pending) is not None
    queue.release(Load(1, 1))
    refusal = queue.overloaded(pending)  # six wait, one is pending
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert refusal is None


async def test_pending_requests_count_by_their_bytes_and_overtake_bulk() -> None:
    queue = queue_of(Settings(queue_wait_s=0.0), speed=8_000.0)
    pending = PendingRequests()
    await queue.acquire(Load(1, 100_000, bulk=True), 10.0)
    pending.new().start(15_000)
    assert queue.overloaded(pending) is None
    pending.new().start(2_000)  # together more than 2 s of work
    refusal = queue.overloaded(pending)
    assert refusal is not None
    assert "max_queue_s" in str(refusal)
    assert refusal.retry_after_s == 1  # a small request does not wait for the bulk
    with pytest.raises(QueueFull) as bulk:
        await queue.acquire(Load(1, 20_000, bulk=True), 10.0)
    assert bulk.value.retry_after_s == 13
