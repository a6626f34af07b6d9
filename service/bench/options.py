"""Numbers on a command line. What cannot be meant is refused; argparse then names the option."""

import argparse
import math


def count(text: str) -> int:
    """1 or more."""
    number = _whole(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is too few; give 1 or more")
    return number


def count_or_none(text: str) -> int:
    """0 or more."""
    number = _whole(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is too few; give 0 or more")
    return number


def above_zero(text: str) -> float:
    """A rate, a factor, a time that has to pass."""
    number = _finite(text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"{text} is too little; give a number above 0")
    return number


def zero_or_above(text: str) -> float:
    """A time that may be none."""
    number = _finite(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is too little; give 0 or a number above it")
    return number


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None


def _finite(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} is no number")
    return number
