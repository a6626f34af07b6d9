"""Every exception a caller of `model` may meet; each message is one sentence for a person.

A message names what was wrong, the value, and the way out. The command line prints it as it is,
the service puts it into a JSON body, so it never repeats a user's text.
"""


class DragomanError(Exception):
    """A caller's mistake or a broken file: shown without a traceback."""


class ConfigError(DragomanError):
    """Settings that cannot work, alone or together."""


class CheckpointError(DragomanError):
    """A checkpoint folder that is missing, damaged, foreign or of another version."""


class InputError(DragomanError):
    """A text, a text file or a request that cannot be used as it is."""


class EngineFailure(DragomanError):
    """An engine that failed in the middle of its work; what it held is lost."""


class NoEngine(EngineFailure):
    """There is no engine, and none can be had."""
