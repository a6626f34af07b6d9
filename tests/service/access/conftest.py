"""A service with keys: the file, and an application over it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.access.keys import Key, KeysFile, Scope, digest_of, new_key, read_keys, write_keys

AddKey = Callable[..., str]


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    write_keys(path, KeysFile())
    return path


@pytest.fixture
def add_key(keys_file: Path) -> AddKey:
    """Adds a key to the file and gives it."""

    def add(name: str, *scopes: Scope, **limits: Any) -> str:
        key = new_key()
        entry = Key(
            name=name,
            sha256=digest_of(key).hex(),
            scopes=scopes or (Scope.TRANSLATE,),
            **limits,
        )
        write_keys(keys_file, KeysFile(keys=(*read_keys(keys_file).keys, entry)))
        return key

    return add
