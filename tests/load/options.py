"""Values on a command line. What cannot be meant is refused; argparse then names the option."""

import argparse
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

# What `reading` is asked for: a rate, a factor or a time that has to pass; a time that may be none.
AboveZero = Annotated[float, Field(gt=0, allow_inf_nan=False)]
ZeroOrAbove = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def reading(kind: Any) -> Callable[[str], Any]:
    """Reads a value of this type, such as pydantic's PositiveInt; for `add_argument(type=...)`."""
    adapter = TypeAdapter[Any](kind)

    def read(text: str) -> Any:
        try:
            return adapter.validate_python(text)
        except ValidationError as error:
            reason = error.errors(include_url=False)[0]["msg"]
            raise argparse.ArgumentTypeError(
                f"{text!r} will not do; it {reason.removeprefix('Input ')}"
            ) from None

    return read
