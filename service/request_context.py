"""What the service knows of one request while it answers it.

The outermost middleware makes one RequestContext a request. It travels in the ASGI scope under one
key, which only this module uses.
"""

import contextlib
import re
import time
import uuid
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from fastapi.responses import JSONResponse

from service.access.callers import Caller
from service.limits import Limits
from service.protocol.dialects import Dialect, error_response
from service.protocol.error_table import refusal_of
from service.serving.pending import PendingRequest

ID_HEADER = "X-Request-ID"
PIVOT_HEADER = "X-Pivot-Language"
WARNINGS_HEADER = "X-Translation-Warnings"

_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_KEY = "dragoman.context"


@dataclass
class RequestRecord:
    """What is logged and counted of a request: ids, lengths and times, never text."""

    request_id: str
    method: str
    route: str = "-"
    status: int | None = None  # None: the client disconnected before an answer
    num_bytes_sent: int = 0
    seconds: float = 0.0
    key: str = "-"  # its name
    model: str = "-"
    pivot: str = "-"  # languages between two models
    warnings: str = "-"  # warnings about translations, separated by commas
    num_texts: int = 0
    num_characters: int = 0
    refusal: str = "-"  # code of the error in the answer
    render_seconds: float = 0.0  # from the last translation until the answer was written


@dataclass
class RequestContext:
    """Everything that middleware and routes share about one request."""

    record: RequestRecord
    dialect: Dialect
    limits: Limits
    caller: Caller
    pending: PendingRequest
    # Marks a stage of the request in its trace; does nothing where requests are not traced.
    stage: Callable[[str], AbstractContextManager[None]] = lambda name: contextlib.nullcontext()
    response_headers: dict[str, str] = field(default_factory=dict)  # to be added to the answer
    _translated_at: float | None = None
    _warnings: set[str] = field(default_factory=set)

    def note_work(self, model: str, num_texts: int, num_characters: int) -> None:
        """Notes which model does the work, and its size."""
        self.record.model = model
        self.record.num_texts = num_texts
        self.record.num_characters = num_characters

    def note_pivots(self, languages: Sequence[str | None]) -> None:
        """Notes the languages between two models, one a route; None: a direct one."""
        names = ", ".join(sorted({each for each in languages if each}))
        if names:
            self.record.pivot = self.response_headers[PIVOT_HEADER] = names

    def note_warnings(self, warnings: Iterable[str]) -> None:
        """Adds warnings about translations to the log line and to a response header."""
        self._warnings.update(warnings)
        if self._warnings:
            text = ", ".join(sorted(self._warnings))
            self.record.warnings = self.response_headers[WARNINGS_HEADER] = text

    def note_translated(self) -> None:
        """Notes that all translations are there, so that only the answer is left to be written."""
        self._translated_at = time.monotonic()

    def note_answer(self, status: int) -> None:
        """Notes the status of the answer, whose first bytes are about to be sent."""
        self.record.status = status
        if self._translated_at is not None and status < 400:
            self.record.render_seconds = time.monotonic() - self._translated_at

    def error_response(self, error: Exception) -> JSONResponse:
        """The answer to the request where it failed with `error`; notes the error's code."""
        self.record.refusal = refusal_of(error).code
        return error_response(self.dialect, error)


def request_id_of(given: str) -> str:
    """A client's id for its request, or a new one where it may not be logged."""
    return given if _ID.fullmatch(given) else uuid.uuid4().hex


def context_of(scope: MutableMapping[str, Any]) -> RequestContext:
    """The context of a request, by its ASGI scope."""
    context = scope[_KEY]
    assert isinstance(context, RequestContext)
    return context


def attach_context(scope: MutableMapping[str, Any], context: RequestContext) -> None:
    """Gives a request its context; for the outermost middleware alone."""
    scope[_KEY] = context
