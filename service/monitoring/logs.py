"""Log lines on standard error: for people, or as JSON for a collector. Neither holds users' text.

Of libraries, uvicorn too, only what is wrong is logged.
"""

import logging
import sys

from pythonjsonlogger.json import JsonFormatter

from service.settings import LogFormat


def configure_logging(log_format: LogFormat) -> None:
    """Called once, by the process that serves."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(log_format))
    logging.basicConfig(handlers=[handler])
    logging.getLogger("dragoman").setLevel(logging.INFO)
    # It warns of every broken form, which is the sender's affair, and quotes bytes of it.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)


def formatter(log_format: LogFormat) -> logging.Formatter:
    """In JSON one object a line; what a line is about has fields of its own beside `message`."""
    if log_format == "text":
        return logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    return JsonFormatter(
        "%(levelname)s %(name)s %(message)s",
        rename_fields={"levelname": "level", "name": "logger"},
        timestamp="time",
    )
