"""Several engines, one a core, behind the face of one.

Steps of a small network are too short to be shared by threads: two threads that wait for each other
after every operation do little more than one. Two engines in one interpreter wait for each other
too, in Python, where a third of a step is spent. So the calling thread has one engine, or none, and
the others have processes of their own.

A process that ends is replaced, and what it held is given to others: a translation does not depend
on who makes it. A request that was held by two that ended is the likely reason and given up.
"""

import contextlib
import logging
import selectors
import socket
from collections.abc import Callable, Collection
from multiprocessing.connection import Connection
from typing import Protocol, runtime_checkable

from model.decoding.engine import Engine
from model.decoding.engine_process import Cancellation, EngineProcesses, Failure, Progress, Ready
from model.decoding.request import Finished, Request, Usage, check_length
from model.errors import EngineFailure, NoEngine

logger = logging.getLogger("dragoman.engines")

# Requests that wait inside one engine: enough to encode many at once, few enough that no engine
# has work left at the end of a file while others have none.
_WAITING_INSIDE = 32


class EngineTeam:
    """Deals requests among engines. One thread calls it; `wake` may be called from any."""

    def __init__(
        self,
        own: Engine | None,
        start: Callable[[], EngineProcesses],
        count: int,
        *,
        max_slots: int,
        max_source_tokens: int,
    ) -> None:
        """`own` computes in the calling thread, in `step`; `max_slots` is what each engine has.

        `start` brings what `count` engines are asked of, when the first request finds no room.
        """
        self.max_source_tokens = max_source_tokens
        self._own = own
        self._start = start
        self._count = count
        self._processes: EngineProcesses | None = None
        self._have_come = False  # engines, from these processes
        self._gave_up = False  # on processes, because they cannot be had
        self._max_slots = max_slots
        self.exact = False  # as far as is known; the processes say so when they are ready
        self._capacity = max_slots + _WAITING_INSIDE
        self._coming: set[Connection] = set()  # engines that are not ready
        self._members: dict[Connection, _Member] = {}  # those that are
        self._line: dict[int, Request] = {}  # that nobody has taken, in order
        self._bulk_line: dict[int, Request] = {}  # the same, of great texts: after the others
        self._holders: dict[int, _Taker | None] = {}  # by request; None: in line
        self._tried: set[int] = set()  # requests whose engine has ended once
        self._failure: EngineFailure | None = None  # to be told at the next step
        self._member_steps = 0  # what the processes said of their work
        self._member_step_s = 0.0
        self._selector = selectors.DefaultSelector()
        self._bell, self._ringer = socket.socketpair()
        self._ringing = False
        self._bell.setblocking(False)
        self._ringer.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ)

    @property
    def num_waiting(self) -> int:
        """Requests that no engine has taken yet; those in bulk, which keep nobody waiting, not."""
        return len(self._line)

    @property
    def usage(self) -> Usage:
        """How busy those engines are that are ready, as far as they have told; from any thread."""
        members = list(self._members.values())
        busy = sum(min(member.num_under_way, self._max_slots) for member in members)
        own = Usage(0, 0, 0, 0.0) if self._own is None else self._own.usage
        return Usage(
            num_slots=own.num_slots + self._max_slots * len(members),
            num_busy=own.num_busy + busy,
            num_steps=own.num_steps + self._member_steps,
            step_s=own.step_s + self._member_step_s,
        )

    @property
    def idle(self) -> bool:
        """Nothing under way."""
        return not self._holders

    def admit(self, request: Request) -> None:
        """Queues a request; InputError when its source is empty or above the limit."""
        check_length(request, self.max_source_tokens)
        self._holders[request.request_id] = None
        self._line_of(request)[request.request_id] = request
        self._deal()

    def cancel(self, request_id: int) -> None:
        """Frees what the request holds; one that is unknown or finished is no error."""
        if request_id not in self._holders:
            return
        holder = self._holders.pop(request_id)
        self._tried.discard(request_id)
        if holder is None:
            self._line.pop(request_id, None)
            self._bulk_line.pop(request_id, None)
        else:
            holder.cancel(request_id)

    def step(self, timeout_s: float | None = None) -> list[Finished]:
        """Advances the calling thread's engine by one piece and collects what others have done.

        Without work of its own it waits until something has finished, somebody woke the team, or
        the time is over. EngineFailure when an engine failed on what it held, which is lost;
        NoEngine when there is none and none can be had.
        """
        if self.idle:
            self._failure = None  # of requests that nobody waits for any more
            return []
        self._tell_failure()
        finished: list[Finished] = []
        if self._own is not None and not self._own.idle:
            finished += self._own.step()
            timeout_s = 0.0
        finished += self._listen(timeout_s)
        finished = [each for each in finished if each.request_id in self._holders]
        for each in finished:
            del self._holders[each.request_id]
            self._tried.discard(each.request_id)
        if not finished:  # else it is told at the next step
            self._tell_failure()
        self._deal()
        return finished

    def wake(self) -> None:
        """Lets `step` return at once."""
        if self._ringing:  # nobody has come to the door yet
            return
        self._ringing = True
        with contextlib.suppress(OSError):  # the team is closed
            self._ringer.send(b"\0")

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Of the engines that are ready in processes."""
        return tuple(member.process_id for member in self._members.values())

    def start(self) -> None:
        """Waits until all engines are ready; NoEngine when there is none. Only while idle."""
        assert self.idle
        self.call_processes()
        while self._coming:
            self._listen(None)
        self._tell_failure()

    def close(self) -> None:
        """Ends the processes; what is under way is lost."""
        self._dismiss_processes()
        self._selector.close()
        self._bell.close()
        self._ringer.close()
        self._start = _closed  # or it would keep whoever made it, and that one keeps the weights

    def call_processes(self) -> None:
        """Has the other engines come, unless they have been called already."""
        if self._processes is not None or self._gave_up:
            return
        self._processes = self._start()
        self._have_come = False
        self._selector.register(self._processes.parent, selectors.EVENT_READ)
        with contextlib.suppress(OSError):  # it has ended: that is noticed in `_listen`
            for _ in range(self._count):
                self._call_engine(self._processes)

    def _call_engine(self, processes: EngineProcesses) -> None:
        connection = processes.engine()
        self._coming.add(connection)
        self._selector.register(connection, selectors.EVENT_READ)

    def _dismiss_processes(self) -> None:
        if self._processes is None:
            return
        for connection in (self._processes.parent, *self._coming, *self._members):
            with contextlib.suppress(KeyError):  # a parent that has ended
                self._selector.unregister(connection)
        self._processes.close()
        self._processes = None
        self._coming.clear()
        self._members.clear()

    def _line_of(self, request: Request) -> dict[int, Request]:
        return self._bulk_line if request.bulk else self._line

    def _deal(self) -> None:
        """Hands what is in line to whoever has least to do, while anybody has room.

        One of several engines is kept free of bulk: beside dozens of others' a sentence would take
        many times as long as alone.
        """
        takers: list[_Taker] = [*self._members.values()]
        if self._own is not None:
            takers.append(self._own)
        for line, among in ((self._line, takers), (self._bulk_line, takers[:-1] or takers)):
            while line:
                taker = min(among, key=lambda each: each.num_under_way, default=None)
                if taker is None or taker.num_under_way >= self._capacity:
                    self.call_processes()
                    break
                request = line.pop(next(iter(line)))
                self._holders[request.request_id] = taker
                taker.admit(request)

    def _listen(self, timeout_s: float | None) -> list[Finished]:
        """Waits for the bell or for processes; the results that they have."""
        finished: list[Finished] = []
        for key, _ in self._selector.select(timeout_s):
            if key.fileobj is self._bell:
                self._bell.recv(4096)
                self._ringing = False  # behind it: who rings now is heard next time at the latest
            else:
                assert isinstance(key.fileobj, Connection)
                finished += self._hear(key.fileobj)
        return finished

    def _hear(self, connection: Connection) -> list[Finished]:
        """What a process has to say, if that is results."""
        if connection.closed:  # a moment ago, by what another one said
            return []
        try:
            message = connection.recv()
        except (EOFError, OSError):
            self._miss(connection)
            return []
        member = self._members.get(connection)
        if isinstance(message, Ready):
            self._have_come = True
            self.exact = message.exact
            self._coming.remove(connection)
            self._members[connection] = _Member(connection, message.process_id)
        elif isinstance(message, Failure):
            if member is None:
                self._do_without(message.reason)
            else:
                member.under_way.clear()
                self._failure = EngineFailure(message.reason)
        elif member is not None:
            progress: Progress = message
            self._member_steps += progress.num_steps
            self._member_step_s += progress.step_s
            for each in progress.finished:
                member.under_way.pop(each.request_id, None)
            return progress.finished
        return []

    def _miss(self, connection: Connection) -> None:
        """Somebody has ended."""
        assert self._processes is not None
        self._selector.unregister(connection)
        if connection is self._processes.parent:
            if self._coming and not self._members:
                self._lack(f"the process that makes engines {self._processes.ending}")
            return
        connection.close()
        if connection in self._coming:
            self._coming.remove(connection)
            self._lack("an engine has ended before it was ready")
            return
        logger.warning("an engine's process has ended; another takes its place")
        self._take_back(self._members.pop(connection).under_way.values())
        try:
            self._call_engine(self._processes)
        except OSError:
            if not (self._members or self._coming):
                self._dismiss_processes()  # all are gone: they are called anew when needed

    def _take_back(self, requests: Collection[Request]) -> None:
        """Puts at the head of the line what an engine held that has ended."""
        lost = [request for request in requests if request.request_id in self._tried]
        if lost:
            self._failure = EngineFailure(
                f"two engines ended in the middle of {len(lost)} segments"
            )
        again = [request for request in requests if request.request_id not in self._tried]
        for request in again:
            self._tried.add(request.request_id)
            self._holders[request.request_id] = None
        for bulk, line in ((False, self._line), (True, self._bulk_line)):
            behind = dict(line)
            line.clear()
            line.update({each.request_id: each for each in again if each.bulk is bulk})
            line.update(behind)

    def _lack(self, reason: str) -> None:
        """What becomes of the team when an engine that was called will not come."""
        if not self._have_come:  # nor would others
            self._do_without(reason)
        elif self._members or self._coming:
            logger.warning("going on with fewer engines: %s", reason)
        else:
            logger.warning("engines are called anew: %s", reason)
            self._dismiss_processes()

    def _do_without(self, reason: str) -> None:
        """Goes on with the caller's own engine, if there is one."""
        held = [member.under_way.values() for member in self._members.values()]
        self._dismiss_processes()
        for requests in held:
            self._take_back(requests)
        if self._own is None:
            self._failure = NoEngine(reason)
        else:
            logger.warning("going on with one engine: %s", reason)
            self._gave_up = True

    def _tell_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure


def _closed() -> EngineProcesses:
    raise NoEngine("the engines are closed")


@runtime_checkable
class _Taker(Protocol):
    """What deals with requests: an Engine, or a process that has one."""

    @property
    def num_under_way(self) -> int: ...

    def admit(self, request: Request) -> None: ...

    def cancel(self, request_id: int) -> None: ...


class _Member:
    """One engine in a process."""

    def __init__(self, connection: Connection, process_id: int) -> None:
        self.process_id = process_id
        self.under_way: dict[int, Request] = {}  # what it was given and has not finished
        self._connection = connection

    @property
    def num_under_way(self) -> int:
        return len(self.under_way)

    def admit(self, request: Request) -> None:
        self.under_way[request.request_id] = request
        self._tell(request)

    def cancel(self, request_id: int) -> None:
        self.under_way.pop(request_id, None)
        self._tell(Cancellation(request_id))

    def _tell(self, message: Request | Cancellation) -> None:
        # One that has ended is noticed where its results are waited for.
        with contextlib.suppress(OSError):
            self._connection.send(message)
