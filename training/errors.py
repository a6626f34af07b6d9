"""Errors of training; the others are in `model/errors.py`."""

from model.errors import DragomanError


class CorpusError(DragomanError):
    """Raised for a corpus that cannot be read, or of which cleaning leaves nothing."""


class RunError(DragomanError):
    """Raised for a run that cannot be written, resumed or exported."""


class DivergenceError(RunError):
    """Raised when the loss is no longer a number; the last good run state was kept."""
