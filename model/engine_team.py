"""Several engines, one a core, behind the face of one.

Steps of a small network are too short to be shared by threads: two threads that wait for each other
after every operation do little more than one, two engines twice as much. The engines share the
network's weights; each has slots of its own and its own thread, in which torch uses one thread.
"""

import atexit
import queue
import threading
from collections import deque
from collections.abc import Callable

import torch

from model.engine import Engine
from model.request import Finished, Request, check_length

_FEED_AHEAD = 64  # requests that wait inside one engine; enough to encode many at once


class EngineTeam:
    """Deals requests among engines. One thread calls it; `wake` may be called from any."""

    def __init__(self, make_engine: Callable[[], Engine], size: int) -> None:
        self._line: deque[Request] = deque()  # not yet taken by an engine
        self._under_way: set[int] = set()  # admitted, neither finished nor cancelled
        self._changed = threading.Condition()  # guards the line and what members are told
        self._closing = False
        self._results: queue.SimpleQueue[list[Finished] | Exception | None] = queue.SimpleQueue()
        self._members = [_Member(self, make_engine) for _ in range(size)]
        self.max_source_tokens = self._members[0].engine.max_source_tokens
        for member in self._members:
            member.thread.start()
        # A thread that is inside torch when the interpreter ends would abort the process.
        atexit.register(self.close)

    @property
    def num_waiting(self) -> int:
        """Requests that no engine has taken yet."""
        return len(self._line)

    @property
    def idle(self) -> bool:
        """Nothing under way."""
        return not self._under_way

    def admit(self, request: Request) -> None:
        """Queues a request; InputError when its source is empty or above the limit."""
        check_length(request, self.max_source_tokens)
        self._under_way.add(request.request_id)
        with self._changed:
            self._line.append(request)
            self._changed.notify_all()

    def cancel(self, request_id: int) -> None:
        """Frees what the request holds; one that is unknown or finished is no error."""
        if request_id not in self._under_way:
            return
        self._under_way.discard(request_id)
        with self._changed:
            waiting = len(self._line)
            self._line = deque(each for each in self._line if each.request_id != request_id)
            if len(self._line) == waiting:
                for member in self._members:
                    member.cancelled.append(request_id)
                self._changed.notify_all()

    def step(self, timeout_s: float | None = None) -> list[Finished]:
        """Waits until something has finished, somebody woke the team, or the time is over.

        Raises what an engine raised; the requests that it held are lost.
        """
        if self.idle:
            return []
        finished: list[Finished] = []
        try:
            found = self._results.get(timeout=timeout_s)
            while True:
                if isinstance(found, Exception):
                    raise found
                finished += [each for each in found or [] if each.request_id in self._under_way]
                found = self._results.get_nowait()
        except queue.Empty:
            pass
        self._under_way.difference_update(each.request_id for each in finished)
        return finished

    def wake(self) -> None:
        """Lets `step` return at once."""
        self._results.put(None)

    def close(self) -> None:
        """Ends the threads; what is under way is lost."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for member in self._members:
            member.thread.join()
        atexit.unregister(self.close)

    def _next(self, member: "_Member") -> list[Request] | None:
        """What a member is to take now; sleeps while it has nothing to do; None to end."""
        with self._changed:
            while True:
                if self._closing:
                    return None
                for request_id in member.cancelled:
                    member.engine.cancel(request_id)
                member.cancelled.clear()
                taken = [self._line.popleft() for _ in range(self._share(member))]
                member.load = len(taken) + member.engine.num_busy + member.engine.num_waiting
                if taken or not member.engine.idle:
                    return taken
                self._changed.wait()

    def _share(self, member: "_Member") -> int:
        """How many of the line a member takes, so that all have as much to do."""
        room = _FEED_AHEAD - member.engine.num_waiting
        total = len(self._line) + sum(each.load for each in self._members)
        fair = -(-total // len(self._members)) - member.load
        return max(0, min(room, fair, len(self._line)))


class _Member:
    """One engine and its thread."""

    def __init__(self, team: EngineTeam, make_engine: Callable[[], Engine]) -> None:
        self.engine = make_engine()
        self.load = 0  # requests it holds
        self.cancelled: list[int] = []  # to be told to the engine before its next step
        self._team = team
        self._make_engine = make_engine
        # A daemon: a process that ends does not wait for translations nobody will read.
        self.thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def _run(self) -> None:
        torch.set_num_threads(1)  # counts for this thread
        while (taken := self._team._next(self)) is not None:
            try:
                for request in taken:
                    self.engine.admit(request)
                finished = self.engine.step()
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller must hear of it
                self.engine = self._make_engine()
                self._team._results.put(error)
                continue
            if finished:
                self._team._results.put(finished)
