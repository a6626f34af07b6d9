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
    """The number of counts in a file, which is read in full and not changed.

    Raises sqlite3.Error where it cannot be read or is damaged.
    """
    # While a service uses the file, its log has to be read too; otherwise none may be made.
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
    """Counts that expire. For one thread at a time; a call takes microseconds."""

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
            if path is not None:  # a power cut loses the last moments at most
                self._table.execute("PRAGMA journal_mode = WAL")
                self._table.execute("PRAGMA synchronous = NORMAL")
                # In pages. Only a checkpoint waits for the disk, and all requests wait with it.
                self._table.execute("PRAGMA wal_autocheckpoint = 8000")
            self._table.executescript(_SCHEMA)
            # From now on the event loop waits while another process holds the file.
            self._table.execute(f"PRAGMA busy_timeout = {_PATIENCE_MS}")
        except sqlite3.Error:
            self._table.close()
            raise

    @property
    def base_exceptions(self) -> type[Exception]:
        """The errors that a call may raise."""
        return sqlite3.Error

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Adds to a count, which starts again `expiry` seconds after its first increment."""
        now = time.time()
        values = {"name": key, "amount": amount, "now": now, "expires": now + expiry}
        count: int = self._table.execute(_INCREMENT, values).fetchone()[0]
        self._num_increments += 1
        if self._num_increments % _SWEEP_EVERY == 0:
            self._sweep(now)
        return count

    def decr(self, key: str, amount: int, expires: float) -> None:
        """Subtracts from a count, not below zero, unless a new count has begun since."""
        self._table.execute(
            "UPDATE counters SET count = max(count - ?, 0) WHERE name = ? AND expires = ?",
            (amount, key, expires),
        )

    def get(self, key: str) -> int:
        """The count; 0 when it has expired."""
        return int(self._row(key)[0])

    def get_expiry(self, key: str) -> float:
        """When the count expires, in seconds since 1970."""
        return self._row(key)[1]

    def check(self) -> bool:
        """True: the storage needs no connection."""
        return True

    def reset(self) -> int | None:
        """Deletes all counts."""
        return self._table.execute("DELETE FROM counters").rowcount

    def clear(self, key: str) -> None:
        """Deletes one count."""
        self._table.execute("DELETE FROM counters WHERE name = ?", (key,))

    def close(self) -> None:
        """Closes the file."""
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
        """Deletes expired counts; if there are still too many, those that expire soonest."""
        self._table.execute("DELETE FROM counters WHERE expires <= ?", (now,))
        too_many = len(self) - self._max_counters
        if too_many > 0:
            self._table.execute(
                "DELETE FROM counters WHERE name IN "
                "(SELECT name FROM counters ORDER BY expires LIMIT ?)",
                (too_many,),
            )
