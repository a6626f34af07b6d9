"""Counting: exact, bounded, and over a restart."""

import logging
import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from model.errors import ConfigError
from service.access import quota_storage as counters_module
from service.access import quotas as allowance_module
from service.access.callers import client_of
from service.access.keys import Key
from service.access.quota_storage import CounterStorage
from service.access.quotas import QuotaTracker
from service.errors import QuotaExceeded, RateLimited, RequestTooLarge
from service.rates import parse_rate

KEY = Key(name="a", sha256="0" * 64, characters_per_month=100, characters_per_day=60)


class Clock:
    """Stands for `time`, `datetime` and their like."""

    now = datetime(2027, 1, 31, 23, 0, tzinfo=UTC).timestamp()

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def datetime_now(self, _zone: Any) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()

    class Moment(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return clock.datetime_now(tz)

    monkeypatch.setattr(counters_module, "time", clock)
    monkeypatch.setattr(allowance_module, "time", clock)
    monkeypatch.setattr(allowance_module, "datetime", Moment)
    return clock


@pytest.fixture
def allowance() -> Any:
    allowance = QuotaTracker(None)
    yield allowance
    allowance.close()


def test_the_text_after_the_last_is_refused(allowance: QuotaTracker, clock: Clock) -> None:
    rate = parse_rate("100/minute")
    allowance.take_texts(rate, "a", 50)
    for _ in range(49):
        allowance.take_texts(rate, "a", 1)
    with pytest.raises(RateLimited):
        allowance.take_texts(rate, "a", 2)
    allowance.take_texts(rate, "a", 1)  # what was refused cost nothing
    clock.now += 20
    with pytest.raises(RateLimited) as refusal:
        allowance.take_texts(rate, "a", 1)
    allowance.take_texts(rate, "b", 100)
    wait_s = refusal.value.retry_after_s
    assert wait_s == 40
    clock.now += wait_s
    allowance.take_texts(rate, "a", 100)


def test_more_texts_than_the_rate_allows_at_all_get_no_retry_time(allowance: QuotaTracker) -> None:
    with pytest.raises(RequestTooLarge, match="100 in 2 minutes"):
        allowance.take_texts(parse_rate("100/2 minutes"), "a", 101)


def test_a_refused_request_gets_its_texts_back(allowance: QuotaTracker, clock: Clock) -> None:
    rate = parse_rate("100/minute")
    allowance.take_texts(rate, "a", 40)
    clock.now += 30
    charge = allowance.take_texts(rate, "a", 60)
    allowance.return_texts(charge)
    charge = allowance.take_texts(rate, "a", 60)
    with pytest.raises(RateLimited) as refusal:
        allowance.take_texts(rate, "a", 1)
    assert refusal.value.retry_after_s == 30  # it ends when it did
    clock.now += 31  # another count has begun
    allowance.take_texts(rate, "a", 100)
    allowance.return_texts(charge)
    with pytest.raises(RateLimited):
        allowance.take_texts(rate, "a", 1)


def test_no_count_is_below_zero() -> None:
    storage = CounterStorage()
    storage.incr("a", 60, 5)
    storage.decr("a", 8, storage.get_expiry("a"))
    storage.decr("b", 8, 0)
    assert (storage.get("a"), storage.get("b")) == (0, 0)
    storage.close()


def test_quotas_follow_calendar_days_and_months(allowance: QuotaTracker, clock: Clock) -> None:
    allowance.take_characters(KEY, 60)
    with pytest.raises(QuotaExceeded, match=r"60 characters a day has 0 left.*2027-02-01"):
        allowance.take_characters(KEY, 1)
    clock.now += 3600  # the first of February
    for _ in range(2):
        allowance.take_characters(KEY, 30)
    clock.now += 24 * 3600
    with pytest.raises(QuotaExceeded, match=r"100 characters a month has 40 left.*2027-03-01"):
        allowance.take_characters(KEY, 41)
    assert allowance.take_characters(KEY, 40) is not None
    assert (allowance.usage(KEY).num_characters, allowance.usage(KEY).limit) == (100, 100)


def test_a_failed_request_gets_its_characters_back(allowance: QuotaTracker, clock: Clock) -> None:
    charge = allowance.take_characters(KEY, 60)
    assert charge is not None
    allowance.return_characters(charge)
    assert allowance.usage(KEY).num_characters == 0
    charge = allowance.take_characters(KEY, 60)
    assert charge is not None
    clock.now += 40 * 24 * 3600  # its month is over meanwhile
    allowance.return_characters(charge)
    allowance.take_characters(KEY, 60)


def test_a_changed_quota_keeps_its_count(allowance: QuotaTracker, clock: Clock) -> None:
    allowance.take_characters(KEY, 60)
    larger = KEY.model_copy(update={"characters_per_day": None, "characters_per_month": 1000})
    assert allowance.usage(larger).num_characters == 60


def test_the_usage_file_survives_a_restart(tmp_path: Path, clock: Clock) -> None:
    for expected in (0, 30):
        allowance = QuotaTracker(tmp_path / "usage.sqlite")
        assert allowance.usage(KEY).num_characters == expected
        allowance.take_characters(KEY, 30)
        allowance.close()


def test_an_unusable_usage_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is no database" * 100)
    for path in (tmp_path / "no" / "usage.sqlite", tmp_path / "text", tmp_path):
        with pytest.raises(ConfigError, match="DRAGOMAN_USAGE_FILE"):
            QuotaTracker(path)


def test_a_full_disk_does_not_stop_translations(
    allowance: QuotaTracker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> int:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(CounterStorage, "incr", full)
    caplog.set_level(logging.INFO, logger="dragoman")
    assert [allowance.take_characters(KEY, 1) for _ in range(5)] == [None] * 5
    assert len(caplog.records) == 1


def test_a_locked_file_is_not_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    allowance = QuotaTracker(tmp_path / "usage.sqlite")
    charge = allowance.take_characters(KEY, 1)
    assert charge is not None
    other = sqlite3.connect(tmp_path / "usage.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    assert allowance.take_characters(KEY, 1) is None
    allowance.return_characters(charge)
    assert time.monotonic() - started < 0.5
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "locked" in caplog.text
    other.close()
    assert allowance.take_characters(KEY, 1) is not None
    allowance.close()


def test_memory_is_bounded_against_many_addresses(clock: Clock) -> None:
    storage = CounterStorage(max_counters=1000)
    for number in range(20_000):
        clock.now += 0.001
        storage.incr(f"address {number}", 60)
    assert len(storage) <= 1000 + counters_module._SWEEP_EVERY
    assert storage.get("address 19999") == 1  # those that end soonest had to go
    clock.now += 61
    assert storage.get("address 19999") == 0
    for _ in range(counters_module._SWEEP_EVERY):
        storage.incr("one", 60)
    assert len(storage) == 1
    storage.clear("one")
    assert storage.get("one") == 0
    assert storage.check()
    storage.incr("one", 60)
    assert storage.reset() == 1
    storage.close()


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "-"),
        ("", "-"),
        (None, "-"),
    ],
)
def test_clients(address: str | None, client: str) -> None:
    assert client_of(address) == client
