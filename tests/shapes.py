"""Turns the checks of tensors' shapes off for a while.

They make a step of the engine several times as slow. Where a test takes thousands of steps whose
like is taken with the checks on, by the same test or by those of the module itself, it can do
without.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from jaxtyping import config


@contextmanager
def unchecked_shapes() -> Iterator[None]:
    """Inside, functions of the model are called as in earnest: without any check of types."""
    config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        config.update("jaxtyping_disable", False)
