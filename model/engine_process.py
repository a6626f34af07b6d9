"""Engines in processes of their own: each has an interpreter, and a core, for itself.

`EngineProcesses` starts them. One process loads the checkpoint and then forks the others, so that
all of them share the memory of the weights. Each is spoken to over a socket: requests and
cancellations go in, results come out. Texts never do. An engine whose socket closes ends.
"""

import contextlib
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import TYPE_CHECKING

from model.process import python_command, settle, tune_process

if TYPE_CHECKING:  # a process that is being started is told to import torch as late as possible
    from model.engine import Engine
    from model.request import Finished


@dataclass(frozen=True)
class EngineSetup:
    """What engines are made of."""

    checkpoint: Path
    version: str  # that the checkpoint must have
    precision: str
    shortlist: bool
    max_slots: int


@dataclass(frozen=True)
class Ready:
    """An engine's first word."""

    process_id: int


@dataclass(frozen=True)
class Failure:
    """What went wrong in an engine, or before there was one."""

    reason: str


@dataclass(frozen=True)
class Cancellation:
    """Of a request, by its number."""

    request_id: int


class EngineProcesses:
    """`count` engines that are being started; they import what they need while others work."""

    def __init__(self, count: int) -> None:
        ends = [Pipe() for _ in range(count)]
        self.connections: list[Connection] = [ours for ours, _ in ends]
        descriptors = [theirs.fileno() for _, theirs in ends]
        command, environment = python_command("model.engine_process")
        self._process = subprocess.Popen(
            [*command, *map(str, descriptors)],
            stdin=subprocess.DEVNULL,
            stdout=2,  # what a library prints must not get among translations
            pass_fds=descriptors,
            process_group=0,  # Ctrl-C reaches us alone, and we end them
            env=environment,
        )
        for _, theirs in ends:
            theirs.close()
        self.close = weakref.finalize(self, _end, self._process, self.connections)

    def set_up(self, setup: EngineSetup) -> None:
        """Tells them what to load; each says Ready, or Failure, when it has."""
        # One that has ended is noticed where its word is waited for.
        with contextlib.suppress(OSError):
            self.connections[0].send(setup)

    @property
    def ending(self) -> str:
        """How the first of them ended, as far as is known."""
        try:
            status = self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            return "closed its connection"
        if status < 0:
            return f"was ended by {signal.Signals(-status).name}"
        return f"ended with status {status}"


def _end(process: "subprocess.Popen[bytes]", connections: list[Connection]) -> None:
    for connection in connections:
        connection.close()  # by which those that were forked end
    process.kill()
    process.wait()


def main() -> None:
    """Inside the new process: sets up, forks the others, and becomes the last engine."""
    # A service that is asked to end finishes what it accepted, also where its whole group is asked.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that are forked
    tune_process()
    # Who deals out the work goes first, or engines wait for it: 64 clients at once got 350 answers
    # a second from two cores instead of 320.
    os.nice(5)
    connections = [Connection(int(descriptor)) for descriptor in sys.argv[1:]]
    import torch

    from model.engine import Engine  # noqa: F401 - imported while the other side loads

    torch.set_num_threads(1)
    try:
        setup = connections[0].recv()
    except EOFError:
        return
    try:
        make_engine = _load(setup)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other side must hear of it
        with contextlib.suppress(OSError):
            connections[0].send(Failure(_described(error)))
        return
    settle()
    mine = connections.pop()
    for connection in connections:
        if os.fork() == 0:
            mine = connection
            break
    for connection in connections:
        if connection is not mine:
            connection.close()
    work(mine, make_engine)


def _load(setup: EngineSetup) -> "Callable[[], Engine]":
    from model.checkpoint import load_checkpoint
    from model.engine import Engine
    from model.errors import CheckpointError
    from model.packed import PackedNetwork

    checkpoint = load_checkpoint(setup.checkpoint, precision=setup.precision)
    if checkpoint.version != setup.version:
        raise CheckpointError(f"{setup.checkpoint} was exchanged while it was being loaded")
    # Not a closure: it would keep the network that is not packed.
    return partial(
        Engine,
        PackedNetwork(checkpoint.network, checkpoint.precision),
        shortlist=checkpoint.shortlist if setup.shortlist else None,
        max_slots=setup.max_slots,
        max_source_tokens=checkpoint.config.max_source_tokens,
    )


def work(connection: Connection, make_engine: "Callable[[], Engine]") -> None:
    """Runs an engine for the other side of `connection`, until that closes."""
    engine = make_engine()
    # Results are sent by a thread: were both sides to wait for the other to read, none would.
    outbox: queue.SimpleQueue[Ready | Failure | list[Finished] | None] = queue.SimpleQueue()
    sender = threading.Thread(target=_send_all, args=(connection, outbox), daemon=True)
    sender.start()
    outbox.put(Ready(os.getpid()))
    inbox = select.poll()
    inbox.register(connection, select.POLLIN)
    while True:
        try:
            while engine.idle or inbox.poll(0):
                asked = connection.recv()
                if isinstance(asked, Cancellation):
                    engine.cancel(asked.request_id)
                else:
                    engine.admit(asked)
        except (EOFError, OSError):
            break
        try:
            finished = engine.step()
        except Exception as error:  # noqa: BLE001 - whatever it is, the other side must hear of it
            traceback.print_exc()  # holds no text: an engine knows numbers only
            engine = make_engine()
            outbox.put(Failure(_described(error)))
            continue
        if finished:
            outbox.put(finished)
    outbox.put(None)
    sender.join()


def _send_all(
    connection: Connection, outbox: "queue.SimpleQueue[Ready | Failure | list[Finished] | None]"
) -> None:
    try:
        while (message := outbox.get()) is not None:
            connection.send(message)
    except OSError:
        pass  # nobody is there any more; whoever reads will find out


def _described(error: Exception) -> str:
    return str(error) if type(error).__module__.startswith("model.") else repr(error)


if __name__ == "__main__":
    # Not this module's own: both sides must know the messages by the same name.
    from model.engine_process import main as main_of_the_module

    main_of_the_module()
