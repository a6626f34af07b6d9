"""The keys file: its format, how it is written, and when a running service reloads it."""

import asyncio
import hashlib
import hmac
import json
import logging
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from model.errors import ConfigError
from service.access import keyring as keyring_module
from service.access.keyring import Keyring
from service.access.keys import Key, KeysFile, Scope, digest_of, new_key, read_keys, write_keys
from service.cli import run
from service.rates import parse_rate
from tests.service.conftest import AddKey


def test_a_key_is_random_and_kept_as_its_hash() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(len(key) == len("dgm_") + 43 for key in keys)  # 32 bytes in base 64
    assert digest_of("abc") == hashlib.sha256(b"abc").digest()


@pytest.mark.parametrize("rate", ["600/minute", "10/second", "5 per hour", "100/2 hours", "1/day"])
def test_rates(rate: str) -> None:
    assert parse_rate(rate).amount == int(rate.replace("/", " ").split()[0])


@pytest.mark.parametrize(
    "rate", ["", "600", "x/minute", "600/fortnight", "1/second; 5/minute", "0/minute", "-1/minute"]
)
def test_a_malformed_rate_is_refused(rate: str) -> None:
    with pytest.raises(ValueError, match="600/minute"):
        parse_rate(rate)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"name": "a/b"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a", "sha256": "12"}, "sha256"),
        ({"name": "a", "key": "dgm_secret"}, "key"),
        ({"name": "a", "scopes": ["root"]}, "scopes"),
        ({"name": "a", "scopes": []}, "scopes"),
        ({"name": "a", "characters_per_day": 0}, "characters_per_day"),
        ({"name": "a", "characters_per_month": -5}, "characters_per_month"),
        ({"name": "a", "rate": "often"}, "rate"),
        ({"name": "a", "expires": "2027-01-01T00:00:00"}, "expires"),  # in which zone?
    ],
)
def test_a_bad_entry_is_refused_by_name(
    tmp_path: Path, entry: dict[str, object], words: str
) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [{"sha256": "0" * 64, **entry}]}))
    with pytest.raises(ConfigError, match=rf"keys\.0\.{words}") as refusal:
        read_keys(path)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"keys": 5}', '{"users": []}', "\0", '{"keys": [{"name": "a"}]}'],
)
def test_a_broken_file_is_one_sentence(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"keys\.json: ") as refusal:
        read_keys(path)
    assert "\n" not in str(refusal.value)


def test_names_and_hashes_are_unique(tmp_path: Path) -> None:
    one = {"name": "a", "sha256": "0" * 64}
    path = tmp_path / "keys.json"
    for other, words in (
        ({"name": "a", "sha256": "1" * 64}, "name a is there 2 times"),
        ({"name": "b", "sha256": "0" * 64}, "a and b have the same sha256"),
    ):
        path.write_text(json.dumps({"keys": [one, other]}))
        with pytest.raises(ConfigError, match=words):
            read_keys(path)


