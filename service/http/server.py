"""The process around the application: socket, signals, logging, exit.

SIGTERM: readiness turns red, after `drain_grace_s` the socket closes, accepted work is finished,
exit code 0. Ctrl-C does the same without the grace. A second signal leaves at once. SIGHUP has the
models folder looked at anew, but ends the service when it comes because its terminal was closed.
"""

import contextlib
import logging
import math
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from model.errors import CheckpointError, ConfigError
from service.http.app import create_app
from service.http.connection import connection_class
from service.lifecycle import Lifecycle, Phase
from service.monitoring.logs import configure_logging
from service.serving.model_folder import ModelFolder, check_hardware
from service.serving.registry import Registry, open_models
from service.serving.reload import Reloader
from service.settings import Settings
from service.text.detection import load_tables

logger = logging.getLogger("dragoman.server")

BACKLOG = 2048
MAX_HEAD_BYTES = 64 * 1024  # some clients send 5000 characters, percent-encoded, in the query
SPARE_DESCRIPTORS = 256  # files that are no connections: models, pipes to engines, logs


def serve(models: Path, host: str, port: int, settings: Settings) -> None:
    """Serves all checkpoints of a folder (or one checkpoint) until a signal ends it.

    Raises ConfigError when the address, the device or the precision cannot be had, CheckpointError
    when no model loads.
    Port 0 takes a free one; the log says which.
    """
    configure_logging(settings.log_format)
    folder = ModelFolder(models, settings)
    registry = open_models(folder)
    # No request may hold a model for longer than its deadline; rendering takes a moment more.
    reloader = Reloader(registry, folder, drain_s=settings.deadline_s + 1.0)
    with listen(host, port) as listener:
        load_tables()  # beside the models, which take longer
        check_hardware(settings)  # at once, not after each model has failed
        run(registry, listener, settings, reloader)


def run(
    registry: Registry,
    listener: socket.socket,
    settings: Settings,
    reloader: Reloader | None = None,
) -> None:
    """Serves a registry on a socket that listens already; raises when no model loads."""
    lifecycle = Lifecycle()
    reloader = reloader or Reloader(registry, None)
    config = configure(create_app(registry, settings, lifecycle, reloader), settings)
    _allow_descriptors(settings.max_connections + SPARE_DESCRIPTORS)
    host, port = listener.getsockname()[:2]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    names = ", ".join(served_model.name for served_model in registry.served_models)
    logger.info("serving %s at http://%s (API at /docs)", names, address)
    _Server(config, registry, reloader, lifecycle, settings).run(sockets=[listener])
    logger.info("closed")
    if registry.none_loads:
        reasons = "; ".join(f"{model.name}: {model.failure}" for model in registry.served_models)
        raise CheckpointError(f"no model could be loaded: {reasons}")
    if not registry.close(timeout_s=0.1):
        # It had its time at the end of the lifespan. Left to run, a thread inside torch would
        # crash in the interpreter's own farewell.
        logger.warning("left while a model was still busy")
        _leave(0)


def configure(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """How uvicorn is to serve the application."""
    return uvicorn.Config(
        app,
        http=connection_class(settings, app.state.door, app.state.metrics),
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        log_config=None,
        access_log=False,  # it would log the query string; our own line does not
        server_header=False,
        ws="none",
        proxy_headers=False,  # the application believes those of trusted proxies, and no others
        # Accepted work ends by its deadline; this ends bodies still dripping in, which
        # would be refused anyway, and clients that do not read.
        timeout_graceful_shutdown=math.ceil(settings.deadline_s) + 2,
    )


class _Server(uvicorn.Server):
    """uvicorn with our way out, and an end when there is nothing to serve."""

    def __init__(
        self,
        config: uvicorn.Config,
        registry: Registry,
        reloader: Reloader,
        lifecycle: Lifecycle,
        settings: Settings,
    ) -> None:
        super().__init__(config)
        self._registry = registry
        self._reloader = reloader
        self._lifecycle = lifecycle
        self._settings = settings
        self._closes_at: float | None = None
        self._told = False  # that it is ending
        self._reload_wished = False
        self._has_terminal = False  # that it shall end with

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own raises the signal again at the end, which would spoil exit code 0.
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        caught = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, self.handle_exit) for number in caught}
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._handle_hangup)
        # `nohup` has it ignored: then it shall outlive the terminal.
        self._has_terminal = before[signal.SIGHUP] is not signal.SIG_IGN and _has_terminal()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._closes_at is not None:
            dropped = self._registry.num_leases
            _tell_at_once(f"asked to end again: leaving at once, requests dropped: {dropped}")
            _leave(128 + sig)
        grace_s = self._settings.drain_grace_s if sig == signal.SIGTERM else 0.0
        self._lifecycle.phase = Phase.LEAVING  # nothing more: logging is not safe in a handler
        self._closes_at = time.monotonic() + grace_s

    def _handle_hangup(self, _signal: int, _frame: FrameType | None) -> None:
        self._reload_wished = True

    async def on_tick(self, counter: int) -> bool:
        if self._closes_at is not None and not self._told:
            self._told = True
            logger.info("asked to end: not ready any more, finishing what was accepted")
        if self._closes_at is not None and time.monotonic() >= self._closes_at:
            self._lifecycle.phase = Phase.CLOSING
            self.should_exit = True
        if self._reload_wished and self._closes_at is None:
            self._reload_wished = False
            if self._has_terminal and not _has_terminal():
                self.handle_exit(signal.SIGHUP, None)
            else:
                logger.info("SIGHUP: reloading the models folder")
                self._reloader.reload()
        if self._registry.none_loads:
            self.should_exit = True
        return await super().on_tick(counter)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; ConfigError says in one line why there is none."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        # Connections inherit it. Without it the body of an answer, which is sent behind its head,
        # waits 40 ms for the client to acknowledge the head.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        # A failed bind repeats the address in strerror; a failed look-up has a number of its own.
        if error.errno is None or isinstance(error, socket.gaierror):
            reason = error.strerror or str(error)
        else:
            reason = os.strerror(error.errno)
        raise ConfigError(
            f"cannot listen on {host} port {port}: {reason}; choose another --port or --host"
        ) from None


def _allow_descriptors(wanted: int) -> None:
    """Raises the soft limit of open files, as far as the hard one lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def _has_terminal() -> bool:
    """Whether this process belongs to a terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _tell_at_once(message: str) -> None:
    """A line of the log from within a signal's handler, which may have interrupted another line."""
    record = logger.makeRecord(logger.name, logging.WARNING, __file__, 0, message, (), None)
    for handler in logging.getLogger().handlers:
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), f"{handler.format(record)}\n".encode())


def _leave(code: int) -> None:
    logging.shutdown()
    os._exit(code)
