"""The API keys that are valid now: read from the keys file, and again when it has changed."""

import asyncio
import hmac
import logging
import time
from datetime import UTC, datetime
from pathlib import Path

from model.errors import ConfigError
from service.access.keys import Key, digest_of, read_keys

logger = logging.getLogger("dragoman.access")

LOOK_EVERY_S = 1.0


class Keyring:
    """The keys of a file. If the file becomes unreadable, the keys read before stay in force."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError when the file cannot be read."""
        self._path = path
        self._seen = (
            self._fingerprint()
        )  # taken before reading: a change in between is noticed later
        self._keys = self._read()
        self._looked_at = time.monotonic()
        if not self._keys:
            logger.warning(
                "keys file %s holds no key: every request for a translation is refused", path
            )

    async def find(self, presented: str) -> Key | None:
        """The key with this value; None if there is none or it has expired."""
        now = time.monotonic()
        if now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now  # other requests do not read the file too
            await asyncio.to_thread(self.look)
        return _match(self._keys, digest_of(presented))

    def look(self) -> None:
        """Reads the file again if it has changed."""
        seen = self._fingerprint()
        if seen != self._seen:
            self._seen = seen
            self.reload()

    def reload(self) -> bool:
        """Reads the file again; False, with an error in the log, if it is not readable."""
        try:
            self._keys = self._read()
        except ConfigError as error:
            logger.error("%s; the keys read before stay in force", error)
            return False
        logger.info("keys file %s was read again; keys: %d", self._path, len(self._keys))
        return True

    def _read(self) -> tuple[tuple[bytes, Key], ...]:
        return tuple((key.digest, key) for key in read_keys(self._path).keys)

    def _fingerprint(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size


def _match(keys: tuple[tuple[bytes, Key], ...], digest: bytes) -> Key | None:
    """Compares with every key in constant time, so that the time reveals nothing about a key."""
    found = None
    for candidate, key in keys:
        if hmac.compare_digest(candidate, digest):
            found = key
    return None if found is None or found.is_expired(datetime.now(UTC)) else found
