"""Several engines behind one face: the same results, nothing lost, errors told."""

import dataclasses
import gc
import logging
import os
import random
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

import pytest

from model.decoding.beam_search import SearchConfig
from model.decoding.engine import Engine
from model.decoding.engine_pool import EngineTeam
from model.decoding.engine_process import EngineProcesses, Failure, work
from model.decoding.request import Finished, Request
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
    """Stands for processes: engines' other ends are served by threads, whatever `serve` does."""

    ending = "was ended by a test"

    def __init__(self, serve: Callable[[Connection], None], failure: str | None = None) -> None:
        """`failure`: what is said instead of loading; empty to end without a word."""
        self.parent, self._loader = Pipe()
        self._serve = serve
        self._ends: list[Connection] = []
        self._threads: list[threading.Thread] = []
        if failure:
            self._loader.send(Failure(failure))
        if failure is not None:
            self._loader.close()

    def engine(self) -> Connection:
        ours, theirs = Pipe()
        self._ends.append(ours)
        if self._loader.closed:  # what is asked lies unread in the socket
            self._ends.append(theirs)
        else:
            self._threads.append(threading.Thread(target=self._run, args=(theirs,)))
            self._threads[-1].start()
        return ours

    def _run(self, connection: Connection) -> None:
        with connection:
            self._serve(connection)

    def close(self) -> None:
        for connection in (self.parent, self._loader, *self._ends):
            connection.close()
        for thread in self._threads:
            thread.join(WAIT_S)
            assert not thread.is_alive()


@contextmanager
def team_of(
    count: int,
    make_engine: Callable[[], Engine] = engine,
    *,
    own: Engine | None = None,
    serve: Callable[[Connection], None] | None = None,
    failure: str | None = None,
) -> Iterator[EngineTeam]:
    """`count` engines beside the caller's `own`."""
    team = EngineTeam(
        own,
        lambda: Threads(
            serve or (lambda connection: work(connection, make_engine, exact=True)), failure
        ),
        count,
        max_slots=SLOTS,
        max_source_tokens=LONGEST,
    )
    try:
        yield team
    finally:
        team.close()


def requests(count: int) -> list[Request]:
    randomly = random.Random(0)
    return [
        Request(
            number,
            [randomly.randrange(4, 30) for _ in range(randomly.randint(1, LONGEST))],
            SearchConfig(beam_size=randomly.choice([1, 4])),
        )
        for number in range(count)
    ]


def endless(number: int) -> Request:
    return Request(number, [5], SearchConfig(1, min_length_ratio=1e5, max_length_ratio=1e5))


def finish_into(found: set[int], team: EngineTeam) -> None:
    while not team.idle:
        found |= {each.request_id for each in team.step(timeout_s=WAIT_S)}


def finish(team: Engine | EngineTeam) -> dict[int, Finished]:
    found: dict[int, Finished] = {}
    while not team.idle:
        found.update({each.request_id: each for each in team.step(timeout_s=WAIT_S)})
    return found


@pytest.mark.parametrize("has_own", [True, False])
def test_a_team_finds_what_one_engine_finds(has_own: bool) -> None:
    alone = engine()
    with team_of(2, own=engine() if has_own else None) as team:
        for request in requests(100):
            alone.admit(request)
            team.admit(request)
        assert finish(team) == finish(alone)
        assert team.num_waiting == 0


def test_bulk_leaves_one_engine_to_the_others() -> None:
    engines: list[Engine] = []

    def noted() -> Engine:
        engines.append(engine())
        return engines[-1]

    with team_of(2, noted) as team:
        team.start()
        for number in range(100):
            team.admit(dataclasses.replace(endless(number), bulk=True))
        assert team.num_waiting == 0  # nobody waits for them
        team.step(timeout_s=0.1)
        team.admit(Request(100, [5, 6], SearchConfig(beam_size=1)))
        assert [each.request_id for each in team.step(timeout_s=WAIT_S)] == [100]
        assert sorted(each.num_under_way > 0 for each in engines) == [False, True]
        for number in range(100):
            team.cancel(number)
        assert team.idle


@pytest.mark.parametrize("has_own", [True, False])
def test_all_members_get_work(has_own: bool) -> None:
    used: set[int] = set()

    class Watched(Engine):
        def admit(self, request: Request) -> None:
            used.add(threading.get_ident())
            super().admit(request)

    def watched() -> Engine:
        return Watched(TableNetwork(vocab_size=30, end_bias=1.0), max_slots=SLOTS)

    with team_of(2, watched, own=watched() if has_own else None) as team:
        for request in requests(150):
            team.admit(request)
        finish(team)
    assert len(used) == 2 + has_own


def test_nobody_is_called_while_the_callers_engine_has_room() -> None:
    def serve(_connection: Connection) -> None:
        raise AssertionError("nobody was needed")

    with team_of(2, own=engine(), serve=serve) as team:
        for request in requests(SLOTS):
            team.admit(request)
        assert finish(team).keys() == set(range(SLOTS))


def test_step_waits_no_longer_than_asked_and_can_be_woken() -> None:
    with team_of(2) as team:
        assert team.step() == []  # nothing under way
        team.wake()
        team.wake()
        team.admit(endless(1))
        for _ in range(5):
            assert team.step(timeout_s=0.01) == []
        threading.Timer(0.05, team.wake).start()
        assert team.step(timeout_s=60.0) == []
        assert not team.idle


def test_a_bell_that_rings_already_does_not_hold_up_who_rings() -> None:
    with team_of(1) as team:
        for _ in range(100_000):
            team.wake()