def test_the_keys_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    entry = Key(
        name="a",
        sha256="0" * 64,
        scopes=(Scope.ADMIN, Scope.TRANSLATE),
        characters_per_day=5,
        rate="1/second",
        expires=datetime(2027, 1, 1, tzinfo=UTC),
    )
    before = os.umask(0)
    try:
        write_keys(path, KeysFile(keys=(entry,)))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_keys(path).keys == (entry,)
    assert [other.name for other in tmp_path.iterdir()] == ["keys.json"]


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "keys.json")
    quota = ("--characters-per-month", "500", "--characters-per-day", "50", "--rate", "9/minute")
    assert run(["keys", "add", path, "site", *quota, "--expires", "2027-06-30"]) == 0
    key = capsys.readouterr().out.strip()
    assert run(["keys", "add", path, "ops", "--scope", "admin", "--scope", "metrics"]) == 0
    capsys.readouterr()
    site, ops = read_keys(Path(path)).keys
    assert site.digest == digest_of(key)
    assert (site.characters_per_month, site.characters_per_day, site.rate) == (500, 50, "9/minute")
    assert site.expires == datetime(2027, 6, 30, tzinfo=UTC)
    assert ops.scopes == (Scope.ADMIN, Scope.METRICS)
    assert key not in Path(path).read_text()

    assert run(["keys", "list", path]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in listed] == [
        ["site", "translate"],
        ["ops", "admin,metrics"],
    ]
    assert run(["keys", "list", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[1])["scopes"] == ["admin", "metrics"]

    assert run(["keys", "revoke", path, "site"]) == 0
    assert [each.name for each in read_keys(Path(path)).keys] == ["ops"]


def test_expired_keys_are_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "keys.json")
    for name, more in (("old", ["--expires", "2020-01-01"]), ("new", ["--expires", "2999-01-01"])):
        assert run(["keys", "add", path, name, *more]) == 0
    capsys.readouterr()
    assert run(["keys", "list", path]) == 0
    old, new = capsys.readouterr().out.splitlines()
    assert old == "old  translate  expires=2020-01-01T00:00:00Z  EXPIRED"
    assert new == "new  translate  expires=2999-01-01T00:00:00Z"
    assert run(["keys", "list", path, "--json"]) == 0
    listed = map(json.loads, capsys.readouterr().out.splitlines())
    assert [key["expired"] for key in listed] == [True, False]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("add", "FILE", "ops"), "has a key named ops"),
        (("add", "FILE", "a b"), "name 'a b'"),
        (("add", "FILE", "new", "--scope", "root"), "scope 'root'"),
        (("add", "FILE", "new", "--rate", "often"), "such as 600/minute"),
        (("add", "FILE", "new", "--expires", "soon"), "such as 2027-06-30"),
        (("add", "/nowhere/keys.json", "new"), "folder of /nowhere/keys.json"),
        (("revoke", "FILE", "other"), "has no key named other; it has: ops"),
        (("list", "FILE.other"), "dragoman keys add"),
    ],
)
def test_the_keys_commands_refuse_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    path = tmp_path / "keys.json"
    write_keys(path, KeysFile(keys=(Key(name="ops", sha256="0" * 64),)))
    before = path.read_text()
    assert run(["keys", *(part.replace("FILE", str(path)) for part in arguments)]) != 0
    assert words in capsys.readouterr().err
    assert path.read_text() == before


def find(keyring: Keyring, key: str) -> str | None:
    found = asyncio.run(keyring.find(key))
    return None if found is None else found.name


def test_a_changed_file_is_noticed(
    keys_file: Path, add_key: AddKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = add_key("first")
    keyring = Keyring(keys_file)
    second = add_key("second")
    assert find(keyring, first) == "first"
    assert find(keyring, second) is None  # it looks at most once a second
    monkeypatch.setattr(keyring_module, "LOOK_EVERY_S", 0.0)
    assert find(keyring, second) == "second"
    write_keys(keys_file, KeysFile(keys=read_keys(keys_file).keys[1:]))
    assert find(keyring, first) is None
    assert find(keyring, second) == "second"


def test_a_broken_file_leaves_the_old_keys_and_one_line(
    keys_file: Path,
    add_key: AddKey,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(keyring_module, "LOOK_EVERY_S", 0.0)
    key = add_key("first")
    keyring = Keyring(keys_file)
    whole = keys_file.read_text()
    caplog.set_level(logging.INFO, logger="dragoman")
    for broken in (whole[:40], None):
        caplog.clear()
        if broken is None:
            keys_file.unlink()
        else:
            keys_file.write_text(broken)
        for _ in range(3):
            assert find(keyring, key) == "first"
        (line,) = (record.getMessage() for record in caplog.records)
        assert str(keys_file) in line
        assert line.endswith("the keys read before stay in force")
        assert not keyring.reload()
    keys_file.write_text(whole)
    assert keyring.reload()
    assert find(keyring, key) == "first"


def test_an_expired_key_is_refused(keys_file: Path, add_key: AddKey) -> None:
    now = datetime.now(UTC)
    late = add_key("late", expires=now)
    valid = add_key("valid", expires=now + timedelta(hours=1))
    keyring = Keyring(keys_file)
    assert find(keyring, late) is None
    assert find(keyring, valid) == "valid"


def test_all_keys_are_compared_in_constant_time(
    keys_file: Path, add_key: AddKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [add_key(f"k{number}") for number in range(5)]
    keyring = Keyring(keys_file)
    compared: list[bytes] = []
    real = hmac.compare_digest

    def counting(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    for presented in (keys[0], keys[4], "dgm_wrong", "\ud800"):
        compared.clear()
        find(keyring, presented)
        assert len(compared) == 5


def test_a_missing_file_at_the_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="dragoman keys add"):
        Keyring(tmp_path / "keys.json")


def test_an_unreadable_file_gives_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything
    with pytest.raises(ConfigError, match=r"keys\.json is not for this user .* \(chown\)"):
        read_keys(tmp_path / "keys.json")
