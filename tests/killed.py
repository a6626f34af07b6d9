"""Kills a writer at every moment, to see what it leaves behind.

Run it in a process of its own: it forks once for every moment.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

# Python's audit events; "ctypes.dlsym" stands before the call that swaps two names.
_CHANGES = {"open", "os.chmod", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "ctypes.dlsym"}


def kill_everywhere(write: Callable[[int], None], check: Callable[[int], None]) -> int:
    """Runs `write(attempt)` again and again, killed one change of a file later each time.

    `check(attempt)` follows every kill. Ends when a write was not killed any more; returns the
    number of the attempts, of which the last was whole.
    """
    attempt = 0
    while True:
        attempt += 1
        child = os.fork()
        if child == 0:
            _kill_before_operation(attempt)
            write(attempt)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 0, f"the writer failed ({status})"
            return attempt
        assert os.WTERMSIG(status) == signal.SIGKILL
        check(attempt)


def _kill_before_operation(number: int) -> None:
    """SIGKILL for this process before the so many-th time that it changes a file or a folder."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return  # for reading
        if event in _CHANGES:
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
