"""Writes log lines to standard error, as text or as JSON for a collector; never users' text.

Libraries, including uvicorn, log warnings and errors only.
"""

import logging
import sys

from pythonjsonlogger.json import JsonFormatter

from service.settings import LogFormat


def configure_logging(log_format: LogFormat) -> None:
    """Sets up logging; called once by the process that serves."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(log_format))
    logging.basicConfig(handlers=[handler])
    logging.getLogger("dragoman").setLevel(logging.INFO)
    # It would warn about every malformed form, a client's mistake, and quote bytes of the form.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)


def formatter(log_format: LogFormat) -> logging.Formatter:
    """The formatter; in JSON a line is one object, with fields beside `message`."""
    if log_format == "text":
        return logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    return JsonFormatter(
        "%(levelname)s %(name)s %(message)s",
        rename_fields={"levelname": "level", "name": "logger"},
        timestamp="time",
    )
