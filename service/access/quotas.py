"""Counts what callers use: texts in a time (rates), characters a day and a month (quotas).

A rate counts from the first text and starts again when its time is over. Quotas are for the days
and months of the calendar in UTC. A refused request costs nothing: its charge is returned.
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
from service.limits import above_rate, quota_exceeded, rate_limited

logger = logging.getLogger("dragoman.access")

_COMPLAIN_EVERY_S = 60.0


@dataclass(frozen=True)
class Usage:
    """Characters that a key has used in its month (or its day, if it only has a daily quota)."""

    num_characters: int
    limit: int | None


@dataclass(frozen=True)
class QuotaCharge:
    """Characters that a request took from its key's quotas; returned if the request fails."""

    counters: tuple[str, ...]
    num_characters: int


@dataclass(frozen=True)
class RateCharge:
    """Texts that a request took from its caller's rate; returned if the request is refused."""

    counter: str
    num_texts: int
    ends: float  # when their count starts again, in seconds since 1970


@dataclass(frozen=True)
class _Period:
    """The day or the month for which one key's characters are counted."""

    counter: str
    limit: int | None
    word: str
    ends: datetime

    @property
    def seconds(self) -> float:
        # A little longer than the period: the next period's counter has another name.
        return (self.ends - datetime.now(UTC)).total_seconds() + 3600


class QuotaTracker:
    """The counts of all callers. Belongs to the event loop."""

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
        """Counts texts of a caller; raises RateLimited or RequestTooLarge above the rate."""
        if num_texts > rate.amount:  # it would be refused however often it is retried
            raise above_rate(num_texts, rate)
        if self._limiter.test(rate, caller, cost=num_texts):
            self._limiter.hit(rate, caller, cost=num_texts)
            counter = rate.key_for(caller)
            return RateCharge(counter, num_texts, self._rates.get_expiry(counter))
        wait_s = self._limiter.get_window_stats(rate, caller).reset_time - time.time()
        raise rate_limited(rate, wait_s)

    def return_texts(self, charge: RateCharge) -> None:
        """Returns the texts of a refused request to the count that they were taken from."""
        self._rates.decr(charge.counter, charge.num_texts, charge.ends)

    def take_characters(self, key: Key, num_characters: int) -> QuotaCharge | None:
        """Counts characters of a key; raises QuotaExceeded for more than its quota has left."""
        try:
            periods = _periods(key)
            for period in periods:
                left = math.inf
                if period.limit is not None:
                    left = period.limit - self._characters.get(period.counter)
                if num_characters > left:
                    assert period.limit is not None
                    raise quota_exceeded(period.limit, period.word, max(0, int(left)), period.ends)
            for period in periods:
                self._characters.incr(period.counter, period.seconds, num_characters)
            return QuotaCharge(tuple(period.counter for period in periods), num_characters)
        except sqlite3.Error as error:  # a full disk does not stop translation
            self._complain(error)
            return None

    def return_characters(self, charge: QuotaCharge) -> None:
        """Returns the characters of a request that was not answered with translations."""
        try:
            for counter in charge.counters:
                if self._characters.get(counter):  # its period may be over
                    self._characters.incr(counter, 0, -charge.num_characters)
        except sqlite3.Error as error:
            self._complain(error)

    def usage(self, key: Key) -> Usage:
        """What a key has used in its month, or in its day if it has only a daily quota."""
        periods = _periods(key)
        chosen = next((period for period in periods if period.limit is not None), periods[0])
        try:
            return Usage(self._characters.get(chosen.counter), chosen.limit)
        except sqlite3.Error as error:
            self._complain(error)
            return Usage(0, chosen.limit)

    def close(self) -> None:
        """Closes the files."""
        self._rates.close()
        self._characters.close()

    def _complain(self, error: sqlite3.Error) -> None:
        if time.monotonic() - self._complained_at >= _COMPLAIN_EVERY_S:
            self._complained_at = time.monotonic()
            logger.error("usage file: %s; characters are translated without being counted", error)


def _periods(key: Key) -> tuple[_Period, ...]:
    """The periods for which a key is counted: its month, and its day where the day has a quota."""
    now = datetime.now(UTC)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    next_month = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
    month = _Period(f"{key.name}/{now:%Y-%m}", key.characters_per_month, "month", next_month)
    if key.characters_per_day is None:
        return (month,)
    tomorrow = today + timedelta(days=1)
    return month, _Period(f"{key.name}/{now:%Y-%m-%d}", key.characters_per_day, "day", tomorrow)
