"""A rate limit as it is written in settings and keys files, such as 100/minute."""

from functools import lru_cache
from typing import Annotated

from limits import RateLimitItem, parse
from pydantic import (
    AfterValidator,
)


@lru_cache(maxsize=1024)
def parse_rate(text: str) -> RateLimitItem:
    """The rate that `600/minute` means; raises ValueError for what is none."""
    try:
        if ";" not in text and "," not in text and "|" not in text:
            rate = parse(text)
            if rate.amount > 0 and rate.multiples > 0:
                return rate
    except ValueError:
        pass
    raise ValueError(f"{text!r} is not a rate; write one such as 600/minute or 10/second")


def _checked_rate(text: str) -> str:
    parse_rate(text)
    return text


Rate = Annotated[str, AfterValidator(_checked_rate)]
