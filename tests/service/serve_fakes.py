"""A process that serves fake models as `dragoman serve` serves real ones; for tests of signals.

Prints its port, then serves until a signal. Arguments: seconds a step takes, seconds of grace,
and `fail` or `hang` for what loading shall do.
"""

import socket
import sys
import time

from model.errors import CheckpointError, DragomanError
from service.http.server import run
from service.monitoring.logs import configure_logging
from service.serving.registry import Registry
from service.settings import Settings
from tests.service.fakes import FakeTranslator, fake_model


def main(step_s: str, grace_s: str, outcome: str) -> int:
    """Exit code as the command line gives it."""
    settings = Settings(drain_grace_s=float(grace_s))
    configure_logging(settings.log_format)

    def before() -> None:
        if outcome == "fail":
            raise CheckpointError("weights.safetensors is damaged")
        if outcome == "hang":
            time.sleep(60)

    translator = FakeTranslator(delay_s=float(step_s))
    registry = Registry([fake_model("en-de", settings, translator=translator, before=before)])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        try:
            run(registry, listener, settings)
        except DragomanError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
