"""What is known of a request by the time it is over: for its log line and the metrics."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.types import Scope

ID_HEADER = "X-Request-ID"


PIVOT_HEADER = "X-Pivot-Language"


WARNINGS_HEADER = "X-Translation-Warnings"


@dataclass
class RequestRecord:
    """What is known of a request by the time it is over."""

    request_id: str
    method: str
    route: str = "-"
    status: int | None = None  # None: the client left before an answer
    num_bytes_sent: int = 0
    seconds: float = 0.0
    key: str = "-"  # its name
    model: str = "-"
    pivot: str = "-"  # languages between two models
    warnings: str = "-"  # what is wrong with some translation, in one word
    num_texts: int = 0
    num_characters: int = 0
    refusal: str = "-"  # code of the error that was answered
    render_seconds: float = 0.0  # from the last translation until the answer was written


def note(scope: Scope, model: str, num_texts: int, num_characters: int) -> None:
    """Adds to the request's log line what its body asked for."""
    record = scope.get("dragoman.record")
    if isinstance(record, RequestRecord):
        record.model = model
        record.num_texts = num_texts
        record.num_characters = num_characters


def note_key(scope: Scope, name: str) -> None:
    """Adds to the request's log line by which key it came, by the key's name."""
    record = scope.get("dragoman.record")
    if isinstance(record, RequestRecord):
        record.key = name


def note_model(scope: Scope, model: str) -> None:
    """Names the model in the request's log line, where it was found after the sizes."""
    record = scope.get("dragoman.record")
    if isinstance(record, RequestRecord):
        record.model = model


def note_pivots(scope: Scope, languages: Sequence[str | None]) -> None:
    """Notes through which languages texts go, for log and answer; None for those that do not."""
    record = scope.get("dragoman.record")
    if isinstance(record, RequestRecord):
        record.pivot = ", ".join(sorted({each for each in languages if each})) or "-"


def note_cut(scope: Scope) -> None:
    """Notes that a translation was cut at the length limit, for log and answer."""
    record = scope.get("dragoman.record")
    if isinstance(record, RequestRecord):
        record.warnings = "cut"


def note_translated(scope: Scope) -> None:
    """Notes that from now on the answer is written."""
    scope["dragoman.translated_at"] = time.monotonic()
