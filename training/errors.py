"""What training refuses, beside the errors of `model`."""

from model.errors import DragomanError


class CorpusError(DragomanError):
    """Parallel text that cannot be read or has nothing left after cleaning."""


class RunError(DragomanError):
    """A run folder that cannot be written, resumed or exported."""


class DivergenceError(RunError):
    """The loss is no longer a number; the last good run state was kept."""
