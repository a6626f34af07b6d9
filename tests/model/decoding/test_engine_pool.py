"""A pool of engines: the same results as one engine, no request lost, errors reported."""

import dataclasses
import gc
import os
import random
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

import pytest

from model.decoding.engine import Engine
from model.decoding.engine_pool import EnginePool
from model.decoding.engine_process import (
    EngineProcesses,
    FailureReport,
    start_engine_processes,
    work,
)
from model.decoding.request import Finished, SegmentRequest
from model.decoding.search_config import SearchConfig
from model.errors import EngineFailure, InputError, NoEngine
from model.translator import Translator
from tests.model.decoding.reference_search import TableNetwork

LONGEST = 9
SLOTS = 4
WAIT_S = 20.0


def engine() -> Engine:
    network = TableNetwork(vocab_size=30, end_bias=1.0)
    return Engine(network, max_slots=SLOTS, max_source_tokens=LONGEST)


class Threads(EngineProcesses):
    """Engine processes replaced by threads that run `serve`."""

    exit_reason = "was ended by a test"

    def __init__(
        self, num_engines: int, serve: Callable[[Connection], None], failure: str | None = None
    ) -> None:
        """failure: message instead of loading; empty: exit without a message."""
        self.num_engines = num_engines
        self.loader, self._loader = Pipe()
        self._serve = serve
        self._failure = failure
        self._ends: list[Connection] = []
        self._threads: list[threading.Thread] = []
        if failure:
            self._loader.send(FailureReport(failure))
        if failure is not None:
            self._loader.close()

    def restarted(self) -> "Threads":
        return Threads(self.num_engines, self._serve, self._failure)

    def fork_engine(self) -> Connection:
        near_end, far_end = Pipe()
        self._ends.append(near_end)
        if self._loader.closed:  # nothing reads the request for an engine
            self._ends.append(far_end)
        else:
            self._threads.append(threading.Thread(target=self._run, args=(far_end,)))
            self._threads[-1].start()
        return near_end

    def _run(self, connection: Connection) -> None:
        with connection:
            self._serve(connection)

    def close(self) -> None:
        for connection in (self.loader, self._loader, *self._ends):
            connection.close()
        for thread in self._threads:
            thread.join(WAIT_S)
            assert not thread.is_alive()


@contextmanager
def pool_of(
    num_engines: int,
    make_engine: Callable[[], Engine] = engine,
    *,
    serve: Callable[[Connection], None] | None = None,
    failure: str | None = None,
) -> Iterator[EnginePool]:
    """A pool whose engines run in threads."""
    serve = serve or (lambda connection: work(connection, make_engine, exact=True))
    pool = EnginePool(
        Threads(num_engines, serve, failure), max_slots=SLOTS, max_source_tokens=LONGEST
    )
    try:
        yield pool
    finally:
        pool.close()


def requests(count: int) -> list[SegmentRequest]:
    randomly = random.Random(0)
    return [
        SegmentRequest(
            number,
            [randomly.randrange(4, 30) for _ in range(randomly.randint(1, LONGEST))],
            SearchConfig(beam_size=randomly.choice([1, 4])),
        )
        for number in range(count)
    ]


def endless(number: int) -> SegmentRequest:
    return SegmentRequest(number, [5], SearchConfig(1, min_length_ratio=1e5, max_length_ratio=1e5))


def finish(engines: Engine | EnginePool) -> dict[int, Finished]:
    results: dict[int, Finished] = {}
    while not engines.idle:
        finished = engines.step() if isinstance(engines, Engine) else engines.step(WAIT_S)
        results.update({each.request_id: each for each in finished})
    return results


def test_a_pool_finds_what_one_engine_finds() -> None:
    alone = engine()
    with pool_of(3) as pool:
        for request in requests(100):
            alone.submit(request)
            pool.submit(request)
        assert finish(pool) == finish(alone)
        assert pool.num_waiting == 0


