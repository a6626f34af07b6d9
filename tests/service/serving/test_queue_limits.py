"""How much a model accepts, who waits for room, and who is refused."""

import asyncio

import pytest

from service.errors import QueueFull
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


def admission(settings: Settings, speed: float | None = None) -> QueueLimits:
    room = QueueLimits("en-de", settings)
    room.speed = lambda: speed
    return room


async def waiting(room: QueueLimits, load: Load) -> "asyncio.Task[None]":
    """A request that has begun to wait for room."""
    task = asyncio.create_task(room.enter(load, 10.0))
    await asyncio.sleep(0.001)
    assert not task.done()
    return task


async def test_texts_and_characters_are_bounded() -> None:
    room = admission(AT_ONCE)
    await room.enter(Load(3, 40), 10.0)
    with pytest.raises(
        QueueFull, match=r"3 texts are waiting .* at most 4 may \(max_queue_texts\)"
    ):
        await room.enter(Load(2, 1), 10.0)
    with pytest.raises(QueueFull, match=r"40 characters .* at most 100 may \(max_queue_char"):
        await room.enter(Load(1, 61), 10.0)
    await room.enter(Load(1, 60), 10.0)
    assert (room.num_texts, room.num_characters) == (4, 100)
    room.leave(Load(3, 40))
    assert (room.num_texts, room.num_characters) == (1, 60)


async def test_a_full_queue_lets_requests_wait_in_turn() -> None:
    room = admission(SMALL)
    await room.enter(Load(4, 4), 10.0)
    first = await waiting(room, Load(2, 2))
    second = await waiting(room, Load(1, 1))
    room.leave(Load(1, 1))
    await asyncio.sleep(0.001)
    assert not first.done()
    assert not second.done()  # room for it, but not its turn
    room.leave(Load(1, 1))
    await first
    assert not second.done()
    room.leave(Load(1, 1))
    await second
    assert (room.num_texts, room.num_characters) == (4, 4)


async def test_who_comes_later_does_not_pass_those_who_wait() -> None:
    room = admission(SMALL)
    await room.enter(Load(3, 3), 10.0)
    large = await waiting(room, Load(2, 2))
    small = await waiting(room, Load(1, 1))
    room.leave(Load(3, 3))
    await asyncio.gather(large, small)


async def test_the_wait_ends_in_a_refusal() -> None:
    room = admission(SMALL.model_copy(update={"queue_wait_s": 0.03}))
    await room.enter(Load(4, 4), 10.0)
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(QueueFull, match="4 texts are waiting"):
        await room.enter(Load(1, 1), 10.0)
    assert 0.02 < loop.time() - started < 1.0
    room.leave(Load(4, 4))
    assert room.num_texts == 0


async def test_who_leaves_while_waiting_takes_no_room() -> None:
    room = admission(SMALL)
    await room.enter(Load(4, 4), 10.0)
    gone = await waiting(room, Load(1, 1))
    stays = await waiting(room, Load(1, 1))
    gone.cancel()
    room.leave(Load(1, 1))  # before the one that is gone has noticed
    await asyncio.gather(gone, stays, return_exceptions=True)
    room.leave(Load(1, 1))
    room.leave(Load(3, 3))
    assert room.num_texts == room.num_characters == 0


async def test_the_line_is_bounded() -> None:
    room = admission(SMALL)
    await room.enter(Load(4, 4), 10.0)
    line = [await waiting(room, Load(1, 1)) for _ in range(8)]
    started = asyncio.get_running_loop().time()
    with pytest.raises(QueueFull):
        await room.enter(Load(1, 1), 10.0)
    assert asyncio.get_running_loop().time() - started < 1.0
    for task in line:
        task.cancel()
    await asyncio.gather(*line, return_exceptions=True)


