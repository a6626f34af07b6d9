"""A pool of engine processes: hands out requests, collects results, replaces lost engines.

Steps of a small network are too short to be shared by threads: two threads that wait for each other
after every operation do little more work than one. Two engines in one interpreter wait for each
other too, because a third of a step is spent in Python. Engines therefore have processes.

When an engine process exits, another takes its place and gets the unfinished requests: a
translation does not depend on the engine that makes it. A request whose engine exits twice is the
likely cause and fails.
"""

import contextlib
import heapq
import logging
import selectors
import socket
from collections.abc import Collection
from multiprocessing.connection import Connection

from model.decoding.engine_process import (
    Cancellation,
    EngineProcesses,
    EngineProgress,
    EngineReady,
    FailureReport,
)
from model.decoding.request import EngineUsage, Finished, SegmentRequest, check_length
from model.errors import EngineFailure, NoEngine

logger = logging.getLogger("dragoman.engines")

# Requests that wait inside one engine: enough to encode many at once, few enough that no engine
# has work left at the end of a file while another has none.
_QUEUED_PER_ENGINE = 32


class EnginePool:
    """Distributes requests over engine processes.

    One thread owns a pool; `wake` and `usage` may be called from any thread.
    """

    def __init__(
        self, processes: EngineProcesses, *, max_slots: int, max_source_tokens: int
    ) -> None:
        """Starts the engines; `processes` must have been sent a checkpoint to load.

        max_slots: sentences that each engine translates at the same time.
        """
        self.max_source_tokens = max_source_tokens
        self._max_slots = max_slots
        self.exact = False  # as reported by the engines when they are ready
        self._capacity = max_slots + _QUEUED_PER_ENGINE
        self._processes = processes
        self._started = False  # False after a failure: `_ensure_started` starts other processes
        self._any_ready = False  # whether one of these processes has become a ready engine
        self._starting: set[Connection] = set()
        self._engines: dict[Connection, _EngineHandle] = {}  # ready ones
        self._waiting: dict[int, SegmentRequest] = {}  # by request id
        self._queue: list[tuple[bool, int]] = []  # heap: bulk, request id; cancelled ones too
        self._num_bulk_waiting = 0
        self._assigned: dict[int, _EngineHandle] = {}  # by request id
        self._retried: set[int] = set()  # ids of requests whose engine has exited once
        self._failure: EngineFailure | None = None  # raised by the next step
        self._num_steps = 0  # as reported by the engines
        self._step_s = 0.0
        self._selector = selectors.DefaultSelector()
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_sent = False
        self._wake_receiver.setblocking(False)
        self._wake_sender.setblocking(False)
        self._selector.register(self._wake_receiver, selectors.EVENT_READ)
        self._start_engines()

    @property
    def num_waiting(self) -> int:
        """Number of requests that no engine has yet, without bulk requests, which delay none."""
        return len(self._waiting) - self._num_bulk_waiting

    @property
    def usage(self) -> EngineUsage:
        """How busy the ready engines are, according to their last messages; for any thread."""
        engines = list(self._engines.values())
        return EngineUsage(
            num_slots=self._max_slots * len(engines),
            num_busy=sum(min(engine.num_unfinished, self._max_slots) for engine in engines),
            num_steps=self._num_steps,
            step_s=self._step_s,
        )

    @property
    def idle(self) -> bool:
        """True when every request is finished or cancelled."""
        return not (self._waiting or self._assigned)

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Process ids of the ready engines."""
        return tuple(engine.process_id for engine in self._engines.values())

    def submit(self, request: SegmentRequest) -> None:
        """Queues a request; InputError when its source is empty or above the limit."""
        check_length(request, self.max_source_tokens)
        self._ensure_started()
        self._enqueue(request)
        self._assign()

    def cancel(self, request_id: int) -> None:
        """Drops a request; unknown and finished ones are ignored."""
        self._retried.discard(request_id)
        if request_id in self._waiting:
            self._remove_waiting(request_id)  # its entry in the heap is skipped later
        elif (engine := self._assigned.pop(request_id, None)) is not None:
            engine.cancel(request_id)

    def step(self, timeout_s: float | None = None) -> list[Finished]:
        """Waits for finished requests and returns them; assigns waiting ones.

        Returns early with nothing after `wake` or after `timeout_s`. EngineFailure when an engine
        failed; its requests are lost and must be cancelled. NoEngine when no engine can start.
        """
        if self.idle:
            self._failure = None  # about requests that were cancelled since
            return []
        self._raise_failure()
        self._ensure_started()
        finished = [each for each in self._receive(timeout_s) if each.request_id in self._assigned]
        for each in finished:
            del self._assigned[each.request_id]
            self._retried.discard(each.request_id)
        if not finished:  # otherwise the next step raises it
            self._raise_failure()
        self._assign()
        return finished

    def wake(self) -> None:
        """Makes a waiting `step` return at once; may be called from any thread."""
        if self._wake_sent:
            return
        self._wake_sent = True
        with contextlib.suppress(OSError):  # the pool is closed
            self._wake_sender.send(b"\0")

    def start(self) -> None:
        """Waits until all engines are ready; NoEngine when none can start. Only while idle."""
        assert self.idle
        self._ensure_started()
        while self._starting:
            self._receive(None)
        self._raise_failure()

    def close(self) -> None:
        """Ends the processes; unfinished requests are lost."""
        self._stop_engines()
        self._selector.close()
        self._wake_receiver.close()
        self._wake_sender.close()

    def _ensure_started(self) -> None:
        if not self._started:
            self._processes = self._processes.restarted()
            self._start_engines()

    def _start_engines(self) -> None:
        self._started = True
        self._any_ready = False
        self._selector.register(self._processes.loader, selectors.EVENT_READ)
        with contextlib.suppress(OSError):  # the loader has exited: `_receive` notices
            for _ in range(self._processes.num_engines):
                self._start_engine()

    def _start_engine(self) -> None:
        connection = self._processes.fork_engine()
        self._starting.add(connection)
        self._selector.register(connection, selectors.EVENT_READ)

    def _stop_engines(self) -> None:
        if not self._started:
            return
        for connection in (self._processes.loader, *self._starting, *self._engines):
            with contextlib.suppress(KeyError):  # a loader that has exited
                self._selector.unregister(connection)
        self._processes.close()
        self._starting.clear()
        self._engines.clear()
        self._started = False

    def _enqueue(self, request: SegmentRequest) -> None:
        self._waiting[request.request_id] = request
        self._num_bulk_waiting += request.bulk
        heapq.heappush(self._queue, (request.bulk, request.request_id))

    def _remove_waiting(self, request_id: int) -> SegmentRequest:
        request = self._waiting.pop(request_id)
        self._num_bulk_waiting -= request.bulk
        return request

    def _assign(self) -> None:
        """Gives waiting requests to the engines with least to do, as long as one has room.

        Bulk requests come after all others, and one of several engines takes none: beside dozens
        of them a single sentence would take many times as long as alone.
        """
        engines = list(self._engines.values())
        while self._queue:
            bulk, request_id = self._queue[0]
            if request_id in self._waiting:
                allowed = engines[:-1] or engines if bulk else engines
                engine = min(allowed, key=lambda each: each.num_unfinished, default=None)
                if engine is None or engine.num_unfinished >= self._capacity:
                    break
                self._assigned[request_id] = engine
                engine.submit(self._remove_waiting(request_id))
            heapq.heappop(self._queue)

    def _receive(self, timeout_s: float | None) -> list[Finished]:
        """Waits for messages of processes, or for `wake`; returns the finished requests."""
        finished: list[Finished] = []
        for key, _ in self._selector.select(timeout_s):
            if key.fileobj is self._wake_receiver:
                self._wake_receiver.recv(4096)
                self._wake_sent = False  # only now: a later `wake` must end the next wait
            else:
                assert isinstance(key.fileobj, Connection)
                finished += self._handle_message(key.fileobj)
        return finished

    def _handle_message(self, connection: Connection) -> list[Finished]:
        """Receives one message and acts on it; returns the requests that it says are finished."""
        if connection.closed:  # by the handling of another message of the same `select`
            return []
        try:
            message = connection.recv()
        except (EOFError, OSError):
            self._handle_exit(connection)
            return []
        engine = self._engines.get(connection)
        if isinstance(message, EngineReady):
            self._any_ready = True
            self.exact = message.exact
            self._starting.remove(connection)
            self._engines[connection] = _EngineHandle(connection, message.process_id)
        elif isinstance(message, FailureReport):
            if engine is None:
                self._give_up(message.reason)
            else:
                engine.unfinished.clear()
                self._failure = EngineFailure(message.reason)
        elif engine is not None:
            progress: EngineProgress = message
            self._num_steps += progress.num_steps
            self._step_s += progress.step_s
            for each in progress.finished:
                engine.unfinished.pop(each.request_id, None)
            return progress.finished
        return []

    def _handle_exit(self, connection: Connection) -> None:
        """Reacts to the exit of the loader or of an engine."""
        self._selector.unregister(connection)
        if connection is self._processes.loader:
            if self._starting and not self._engines:
                self._handle_start_failure(
                    f"the process that loads the checkpoint {self._processes.exit_reason}"
                )
            return
        connection.close()
        if connection in self._starting:
            self._starting.remove(connection)
            self._handle_start_failure("an engine process exited before it was ready")
            return
        logger.warning("an engine process exited; starting another")
        self._requeue(self._engines.pop(connection).unfinished.values())
        try:
            self._start_engine()
        except OSError:
            if not (self._engines or self._starting):
                self._stop_engines()  # `_ensure_started` starts other processes when needed

    def _requeue(self, requests: Collection[SegmentRequest]) -> None:
        """Queues the requests of an engine that exited again, each at most once."""
        num_lost = 0
        for request in requests:
            if request.request_id in self._retried:
                num_lost += 1
                continue
            self._retried.add(request.request_id)
            del self._assigned[request.request_id]
            self._enqueue(request)
        if num_lost:
            self._failure = EngineFailure(
                f"two engine processes exited, one after the other, while translating the same "
                f"{num_lost} segments; the log of the system may say why"
            )

    def _handle_start_failure(self, reason: str) -> None:
        """Decides how the pool goes on when an engine does not start."""
        if not self._any_ready:
            self._give_up(reason)  # other engines would fail as well
        elif self._engines or self._starting:
            logger.warning("continuing with fewer engine processes: %s", reason)
        else:
            logger.warning("restarting all engine processes: %s", reason)
            self._stop_engines()

    def _give_up(self, reason: str) -> None:
        """Ends processes of which no engine will come; the next step raises NoEngine."""
        self._stop_engines()
        self._failure = NoEngine(reason)

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure


class _EngineHandle:
    """The pool's end of the connection to one engine."""

    def __init__(self, connection: Connection, process_id: int) -> None:
        self.process_id = process_id
        self.unfinished: dict[int, SegmentRequest] = {}  # by request id
        self._connection = connection

    @property
    def num_unfinished(self) -> int:
        return len(self.unfinished)

    def submit(self, request: SegmentRequest) -> None:
        self.unfinished[request.request_id] = request
        self._send(request)

    def cancel(self, request_id: int) -> None:
        self.unfinished.pop(request_id, None)
        self._send(Cancellation(request_id))

    def _send(self, message: SegmentRequest | Cancellation) -> None:
        # An engine that has exited is noticed where its messages are received.
        with contextlib.suppress(OSError):
            self._connection.send(message)
