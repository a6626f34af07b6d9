"""Where the `limits` library keeps its counts: an SQLite table, in memory or in a file.

Its own memory keeps a count for every address it ever saw within a window and looks through all of
them on each request; this one holds a bounded number of them, and in a file they survive a restart.
"""

import contextlib
import sqlite3
import time
from pathlib import Path

from limits.storage import Storage

_SCHEMA = """
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, count INTEGER, expires REAL)
    WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_end ON counters (expires);
"""
_INCREMENT = """
INSERT INTO counters VALUES (:name, :amount, :expires) ON CONFLICT (name) DO UPDATE SET
    count = CASE WHEN expires > :now THEN count + :amount ELSE :amount END,
    expires = CASE WHEN expires > :now THEN expires ELSE :expires END
RETURNING count
"""
_SWEEP_EVERY = 1024  # increments
_PATIENCE_MS = 50
MAX_COUNTERS = 100_000  # some 10 MB


def num_counters(path: Path) -> int:
    """How many counts a file holds, which is read whole and left as it is.

    Raises sqlite3.Error where it cannot be read or is damaged.
    """
    # Beside a service that uses it, its log is to be read, too; else not even one is made.
    in_use = path.with_name(f"{path.name}-wal").exists()
    uri = f"{path.resolve().as_uri()}?{'mode=ro' if in_use else 'immutable=1'}"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=1.0)) as table:
        for (problem,) in table.execute("PRAGMA quick_check(1)"):
            if problem != "ok":
                raise sqlite3.DatabaseError(problem)
        if not table.execute("SELECT 1 FROM sqlite_master WHERE name = 'counters'").fetchone():
            return 0  # of a file that is still empty
        return len(table.execute("SELECT name, count, expires FROM counters").fetchall())


class CounterStorage(Storage):
    """Counts with an end each. Made for one thread at a time; a call takes microseconds."""

    STORAGE_SCHEME = ["dragoman"]  # noqa: RUF012 - so the library declares it

    def __init__(self, path: Path | None = None, *, max_counters: int = MAX_COUNTERS) -> None:
        """In memory without a path. Raises sqlite3.Error for a file that cannot be used."""
        super().__init__()
        self._max_counters = max_counters
        self._num_increments = 0
        self._table = sqlite3.connect(
            path or ":memory:", isolation_level=None, check_same_thread=False, timeout=1.0
        )
        try:
            if path is not None:  # durable but for the last moments before a power cut
                self._table.execute("PRAGMA journal_mode = WAL")
                self._table.execute("PRAGMA synchronous = NORMAL")
                # Pages; the disk is waited for only then, and whoever asks waits with us.
                self._table.execute("PRAGMA wal_autocheckpoint = 8000")
            self._table.executescript(_SCHEMA)
            # From now on the event loop waits with us for whoever else holds the file.
            self._table.execute(f"PRAGMA busy_timeout = {_PATIENCE_MS}")
        except sqlite3.Error:
            self._table.close()
            raise

    @property
    def base_exceptions(self) -> type[Exception]:
        """What a call may raise."""
        return sqlite3.Error

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Adds to a count, which starts anew `expiry` seconds after its first increment."""
        now = time.time()
        values = {"name": key, "amount": amount, "now": now, "expires": now + expiry}
        count: int = self._table.execute(_INCREMENT, values).fetchone()[0]
        self._num_increments += 1
        if self._num_increments % _SWEEP_EVERY == 0:
            self._sweep(now)
        return count

    def decr(self, key: str, amount: int, expires: float) -> None:
        """Takes from a count, but not below zero, unless a new one has begun since."""
        self._table.execute(
            "UPDATE counters SET count = max(count - ?, 0) WHERE name = ? AND expires = ?",
            (amount, key, expires),
        )

    def get(self, key: str) -> int:
        """The count; 0 once it has ended."""
        return int(self._row(key)[0])

    def get_expiry(self, key: str) -> float:
        """When the count ends."""
        return self._row(key)[1]

    def check(self) -> bool:
        """It is there as long as the process is."""
        return True

    def reset(self) -> int | None:
        """Forgets everything."""
        return self._table.execute("DELETE FROM counters").rowcount

    def clear(self, key: str) -> None:
        """Forgets one count."""
        self._table.execute("DELETE FROM counters WHERE name = ?", (key,))

    def close(self) -> None:
        """Lets go of the file."""
        self._table.close()

    def __len__(self) -> int:
        return int(self._table.execute("SELECT count(*) FROM counters").fetchone()[0])

    def _row(self, key: str) -> tuple[int, float]:
        now = time.time()
        found = self._table.execute(
            "SELECT count, expires FROM counters WHERE name = ? AND expires > ?", (key, now)
        ).fetchone()
        return found or (0, now)

    def _sweep(self, now: float) -> None:
        """Removes what has ended; where that is not enough, what ends soonest."""
        self._table.execute("DELETE FROM counters WHERE expires <= ?", (now,))
        too_many = len(self) - self._max_counters
        if too_many > 0:
            self._table.execute(
                "DELETE FROM counters WHERE name IN "
                "(SELECT name FROM counters ORDER BY expires LIMIT ?)",
                (too_many,),
            )
