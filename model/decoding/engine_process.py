"""Engine processes: each engine has an interpreter and a core for itself.

`EngineProcesses` starts the loader, a process that loads the checkpoint and never translates. Every
engine is forked from the loader. All engines therefore share the memory of the weights, and a lost
engine is replaced without reading the checkpoint again. The caller talks to each engine over a
socket: requests and cancellations go in, results come out; texts never do. An engine exits when its
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

from model.decoding.request import Finished
from model.system.process import (
    exit_reason,
    freeze_gc,
    give_back_memory,
    python_command,
    tune_process,
)

if TYPE_CHECKING:  # imports torch, which callers and the loader import at the same time
    from model.decoding.engine import Engine

_EXIT_TIMEOUT_S = 2.0  # for all engines to exit; a step takes some milliseconds


@dataclass(frozen=True)
class EngineSetup:
    """Message to the loader: what to load, and how."""

    checkpoint: Path
    version: str  # the version that the checkpoint must have
    precision: str
    shortlist: bool
    max_slots: int


@dataclass(frozen=True)
class EngineReady:
    """First message of an engine."""

    process_id: int
    exact: bool  # the same numbers in any batch, see PackedNetwork.exact


@dataclass(frozen=True)
class EngineProgress:
    """Message of an engine: finished requests, and the steps since its last message."""

    finished: list[Finished]
    num_steps: int
    step_s: float


@dataclass(frozen=True)
class FailureReport:
    """Message of an engine, or of the loader process that forks the engines: what went wrong."""

    reason: str


@dataclass(frozen=True)
class Cancellation:
    """Message to an engine: stop working on this request."""

    request_id: int


class EngineProcesses:
    """The loader process and the engines that are forked from it."""

    def __init__(self, num_engines: int) -> None:
        """Starts the loader, which imports torch at once; `load` sends it the checkpoint."""
        self.num_engines = num_engines
        self._setup: EngineSetup | None = None
        self.loader, far_end = Pipe()  # the loader sends a FailureReport, or nothing
        command, environment = python_command("model.decoding.engine_process")
        self._process = subprocess.Popen(
            [*command, str(far_end.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # output of libraries must not mix with translations
            pass_fds=[far_end.fileno()],
            process_group=0,  # Ctrl-C reaches the caller alone, which then ends the engines
            env=environment,
        )
        far_end.close()
        self._engines: list[Connection] = []
        self._finalizer = weakref.finalize(self, _end, self._process, self.loader, self._engines)

    def load(self, setup: EngineSetup) -> None:
        """Makes the loader load a checkpoint; returns at once."""
        self._setup = setup
        # A loader that has exited is noticed where its messages are received.
        with contextlib.suppress(OSError):
            self.loader.send(setup)

    def restarted(self) -> "EngineProcesses":
        """Returns new processes for the same checkpoint."""
        assert self._setup is not None
        processes = EngineProcesses(self.num_engines)
        processes.load(self._setup)
        return processes

    def fork_engine(self) -> Connection:
        """Returns the connection of a new engine, which sends EngineReady when it has started.

        OSError when the loader has exited.
        """
        near_end, far_end = Pipe()
        with far_end:
            try:
                send_handle(self.loader, far_end.fileno(), self._process.pid)
            except OSError:
                near_end.close()
                raise
        self._engines.append(near_end)
        return near_end

    @property
    def exit_reason(self) -> str:
        """How the loader ended, once its connection is closed."""
        try:
            status = self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            return "closed its connection"
        return exit_reason(status)

    def close(self) -> None:
        """Ends the loader and its engines; their unfinished requests are lost."""
        self._finalizer()


def start_engine_processes(num_engines: int, device: str) -> EngineProcesses | None:
    """Starts `num_engines` engine processes on a CPU; returns None on a GPU.

    Several engines on one GPU would only wait for each other, so there one engine computes in the
    thread that calls the translator. ConfigError when this machine lacks the device.
    """
    if device != "cpu":
        from model.inference.precision import resolve_device

        if resolve_device(device).type != "cpu":
            return None
    return EngineProcesses(num_engines)


def _end(process: "subprocess.Popen[bytes]", loader: Connection, engines: list[Connection]) -> None:
    for connection in (loader, *engines):
        connection.close()
    if engines:  # the loader exits after its engines
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_EXIT_TIMEOUT_S)
    process.kill()
    process.wait()


def main() -> None:
    """Runs the loader process: loads, then forks an engine for every socket it receives."""
    # A service finishes its accepted requests after SIGTERM, also when the signal goes to the whole
    # process group; SIGHUP makes the service itself reload its models.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system removes exited engines at once
    tune_process()
    # The process that hands out requests needs the core first, or engines wait for it: 64 clients
    # at once got 350 answers a second from two cores instead of 320.
    os.nice(5)
    caller = Connection(int(sys.argv[1]))
    import torch

    from model.decoding.engine import Engine  # noqa: F401 - imported while the caller loads

    torch.set_num_threads(1)
    try:
        make_engine, exact = _load(caller.recv())
    except EOFError:
        return
    except Exception as error:  # noqa: BLE001 - the caller must learn of any error
        with contextlib.suppress(OSError):
            caller.send(FailureReport(_message_of(error)))
        return
    give_back_memory()
    freeze_gc()
    with contextlib.suppress(EOFError, OSError):
        while True:
            descriptor = recv_handle(caller)
            try:
                if os.fork() == 0:
                    caller.close()
                    _run_engine(Connection(descriptor), make_engine, exact)
            finally:  # also when fork fails: the caller then sees the socket close
                os.close(descriptor)
    with contextlib.suppress(ChildProcessError):
        os.wait()  # returns when the last engine has exited


def _run_engine(
    connection: Connection, make_engine: "Callable[[], Engine]", exact: bool
) -> NoReturn:
    """Runs a forked engine process until it exits."""
    try:
        work(connection, make_engine, exact=exact)
    except BaseException:  # noqa: BLE001 - the traceback would be lost with the process
        traceback.print_exc()
    finally:
        os._exit(0)


def _load(setup: EngineSetup) -> "tuple[Callable[[], Engine], bool]":
    """Loads the checkpoint; returns a function that makes an engine, and whether it is exact."""
    from model.checkpoint import load_checkpoint
    from model.decoding.engine import Engine
    from model.errors import CheckpointError
    from model.inference.packed_network import PackedNetwork

    checkpoint = load_checkpoint(setup.checkpoint, precision=setup.precision)
    if checkpoint.version != setup.version:
        raise CheckpointError(
            f"{setup.checkpoint} was replaced while it was loaded: version {setup.version} was "
            f"expected, {checkpoint.version} was found; load it again"
        )
    network = PackedNetwork(checkpoint.network, checkpoint.precision)
    # Not a closure, which would keep the network in memory that is not packed.
    make_engine = partial(
        Engine,
        network,
        shortlist=checkpoint.shortlist if setup.shortlist else None,
        max_slots=setup.max_slots,
        max_source_tokens=checkpoint.config.max_source_tokens,
    )
    return make_engine, network.exact


def work(connection: Connection, make_engine: "Callable[[], Engine]", *, exact: bool) -> None:
    """Runs an engine on the requests that arrive over `connection`, until that closes."""
    engine = make_engine()
    # A thread of its own sends results. Otherwise both ends could block, each with a full socket
    # that the other end does not read.
    outbox: queue.SimpleQueue[EngineReady | FailureReport | EngineProgress | None] = (
        queue.SimpleQueue()
    )
    sender = threading.Thread(target=_send_all, args=(connection, outbox), daemon=True)
    sender.start()
    outbox.put(EngineReady(os.getpid(), exact))
    inbox = select.poll()
    inbox.register(connection, select.POLLIN)
    reported_steps, reported_s = 0, 0.0
    while True:
        try:
            while engine.idle or inbox.poll(0):
                message = connection.recv()
                if isinstance(message, Cancellation):
                    engine.cancel(message.request_id)
                else:
                    engine.submit(message)
        except (EOFError, OSError):
            break
        try:
            finished = engine.step()
        except Exception as error:  # noqa: BLE001 - the caller must learn of any error
            traceback.print_exc()  # holds no text: an engine sees token ids only
            engine = make_engine()
            reported_steps, reported_s = 0, 0.0
            outbox.put(FailureReport(_message_of(error)))
            continue
        if finished:
            steps, step_s = engine.num_steps - reported_steps, engine.step_s - reported_s
            outbox.put(EngineProgress(finished, steps, step_s))
            reported_steps, reported_s = engine.num_steps, engine.step_s
    outbox.put(None)
    sender.join()


def _send_all(
    connection: Connection,
    outbox: "queue.SimpleQueue[EngineReady | FailureReport | EngineProgress | None]",
) -> None:
    try:
        while (message := outbox.get()) is not None:
            connection.send(message)
    except OSError:
        pass  # the caller has gone; `work` notices when it next reads


def _message_of(error: Exception) -> str:
    return str(error) if type(error).__module__.startswith("model.") else repr(error)


if __name__ == "__main__":
    # Both ends must know the messages' classes by the same name, which `__main__` would not be.
    from model.decoding.engine_process import main as main_of_the_module

    main_of_the_module()