async def test_a_queue_longer_than_its_time_is_full() -> None:
    settings = Settings(queue_wait_s=0.0, max_queue_s=2.0)
    room = admission(settings, speed=100.0)
    await room.enter(Load(1, 199), 10.0)
    await room.enter(Load(1, 51), 10.0)  # 1.99 s of work wait for it
    with pytest.raises(QueueFull, match=r"at most 2 s of work may \(max_queue_s\)") as refusal:
        await room.enter(Load(1, 1), 10.0)
    assert refusal.value.retry_after_s == 3  # 2.5 s of work
    room.leave(Load(1, 51))
    with pytest.raises(QueueFull):  # one that will not wait so long
        await room.enter(Load(1, 1), 1.0)
    room.leave(Load(1, 199))
    await room.enter(Load(1, 9_000), 10.0)  # nothing is before it, however long it takes
    assert admission(settings).num_texts == 0


async def test_bulk_that_waits_keeps_no_one_waiting() -> None:
    room = admission(Settings(queue_wait_s=0.05))
    for _ in range(2):
        await room.enter(Load(1, 100_000, bulk=True), 10.0)
    waits = await waiting(room, Load(1, 20_000, bulk=True))
    for _ in range(10):
        await asyncio.wait_for(room.enter(Load(1, 50), 10.0), 0.02)
    with pytest.raises(QueueFull, match="half of max_queue_characters"):
        await waits


async def test_who_gives_up_waiting_lets_those_behind_pass() -> None:
    room = admission(SMALL.model_copy(update={"queue_wait_s": 0.2}))
    await room.enter(Load(3, 3), 10.0)
    large = asyncio.create_task(room.enter(Load(2, 2), 0.03))  # no time to wait for long
    await asyncio.sleep(0.01)
    small = asyncio.create_task(room.enter(Load(1, 1), 10.0))
    with pytest.raises(QueueFull):
        await large
    await asyncio.wait_for(small, 0.1)


async def test_bulk_keeps_no_one_out() -> None:
    settings = Settings(queue_wait_s=0.0, max_queue_s=2.0)
    room = admission(settings, speed=10_000.0)
    await room.enter(Load(1, 100_000, bulk=True), 10.0)
    await room.enter(Load(1, 50), 10.0)  # lets it pass
    with pytest.raises(QueueFull, match="max_queue_s"):  # waits for all
        await room.enter(Load(1, 20_000, bulk=True), 10.0)
    room = admission(settings)
    for _ in range(2):
        await room.enter(Load(1, 100_000, bulk=True), 10.0)
    with pytest.raises(QueueFull, match=r"200000 may \(half of max_queue_characters\)"):
        await room.enter(Load(1, 20_000, bulk=True), 10.0)
    await room.enter(Load(1, 50), 10.0)


@pytest.mark.parametrize(
    ("speed", "most"),
    [(None, 10_000), (100.0, 2_000), (8_000.0, 4_000), (1e6, 10_000)],
)
async def test_bulk_is_what_keeps_all_engines_busy(speed: float | None, most: int) -> None:
    room = admission(SMALL, speed)
    assert room.load_of(["a" * (most - 1), "a"]) == Load(2, most)
    assert room.load_of(["a" * most, "a"]) == Load(2, most + 1, bulk=True)


async def test_those_on_their_way_are_not_taken_for_bulk() -> None:
    room = admission(Settings(max_queue_texts=1024), speed=8_000.0)
    assert room.refuses_all(500) is None  # nobody knows yet how long they are
    await room.enter(Load(1, 100_000, bulk=True), 10.0)
    await room.enter(Load(2, 100), 10.0)
    assert room.refuses_all(300) is None
    refusal = room.refuses_all(400)  # 50 characters each, too much for two seconds
    assert refusal is not None
    assert refusal.retry_after_s == 1  # bulk is for nobody to wait for
    with pytest.raises(QueueFull) as bulk:
        await room.enter(Load(1, 20_000, bulk=True), 10.0)
    assert bulk.value.retry_after_s == 13
