"""How much a caller may still ask for: texts in a time, characters a day and a month.

A rate counts from its first text on and starts anew when its time is over; quotas are of the
calendar's days and months in UTC. What is refused costs nothing: what it took is given back.
"""

import logging
import math
import sqlite3
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from limits import RateLimitItem
from limits.strategies import FixedWindowRateLimiter

from model.errors import ConfigError
from service.access.keys import Key
from service.access.quota_storage import CounterStorage
from service.errors import QuotaExceeded, RateLimited, RequestTooLarge

logger = logging.getLogger("dragoman.access")

_COMPLAIN_EVERY_S = 60.0


@dataclass(frozen=True)
class Usage:
    """Characters that a key has used in its month (or its day, if it only has a daily quota)."""

    num_characters: int
    limit: int | None


@dataclass(frozen=True)
class QuotaCharge:
    """Characters that a request took from its key's quotas, to be given back if it fails."""

    counters: tuple[str, ...]
    num_characters: int


@dataclass(frozen=True)
class RateCharge:
    """Texts that a request took from its caller's rate, to be given back if it is refused."""

    counter: str
    num_texts: int
    ends: float  # the count they are in


@dataclass(frozen=True)
class _Period:
    """A day or a month of the calendar, of one key."""

    counter: str
    limit: int | None
    word: str
    ends: datetime

    @property
    def seconds(self) -> float:
        # A little longer than it lasts: afterwards the counter has another name in any case.
        return (self.ends - datetime.now(UTC)).total_seconds() + 3600


class QuotaTracker:
    """Counts for all callers. Not thread-safe: belongs to the event loop."""

    def __init__(self, usage_file: Path | None) -> None:
        """Raises ConfigError when the file cannot be used."""
        self._rates = CounterStorage()
        self._limiter = FixedWindowRateLimiter(self._rates)
        self._complained_at = -math.inf
        try:
            self._characters = CounterStorage(usage_file)
        except sqlite3.Error as error:
            self._rates.close()
            raise ConfigError(
                f"usage file {usage_file}: {error}; set DRAGOMAN_USAGE_FILE to a file that this "
                "user may write"
            ) from None

    def take_texts(self, rate: RateLimitItem, caller: str, num_texts: int) -> RateCharge:
        """Counts texts of a caller; raises RateLimited when that is more than the rate."""
        if num_texts > rate.amount:  # would be refused for ever with "try again later"
            raise RequestTooLarge(
                f"{num_texts} texts in one request are more than the rate of {_told(rate)}; "
                "send fewer at a time"
            )
        if self._limiter.test(rate, caller, cost=num_texts):
            self._limiter.hit(rate, caller, cost=num_texts)
            counter = rate.key_for(caller)
            return RateCharge(counter, num_texts, self._rates.get_expiry(counter))
        wait_s = self._limiter.get_window_stats(rate, caller).reset_time - time.time()
        raise RateLimited(
            f"more texts than the rate of {_told(rate)} allows; "
            "wait as many seconds as Retry-After says",
            retry_after_s=max(1, math.ceil(wait_s)),
        )

    def give_texts_back(self, fare: RateCharge) -> None:
        """Returns the texts of a request that was refused, to the count they were taken from."""
        self._rates.decr(fare.counter, fare.num_texts, fare.ends)

    def take_characters(self, key: Key, num_characters: int) -> QuotaCharge | None:
        """Counts characters for a key; raises QuotaExceeded when its quota does not hold them."""
        try:
            periods = _periods(key)
            for period in periods:
                left = math.inf
                if period.limit is not None:
                    left = period.limit - self._characters.get(period.counter)
                if num_characters > left:
                    raise QuotaExceeded(
                        f"the key's quota of {period.limit} characters a {period.word} has "
                        f"{max(0, int(left))} left; it starts anew at {period.ends:%Y-%m-%d} UTC"
                    )
            for period in periods:
                self._characters.incr(period.counter, period.seconds, num_characters)
            return QuotaCharge(tuple(period.counter for period in periods), num_characters)
        except sqlite3.Error as error:  # a full disk is no reason to stop translating
            self._complain(error)
            return None

    def give_back(self, expense: QuotaCharge) -> None:
        """Returns the characters of a request that was not answered."""
        try:
            for counter in expense.counters:
                if self._characters.get(counter):  # its period may be over
                    self._characters.incr(counter, 0, -expense.num_characters)
        except sqlite3.Error as error:
            self._complain(error)

    def usage(self, key: Key) -> Usage:
        """What a key has used so far."""
        periods = _periods(key)
        chosen = next((period for period in periods if period.limit is not None), periods[0])
        try:
            return Usage(self._characters.get(chosen.counter), chosen.limit)
        except sqlite3.Error as error:
            self._complain(error)
            return Usage(0, chosen.limit)

    def close(self) -> None:
        """Lets go of the files."""
        self._rates.close()
        self._characters.close()

    def _complain(self, error: sqlite3.Error) -> None:
        if time.monotonic() - self._complained_at >= _COMPLAIN_EVERY_S:
            self._complained_at = time.monotonic()
            logger.error("usage file: %s; characters are translated without being counted", error)


def _periods(key: Key) -> tuple[_Period, ...]:
    """The month, which is always counted, and the day where it has a quota."""
    now = datetime.now(UTC)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    next_month = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
    month = _Period(f"{key.name}/{now:%Y-%m}", key.characters_per_month, "month", next_month)
    if key.characters_per_day is None:
        return (month,)
    tomorrow = today + timedelta(days=1)
    return month, _Period(f"{key.name}/{now:%Y-%m-%d}", key.characters_per_day, "day", tomorrow)


def _told(rate: RateLimitItem) -> str:
    span = rate.GRANULARITY.name
    return (
        f"{rate.amount} a {span}"
        if rate.multiples == 1
        else (f"{rate.amount} in {rate.multiples} {span}s")
    )
