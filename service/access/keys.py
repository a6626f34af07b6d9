"""The keys file: name, hash, scopes and limits of each API key.

It holds SHA-256 hashes and never a key. Plain hashes are right for these: a key is 256 random bits
of our own making, so there is nothing to guess, no table to look it up in, and no password behind
it that a slow hash or a salt would have to protect. What a person made up does not belong here.
"""

import fcntl
import hashlib
import json
import os
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from model.errors import ConfigError
from model.system.atomic_files import replaced_file
from service.rates import Rate

_MAX_BYTES = 16 * 1024 * 1024  # tens of thousands of keys; a larger file is not a keys file
_PREFIX = "dgm_"  # people and scanners for leaked secrets recognise a key by it


class Scope(StrEnum):
    """What a key may be used for; no scope includes another."""

    TRANSLATE = "translate"
    METRICS = "metrics"
    ADMIN = "admin"


KeyName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Quota = Annotated[int, Field(ge=1)]


class Key(BaseModel):
    """An API key: everything about it but its value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: KeyName
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)] = (Scope.TRANSLATE,)
    characters_per_day: Quota | None = None
    characters_per_month: Quota | None = None
    rate: Rate | None = None  # texts in a time; unset: the service's own
    expires: AwareDatetime | None = None

    @property
    def digest(self) -> bytes:
        """The hash, as bytes."""
        return bytes.fromhex(self.sha256)

    def is_expired(self, now: datetime) -> bool:
        """True from the moment at which the key is no longer valid."""
        return self.expires is not None and now >= self.expires


class KeysFile(BaseModel):
    """The content of a keys file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: tuple[Key, ...] = ()

    @model_validator(mode="after")
    def _each_is_there_once(self) -> "KeysFile":
        name, times = next(iter(Counter(key.name for key in self.keys).most_common(1)), ("", 0))
        if times > 1:
            raise ValueError(f"the name {name} is there {times} times")
        owners: dict[str, str] = {}
        for key in self.keys:
            other = owners.setdefault(key.sha256, key.name)
            if other != key.name:
                raise ValueError(f"{other} and {key.name} have the same sha256")
        return self


def new_key() -> str:
    """A new random key."""
    return _PREFIX + secrets.token_urlsafe(32)


def digest_of(key: str) -> bytes:
    """The hash that is stored in place of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def read_keys(path: Path) -> KeysFile:
    """The keys in a file; raises ConfigError for a file that is missing or not valid."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ConfigError(f"keys file {path} has more than {_MAX_BYTES} bytes")
        return KeysFile.model_validate_json(content)
    except PermissionError:
        raise ConfigError(
            f"keys file {path} is not for this user (number {os.getuid()}) to read; "
            "give it to the user that the service runs as (chown)"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"keys file {path}: {error.strerror or error}; "
            f"`dragoman keys add {path} NAME` makes one"
        ) from None
    except ValidationError as error:
        raise ConfigError(f"keys file {path}: {_first_problem(error)}") from None


def write_keys(path: Path, keys: KeysFile) -> None:
    """Replaces the file in one step; keeps its owner, who alone may read it."""
    content = json.dumps(keys.model_dump(mode="json", exclude_none=True), indent=2) + "\n"
    with replaced_file(path, mode=0o600) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            with suppress(OSError):  # no file yet, or no right to change its owner
                before = path.stat()
                os.fchown(descriptor, before.st_uid, before.st_gid)
            file.write(content)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Locks the file against other commands while the block runs; the lock is on its folder."""
    try:
        descriptor = os.open(path.resolve().parent, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(f"folder of {path}: {error.strerror or error}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
