"""The keys that are valid at this moment: read from their file, and again when it has changed."""

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
    """The keys of a file. One that cannot be read leaves those in force that were read before."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError when the file cannot be read."""
        self._path = path
        self._seen = self._fingerprint()  # before reading: a change in between is seen later
        self._keys = self._read()
        self._looked_at = time.monotonic()
        if not self._keys:
            logger.warning("keys file %s holds no key: nobody may use the service", path)

    async def find(self, presented: str) -> Key | None:
        """The key, if it is one that opens something now."""
        now = time.monotonic()
        if now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now  # others do not wait with us
            await asyncio.to_thread(self.look)
        return _match(self._keys, digest_of(presented))

    def look(self) -> None:
        """Reads the file again if it is not the one that was read last."""
        seen = self._fingerprint()
        if seen != self._seen:
            self._seen = seen
            self.reload()

    def reload(self) -> bool:
        """Reads the file again; False, and a line in the log, where the old keys stay in force."""
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
    """Compares with every key, and in constant time: how long it takes tells nothing."""
    found = None
    for candidate, key in keys:
        if hmac.compare_digest(candidate, digest):
            found = key
    return None if found is None or found.is_expired(datetime.now(UTC)) else found