def test_one_engine_takes_no_bulk_requests() -> None:
    engines: list[Engine] = []

    def noted() -> Engine:
        engines.append(engine())
        return engines[-1]

    with pool_of(2, noted) as pool:
        pool.start()
        for number in range(100):
            pool.submit(dataclasses.replace(endless(number), bulk=True))
        assert pool.num_waiting == 0  # bulk requests do not count
        pool.step(timeout_s=0.1)
        pool.submit(SegmentRequest(100, [5, 6], SearchConfig(beam_size=1)))
        assert [each.request_id for each in pool.step(timeout_s=WAIT_S)] == [100]
        assert sorted(not each.idle for each in engines) == [False, True]
        for number in range(100):
            pool.cancel(number)
        assert pool.idle


def test_all_engines_get_work() -> None:
    used: set[int] = set()

    class Watched(Engine):
        def submit(self, request: SegmentRequest) -> None:
            used.add(threading.get_ident())
            super().submit(request)

    def watched() -> Engine:
        return Watched(TableNetwork(vocab_size=30, end_bias=1.0), max_slots=SLOTS)

    with pool_of(3, watched) as pool:
        for request in requests(150):
            pool.submit(request)
        finish(pool)
    assert len(used) == 3


def test_step_waits_no_longer_than_asked_and_can_be_woken() -> None:
    with pool_of(2) as pool:
        assert pool.step() == []  # nothing under way
        pool.wake()
        pool.wake()
        pool.submit(endless(1))
        for _ in range(5):
            assert pool.step(timeout_s=0.01) == []
        threading.Timer(0.05, pool.wake).start()
        assert pool.step(timeout_s=60.0) == []
        assert not pool.idle


def test_waking_again_and_again_never_blocks() -> None:
    with pool_of(1) as pool:
        for _ in range(100_000):
            pool.wake()


def test_a_cancelled_request_gives_no_result() -> None:
    with pool_of(2) as pool:
        for number in range(600):  # some of them still waiting
            pool.submit(endless(number))
        pool.step(timeout_s=0.1)
        for number in range(600):
            pool.cancel(number)
        pool.cancel(777)  # unknown
        assert pool.idle
        assert pool.num_waiting == 0
        # The slots are free again.
        for request in requests(8):
            pool.submit(request)
        assert finish(pool).keys() == set(range(8))


def test_sources_that_cannot_be_translated_are_refused() -> None:
    with pool_of(1) as pool:
        with pytest.raises(InputError, match="no tokens"):
            pool.submit(SegmentRequest(1, [], SearchConfig()))
        with pytest.raises(InputError, match=f"the limit is {LONGEST}"):
            pool.submit(SegmentRequest(1, [5] * (LONGEST + 1), SearchConfig()))
        assert pool.idle


def test_an_error_in_an_engine_reaches_the_caller_and_the_pool_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Fragile(Engine):
        def step(self) -> list[Finished]:
            if 13 in self._waiting:
                raise RuntimeError("thirteen")
            return super().step()

    def fragile() -> Engine:
        return Fragile(TableNetwork(vocab_size=30, end_bias=1.0), max_slots=SLOTS)

    with pool_of(2, fragile) as pool:
        pool.submit(SegmentRequest(13, [5, 6], SearchConfig()))
        with pytest.raises(EngineFailure, match="thirteen"):
            finish(pool)
        pool.cancel(13)
        for request in requests(8):
            pool.submit(request)
        assert finish(pool).keys() == set(range(8))
    assert "in step" in capsys.readouterr().err  # the traceback


@pytest.mark.parametrize(("failure", "said"), [("no memory", "no memory"), ("", "by a test")])
def test_every_use_fails_when_no_engine_can_start(failure: str, said: str) -> None:
    with pool_of(2, failure=failure) as pool:
        for number in range(3):
            pool.submit(endless(number))
            with pytest.raises(NoEngine, match=said):
                finish(pool)
            pool.cancel(number)
        assert pool.idle
        with pytest.raises(NoEngine, match=said):
            pool.start()


