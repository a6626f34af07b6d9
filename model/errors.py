"""All exceptions that `model` raises for its callers; each message is one sentence for a person.

A message says what was wrong, the value, and what to do. The command line prints it, and the
service puts it into a JSON body. Therefore it never repeats a user's text.
"""


class DragomanError(Exception):
    """A caller's mistake or a damaged file; shown without a traceback."""


class ConfigError(DragomanError):
    """Settings that cannot work, alone or together."""


class CheckpointError(DragomanError):
    """A checkpoint folder that is missing, damaged, not a checkpoint, or of another version."""


class InputError(DragomanError):
    """A text, a text file or a request that cannot be used."""


class EngineFailure(DragomanError):
    """An engine failed; its unfinished requests are lost."""


class NoEngine(EngineFailure):
    """No engine could be started."""
