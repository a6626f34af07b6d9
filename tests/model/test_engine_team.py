"""Several engines behind one face: the same results, nothing lost, errors told."""

import random
import threading
import time

import pytest

from model.beam_search import SearchConfig
from model.engine import Engine
from model.engine_team import EngineTeam
from model.errors import InputError
from model.request import Finished, Request
from tests.model.reference_search import TableNetwork

LONGEST = 9


def engine() -> Engine:
    return Engine(TableNetwork(vocab_size=30, end_bias=1.0), max_slots=4, max_source_tokens=LONGEST)


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


def finish(team: Engine | EngineTeam) -> dict[int, Finished]:
    found: dict[int, Finished] = {}
    while not team.idle:
        found.update({each.request_id: each for each in team.step(timeout_s=20.0)})
    return found


def test_a_team_finds_what_one_engine_finds() -> None:
    alone, team = engine(), EngineTeam(engine, 3)
    for request in requests(60):
        alone.admit(request)
        team.admit(request)
    assert finish(team) == finish(alone)
    assert team.num_waiting == 0
    team.close()


def test_all_members_get_work() -> None:
    used: set[int] = set()

    class Watched(Engine):
        def admit(self, request: Request) -> None:
            used.add(threading.get_ident())
            super().admit(request)

    team = EngineTeam(lambda: Watched(TableNetwork(vocab_size=30), max_slots=4), 3)
    for number in range(9):
        team.admit(endless(number))
    deadline = time.monotonic() + 20
    while len(used) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(used) == 3
    team.close()


def test_step_waits_no_longer_than_asked_and_can_be_woken() -> None:
    team = EngineTeam(engine, 2)
    assert team.step() == []  # nothing under way
    team.admit(endless(1))
    assert team.step(timeout_s=0.01) == []
    threading.Timer(0.05, team.wake).start()
    assert team.step(timeout_s=60.0) == []
    assert not team.idle
    team.close()


def test_a_cancelled_request_is_never_heard_of_again() -> None:
    team = EngineTeam(engine, 2)
    for number in range(6):
        team.admit(endless(number))
    for number in range(6):
        team.cancel(number)
    team.cancel(77)  # nobody's
    assert team.idle
    # The slots are free again.
    for request in requests(8):
        team.admit(request)
    assert finish(team).keys() == set(range(8))
    team.close()


def test_sources_that_cannot_be_translated_are_refused_at_once() -> None:
    team = EngineTeam(engine, 2)
    with pytest.raises(InputError, match="no tokens"):
        team.admit(Request(1, [], SearchConfig()))
    with pytest.raises(InputError, match=f"the limit is {LONGEST}"):
        team.admit(Request(1, [5] * (LONGEST + 1), SearchConfig()))
    assert team.idle
    team.close()


def test_an_error_in_an_engine_reaches_the_caller_and_the_team_goes_on() -> None:
    class Fragile(Engine):
        def step(self, timeout_s: float | None = None) -> list[Finished]:
            if 13 in self._waiting:
                raise RuntimeError("thirteen")
            return super().step()

    team = EngineTeam(lambda: Fragile(TableNetwork(vocab_size=30, end_bias=1.0), max_slots=4), 2)
    team.admit(Request(13, [5, 6], SearchConfig()))
    with pytest.raises(RuntimeError, match="thirteen"):
        team.step(timeout_s=20.0)
    team.cancel(13)
    for request in requests(8):
        team.admit(request)
    assert finish(team).keys() == set(range(8))
    team.close()