def test_a_cancelled_request_is_never_heard_of_again() -> None:
    with team_of(2) as team:
        for number in range(600):  # some of them still in line
            team.admit(endless(number))
        team.step(timeout_s=0.1)
        for number in range(600):
            team.cancel(number)
        team.cancel(777)  # nobody's
        assert team.idle
        assert team.num_waiting == 0
        # The slots are free again.
        for request in requests(8):
            team.admit(request)
        assert finish(team).keys() == set(range(8))


def test_sources_that_cannot_be_translated_are_refused_at_once() -> None:
    with team_of(1) as team:
        with pytest.raises(InputError, match="no tokens"):
            team.admit(Request(1, [], SearchConfig()))
        with pytest.raises(InputError, match=f"the limit is {LONGEST}"):
            team.admit(Request(1, [5] * (LONGEST + 1), SearchConfig()))
        assert team.idle


def test_an_error_in_an_engine_reaches_the_caller_and_the_team_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Fragile(Engine):
        def step(self, timeout_s: float | None = None) -> list[Finished]:
            if 13 in self._waiting:
                raise RuntimeError("thirteen")
            return super().step()

    def fragile() -> Engine:
        return Fragile(TableNetwork(vocab_size=30, end_bias=1.0), max_slots=SLOTS)

    with team_of(2, fragile) as team:
        team.admit(Request(13, [5, 6], SearchConfig()))
        with pytest.raises(EngineFailure, match="thirteen"):
            finish(team)
        team.cancel(13)
        for request in requests(8):
            team.admit(request)
        assert finish(team).keys() == set(range(8))
    assert "in step" in capsys.readouterr().err  # whoever mends it wants to know where


@pytest.mark.parametrize(("failure", "said"), [("no memory", "no memory"), ("", "by a test")])
def test_without_processes_the_callers_engine_goes_on_alone(
    failure: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), team_of(2, own=engine(), failure=failure) as team:
        for request in requests(100):
            team.admit(request)
        assert len(finish(team)) == 100
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert said in caplog.text


@pytest.mark.parametrize(("failure", "said"), [("no memory", "no memory"), ("", "by a test")])
def test_without_any_engine_the_caller_is_told_every_time(failure: str, said: str) -> None:
    with team_of(2, failure=failure) as team:
        for number in range(3):
            team.admit(endless(number))
            with pytest.raises(NoEngine, match=said):
                finish(team)
            team.cancel(number)
        assert team.idle
        with pytest.raises(NoEngine, match=said):
            team.start()


def test_engines_that_end_before_they_are_ready_are_not_replaced() -> None:
    with team_of(2, serve=lambda connection: None) as team:
        team.admit(endless(1))
        with pytest.raises(NoEngine, match="before it was ready"):
            finish(team)


class Dying(Connection):
    """The engine that reads from it ends when it is given something to do."""

    def recv(self) -> Request:
        super().recv()
        raise EOFError


def mortal(*lives: bool | None) -> Callable[[Connection], None]:
    """Engines, some of which die of their first request, or (None) before they are ready."""
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
def test_what_a_lost_engine_held_is_given_to_others(bulk: bool) -> None:
    alone = engine()
    with team_of(2, serve=mortal(False, True)) as team:
        team.start()
        for request in requests(30):
            request = dataclasses.replace(request, bulk=bulk)
            alone.admit(request)
            team.admit(request)
        assert finish(team) == finish(alone)
        assert len(team.process_ids) == 2  # the lost one was replaced


@pytest.mark.parametrize(
    ("count", "lives"),
    [
        (2, (False, True, None)),  # the other one goes on alone
        (1, (False, None)),  # all are called anew
    ],
)
def test_engines_that_came_once_are_not_given_up(
    count: int, lives: tuple[bool | None, ...]
) -> None:
    alone = engine()
    with team_of(count, serve=mortal(*lives)) as team:
        team.start()
        for request in requests(30):
            alone.admit(request)
            team.admit(request)
        assert finish(team) == finish(alone)
        assert len(team.process_ids) == 1


def test_a_request_that_ends_two_engines_is_given_up_and_others_come() -> None:
    with team_of(1, serve=mortal(False, False, True)) as team:
        team.admit(endless(1))
        with pytest.raises(EngineFailure, match="two engines ended in the middle of 1 segment"):
            finish(team)
        team.cancel(1)
        for request in requests(8):
            team.admit(request)
        assert finish(team).keys() == set(range(8))


def test_a_failed_engine_takes_no_results_of_others_along() -> None:
    class Fragile(Engine):
        def step(self, timeout_s: float | None = None) -> list[Finished]:
            if 14 in self._waiting:
                raise RuntimeError("fourteen")
            return super().step()

    def fragile() -> Engine:
        return Fragile(TableNetwork(vocab_size=30, end_bias=1.0), max_slots=SLOTS)

    own = engine()
    with team_of(1, fragile, own=own) as team:
        team.start()
        found: set[int] = set()
        for request in requests(30):
            team.admit(request)
        lost = set(next(iter(team._members.values())).under_way)
        assert 14 in lost
        with pytest.raises(EngineFailure, match="fourteen"):
            finish_into(found, team)
        for number in lost:
            team.cancel(number)
        finish_into(found, team)
        assert found >= set(range(30)) - lost


def test_a_closed_translator_is_gone_without_the_garbage_collector(tiny_checkpoint: Path) -> None:
    translator = Translator.load(tiny_checkpoint, num_engines=2, own_engine=False)
    translator.wake()  # makes the team, but starts no process
    translator.close()
    gone = weakref.ref(translator)
    gc.disable()  # a service freezes what it has loaded: a cycle would stay for good
    try:
        del translator
        assert gone() is None
    finally:
        gc.enable()
