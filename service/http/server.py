"""The process around the application: socket, signals, logging, exit.

SIGTERM: readiness turns red, after `drain_grace_s` the socket closes, accepted work is finished,
exit code 0. Ctrl-C does the same without the grace period. A second signal exits at once. SIGHUP
reloads the models folder, but ends the service when it comes because its terminal was closed.
"""

import contextlib
import functools
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

from model.errors import CheckpointError, ConfigError
from service.http.app import Application, create_app
from service.http.connection import Connection
from service.lifecycle import Lifecycle, Phase
from service.monitoring.logs import configure_logging
from service.serving.model_folder import ModelFolder, check_hardware
from service.serving.registry import Registry, open_models
from service.serving.reload import Reloader
from service.settings import Settings
from service.text.detection import load_tables

logger = logging.getLogger("dragoman.server")

BACKLOG = 2048
SPARE_DESCRIPTORS = 256  # open files beside connections: models, pipes to engines, logs


def serve(models: Path, host: str, port: int, settings: Settings) -> None:
    """Serves all checkpoints of a folder (or one checkpoint) until a signal ends it.

    Port 0 takes a free port, which the log names.
    Raises ConfigError for an address, device or precision that is not available here,
    CheckpointError when no model loads.
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
    """Serves a registry on a listening socket; raises CheckpointError when no model loads."""
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
        # The lifespan gave it time to end. A thread that is still inside torch would crash the
        # interpreter at its exit.
        logger.warning("shutdown timeout: exiting while a model is still running")
        _exit(0)


def configure(app: Application, settings: Settings) -> uvicorn.Config:
    """The configuration with which uvicorn serves the application."""
    connection = functools.partial(Connection, connection_limits=app.connection_limits)
    return uvicorn.Config(
        app.asgi,
        http=connection,  # type: ignore[arg-type]  # uvicorn only calls it
        log_config=None,
        access_log=False,  # it would log the query string; RequestLog does not
        server_header=False,
        ws="none",
        proxy_headers=False,  # the application reads them, from trusted proxies only
        # Accepted work ends by its deadline. This ends slow bodies, which would be refused anyway,
        # and clients that do not read their answers.
        timeout_graceful_shutdown=math.ceil(settings.deadline_s) + 2,
    )


class _Server(uvicorn.Server):
    """uvicorn's server with graceful shutdown; it also ends when no model could be loaded."""

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
        self._logged_end = False
        self._reload_requested = False
        self._has_terminal = False  # and ends when the terminal closes

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's method raises the signal again at the end, so that the exit code were not 0.
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        caught = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, self.handle_exit) for number in caught}
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._handle_hangup)
        # `nohup` ignores SIGHUP: then the service outlives the terminal.
        self._has_terminal = before[signal.SIGHUP] is not signal.SIG_IGN and _has_terminal()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._closes_at is not None:
            dropped = self._registry.num_leases
            _log_from_signal_handler(f"second signal: exiting at once, requests dropped: {dropped}")
            _exit(128 + sig)
        grace_s = self._settings.drain_grace_s if sig == signal.SIGTERM else 0.0
        self._lifecycle.phase = Phase.LEAVING  # no log line: logging is not safe in a handler
        self._closes_at = time.monotonic() + grace_s

    def _handle_hangup(self, _signal: int, _frame: FrameType | None) -> None:
        self._reload_requested = True

    async def on_tick(self, counter: int) -> bool:
        if self._closes_at is not None and not self._logged_end:
            self._logged_end = True
            logger.info("shutting down: readiness is red, accepted requests are finished")
        if self._closes_at is not None and time.monotonic() >= self._closes_at:
            self._lifecycle.phase = Phase.CLOSING
            self.should_exit = True
        if self._reload_requested and self._closes_at is None:
            self._reload_requested = False
            if self._has_terminal and not _has_terminal():
                self.handle_exit(signal.SIGHUP, None)
            else:
                logger.info("SIGHUP: reloading the models folder")
                self._reloader.reload()
        if self._registry.none_loads:
            self.should_exit = True
        return await super().on_tick(counter)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; ConfigError where the address cannot be used."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        # Connections inherit it. Without it the body of an answer would wait up to 40 ms until the
        # client has acknowledged the head.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        # A failed bind repeats the address in strerror; a failed look-up has numbers of its own.
        if error.errno is None or isinstance(error, socket.gaierror):
            reason = error.strerror or str(error)
        else:
            reason = os.strerror(error.errno)
        raise ConfigError(
            f"cannot listen on {host} port {port}: {reason}; choose another --port or --host"
        ) from None


def _allow_descriptors(wanted: int) -> None:
    """Raises the soft limit of open files, at most to the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def _has_terminal() -> bool:
    """Whether this process belongs to a terminal that is still open."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _log_from_signal_handler(message: str) -> None:
    """Writes a log line from a signal handler, which may have interrupted another line."""
    record = logger.makeRecord(logger.name, logging.WARNING, __file__, 0, message, (), None)
    for handler in logging.getLogger().handlers:
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), f"{handler.format(record)}\n".encode())


def _exit(code: int) -> None:
    logging.shutdown()
    os._exit(code)
