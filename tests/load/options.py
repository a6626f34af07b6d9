"""Checks values on the command line; argparse names the option of a wrong one."""

import argparse
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

AboveZero = Annotated[float, Field(gt=0, allow_inf_nan=False)]
ZeroOrAbove = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def reading(kind: Any) -> Callable[[str], Any]:
    """Returns a parser of a type such as PositiveInt, for `add_argument(type=...)`."""
    adapter = TypeAdapter[Any](kind)

    def read(text: str) -> Any:
        try:
            return adapter.validate_python(text)
        except ValidationError as error:
            reason = error.errors(include_url=False)[0]["msg"]
            raise argparse.ArgumentTypeError(
                f"{text!r} is not valid; it {reason.removeprefix('Input ')}"
            ) from None

    return read
