"""Engines in processes of their own: each has an interpreter, and a core, for itself.

`EngineProcesses` starts one process that loads the checkpoint and checks whether it is exact here.
Every engine is forked from it, so that all share the memory of the weights and the result of the
check, and one that was lost is replaced without reading the folder again. An engine is spoken to
over a socket: requests and cancellations go in, results come out; texts never do. It ends when its
socket closes.
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
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from model.system.process import ending, give_back_memory, python_command, settle, tune_process

if TYPE_CHECKING:  # a process that is being started is told to import torch as late as possible
    from model.decoding.engine import Engine
    from model.decoding.request import Finished

_LEAVE_S = 2.0  # for engines to end; a step takes some milliseconds


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
    exact: bool  # the same numbers in any batch, see PackedNetwork.exact


@dataclass(frozen=True)
class Progress:
    """What an engine has finished, and its steps since it last said so."""

    finished: "list[Finished]"
    num_steps: int
    step_s: float


@dataclass(frozen=True)
class Failure:
    """What went wrong in an engine, or before there was one."""

    reason: str


@dataclass(frozen=True)
class Cancellation:
    """Of a request, by its number."""

    request_id: int


class EngineProcesses:
    """The process that is being started, and the engines that are asked of it."""

    def __init__(self) -> None:
        """It imports what it needs at once; `set_up` tells it what to load."""
        self.parent, theirs = Pipe()  # says Failure when there can be no engines, else nothing
        command, environment = python_command("model.decoding.engine_process")
        self._process = subprocess.Popen(
            [*command, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # nothing that a library prints may get among translations
            pass_fds=[theirs.fileno()],
            process_group=0,  # Ctrl-C reaches us alone, and we end them
            env=environment,
        )
        theirs.close()
        self._engines: list[Connection] = []
        self._finalizer = weakref.finalize(self, _end, self._process, self.parent, self._engines)

    def set_up(self, setup: EngineSetup) -> None:
        """Tells what to load."""
        # One that has ended is noticed where its word is waited for.
        with contextlib.suppress(OSError):
            self.parent.send(setup)

    def engine(self) -> Connection:
        """One more engine, which says Ready over its connection when it is. OSError: too late."""
        ours, theirs = Pipe()
        with theirs:
            try:
                send_handle(self.parent, theirs.fileno(), self._process.pid)
            except OSError:
                ours.close()
                raise
        self._engines.append(ours)
        return ours

    @property
    def ending(self) -> str:
        """How the process that loads has ended, when its connection is closed."""
        try:
            status = self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            return "closed its connection"
        return ending(status)

    def close(self) -> None:
        """Ends it and its engines; what they have under way is lost."""
        self._finalizer()


def _end(process: "subprocess.Popen[bytes]", parent: Connection, engines: list[Connection]) -> None:
    for connection in (parent, *engines):
        connection.close()
    if engines:  # it buries them before it goes
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_LEAVE_S)
    process.kill()
    process.wait()


def main() -> None:
    """Inside the new process: loads, then forks an engine for every socket that it is sent."""
    # A service that is asked to end finishes what it accepted, also where its whole group is asked,
    # and one that is asked for newer models looks for them itself.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system buries engines at once
    tune_process()
    # Who deals out the work goes first, or engines wait for it: 64 clients at once got 350 answers
    # a second from two cores instead of 320.
    os.nice(5)
    caller = Connection(int(sys.argv[1]))
    import torch

    from model.decoding.engine import Engine  # noqa: F401 - imported while the other side loads

    torch.set_num_threads(1)
    try:
        make_engine, exact = _load(caller.recv())
    except EOFError:
        return
    except Exception as error:  # noqa: BLE001 - whatever it is, the other side must hear of it
        with contextlib.suppress(OSError):
            caller.send(Failure(_described(error)))
        return
    give_back_memory()
    settle()
    with contextlib.suppress(EOFError, OSError):
        while True:
            descriptor = recv_handle(caller)
            try:
                if os.fork() == 0:
                    caller.close()
                    _be_engine(Connection(descriptor), make_engine, exact)
            finally:  # also when there is no process to be had: the other side waits for its end
                os.close(descriptor)
    with contextlib.suppress(ChildProcessError):
        os.wait()  # comes back when the last engine has ended


def _be_engine(
    connection: Connection, make_engine: "Callable[[], Engine]", exact: bool
) -> NoReturn:
    """The life of a forked process."""
    try:
        work(connection, make_engine, exact=exact)
    except BaseException:  # noqa: BLE001 - told, for nobody else will
        traceback.print_exc()
    finally:
        os._exit(0)


def _load(setup: EngineSetup) -> "tuple[Callable[[], Engine], bool]":
    """What makes an engine, and whether it is exact."""
    from model.checkpoint import load_checkpoint
    from model.decoding.engine import Engine
    from model.errors import CheckpointError
    from model.inference.packed_network import PackedNetwork

    checkpoint = load_checkpoint(setup.checkpoint, precision=setup.precision)
    if checkpoint.version != setup.version:
        raise CheckpointError(f"{setup.checkpoint} was exchanged while it was loaded")
    network = PackedNetwork(checkpoint.network, checkpoint.precision)
    # Not a closure: it would keep the network that is not packed.
    make_engine = partial(
        Engine,
        network,
        shortlist=checkpoint.shortlist if setup.shortlist else None,
        max_slots=setup.max_slots,
        max_source_tokens=checkpoint.config.max_source_tokens,
    )
    return make_engine, network.exact


def work(connection: Connection, make_engine: "Callable[[], Engine]", *, exact: bool) -> None:
    """Runs an engine for the other side of `connection`, until that closes."""
    engine = make_engine()
    # Results are sent by a thread: were both sides to wait for the other to read, none would.
    outbox: queue.SimpleQueue[Ready | Failure | Progress | None] = queue.SimpleQueue()
    sender = threading.Thread(target=_send_all, args=(connection, outbox), daemon=True)
    sender.start()
    outbox.put(Ready(os.getpid(), exact))
    inbox = select.poll()
    inbox.register(connection, select.POLLIN)
    told_steps, told_s = 0, 0.0
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
            told_steps, told_s = 0, 0.0
            outbox.put(Failure(_described(error)))
            continue
        if finished:
            steps, step_s = engine.num_steps - told_steps, engine.step_s - told_s
            outbox.put(Progress(finished, steps, step_s))
            told_steps, told_s = engine.num_steps, engine.step_s
    outbox.put(None)
    sender.join()


def _send_all(
    connection: Connection, outbox: "queue.SimpleQueue[Ready | Failure | Progress | None]"
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
    from model.decoding.engine_process import main as main_of_the_module

    main_of_the_module()