def test_engines_that_end_before_they_are_ready_are_not_replaced() -> None:
    with pool_of(2, serve=lambda connection: None) as pool:
        pool.submit(endless(1))
        with pytest.raises(NoEngine, match="before it was ready"):
            finish(pool)


class Dying(Connection):
    """A connection whose engine exits when it receives a request."""

    def recv(self) -> SegmentRequest:
        super().recv()
        raise EOFError


def mortal(*lives: bool | None) -> Callable[[Connection], None]:
    """Engines that work (True), exit at their first request (False), or before they are ready."""
    rest = iter(lives)

    def serve(connection: Connection) -> None:
        life = next(rest, True)
        if life:
            work(connection, engine, exact=True)
        elif life is not None:
            with Dying(os.dup(connection.fileno())) as dying:
                work(dying, engine, exact=True)

    return serve


@pytest.mark.parametrize("bulk", [False, True])
def test_the_requests_of_a_lost_engine_go_to_other_engines(bulk: bool) -> None:
    alone = engine()
    with pool_of(2, serve=mortal(False, True)) as pool:
        pool.start()
        for request in requests(30):
            request = dataclasses.replace(request, bulk=bulk)
            alone.submit(request)
            pool.submit(request)
        assert finish(pool) == finish(alone)
        assert len(pool.process_ids) == 2  # the lost engine was replaced


@pytest.mark.parametrize(
    ("count", "lives"),
    [
        (2, (False, True, None)),  # continues with one engine
        (1, (False, None)),  # starts all processes again
    ],
)
def test_a_pool_that_once_worked_goes_on_after_a_failed_start(
    count: int, lives: tuple[bool | None, ...]
) -> None:
    alone = engine()
    with pool_of(count, serve=mortal(*lives)) as pool:
        pool.start()
        for request in requests(30):
            alone.submit(request)
            pool.submit(request)
        assert finish(pool) == finish(alone)
        assert len(pool.process_ids) == 1


def test_a_request_that_ends_two_engines_fails() -> None:
    with pool_of(1, serve=mortal(False, False, True)) as pool:
        pool.submit(endless(1))
        with pytest.raises(
            EngineFailure, match=r"two engine processes exited.* the same 1 segment"
        ):
            finish(pool)
        pool.cancel(1)
        for request in requests(8):
            pool.submit(request)
        assert finish(pool).keys() == set(range(8))


def test_a_failed_engine_loses_no_results_of_other_engines() -> None:
    class Fragile(Engine):
        def step(self) -> list[Finished]:
            if 14 in self._waiting:
                raise RuntimeError("fourteen")
            return super().step()

    def fragile() -> Engine:
        return Fragile(TableNetwork(vocab_size=30, end_bias=1.0), max_slots=SLOTS)

    with pool_of(2, fragile) as pool:
        pool.start()
        for request in requests(30):
            pool.submit(request)
        (lost,) = (set(each.unfinished) for each in pool._engines.values() if 14 in each.unfinished)
        done: set[int] = set()

        def finish_all() -> None:
            while not pool.idle:
                done.update(each.request_id for each in pool.step(WAIT_S))

        with pytest.raises(EngineFailure, match="fourteen"):
            finish_all()
        for number in lost:
            pool.cancel(number)
        finish_all()
        assert done >= set(range(30)) - lost


def test_a_closed_translator_is_gone_without_the_garbage_collector(tiny_checkpoint: Path) -> None:
    translator = Translator.load(tiny_checkpoint, processes=start_engine_processes(2, "cpu"))
    translator.close()
    gone = weakref.ref(translator)
    gc.disable()  # a service excludes loaded models from garbage collection
    try:
        del translator
        assert gone() is None
    finally:
        gc.enable()
