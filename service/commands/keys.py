"""`dragoman keys`: adds, lists and revokes API keys in a file, which a running service rereads."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model.errors import ConfigError

if TYPE_CHECKING:
    from service.access.keys import Key

KeysPath = Annotated[
    Path, typer.Argument(help="The keys file; DRAGOMAN_KEYS_FILE names it.", metavar="FILE")
]
KeyName = Annotated[
    str, typer.Argument(help="Whose key it is: letters, digits, dots, dashes.", metavar="NAME")
]


def keys_commands() -> typer.Typer:
    """The subcommands of `dragoman keys`."""
    commands = typer.Typer(
        rich_markup_mode=None,
        help="Give out and take back API keys of the HTTP service.",
    )
    for verb, name in ((add, "add"), (show, "list"), (revoke, "revoke")):
        commands.command(name)(verb)
    return commands


def add(
    file: KeysPath,
    name: KeyName,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            help="translate, metrics (read /metrics) or admin; may be repeated. "
            "Default: translate.",
        ),
    ] = None,
    characters_per_day: Annotated[
        int | None, typer.Option("--characters-per-day", min=1, help="Quota; days end at 0:00 UTC.")
    ] = None,
    characters_per_month: Annotated[
        int | None, typer.Option("--characters-per-month", min=1, help="Quota of a UTC month.")
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option("--rate", help="Texts in a time: 600/minute. Default: DRAGOMAN_RATE_LIMIT."),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option("--expires", help="Day or time at which it ends (UTC): 2027-06-30."),
    ] = None,
) -> None:
    """Make a key and print it, once: the file holds only its hash.

    \b
    dragoman keys add keys.json website --characters-per-month 500000 --rate 600/minute
    """
    from service.access.keys import Key, digest_of, new_key

    key = new_key()
    given = {
        "name": name,
        "sha256": digest_of(key).hex(),
        "scopes": list(dict.fromkeys(scope)) if scope else None,
        "characters_per_day": characters_per_day,
        "characters_per_month": characters_per_month,
        "rate": rate,
        "expires": None if expires is None else _moment(expires),
    }
    entry = _validated(Key, {field: value for field, value in given.items() if value is not None})

    def with_it(keys: "tuple[Key, ...]") -> "tuple[Key, ...]":
        if any(other.name == name for other in keys):
            raise ConfigError(f"{file} has a key named {name}; revoke it, or choose another name")
        return (*keys, entry)

    _change(file, with_it, may_be_new=True)
    typer.echo(key)


def show(
    file: KeysPath,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """List the keys of a file with their scopes and limits; those that have expired say so."""
    from service.access.keys import read_keys

    now = datetime.now(UTC)
    for key in read_keys(file).keys:
        entry = key.model_dump(mode="json", exclude={"sha256"}, exclude_none=True)
        entry["expired"] = key.is_expired(now)
        typer.echo(json.dumps(entry) if as_json else _line(entry))


def revoke(file: KeysPath, name: KeyName) -> None:
    """Revoke a key: requests with it are rejected from now on."""

    def without_it(keys: "tuple[Key, ...]") -> "tuple[Key, ...]":
        left = tuple(key for key in keys if key.name != name)
        if len(left) == len(keys):
            names = ", ".join(key.name for key in keys) or "none"
            raise ConfigError(f"{file} has no key named {name}; it has: {names}")
        return left

    _change(file, without_it, may_be_new=False)
    typer.echo(f"{name} is revoked; a running service notices within a second or two")


def _change(
    file: Path, change: "Callable[[tuple[Key, ...]], tuple[Key, ...]]", *, may_be_new: bool
) -> None:
    from service.access.keys import KeysFile, locked, read_keys, write_keys

    with locked(file):
        before = KeysFile() if may_be_new and not file.exists() else read_keys(file)
        write_keys(file, KeysFile(keys=change(before.keys)))


def _validated(kind: "type[Key]", values: dict[str, Any]) -> "Key":
    from pydantic import ValidationError

    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
        option = str(problem["loc"][0]).replace("scopes", "scope").replace("_", "-")
        message = problem["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{option} {problem['input']!r}: {message}") from None


def _moment(text: str) -> datetime:
    """Parses a time; UTC unless it names another zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"expires {text!r}: it is no day and no time; write one such as 2027-06-30"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _line(entry: dict[str, Any]) -> str:
    """One line about a key: name, scopes, limits as `name=value`, and whether it has expired."""
    scopes = ",".join(entry.pop("scopes"))
    name = entry.pop("name")
    end = ["EXPIRED"] if entry.pop("expired") else []
    return "  ".join((name, scopes, *(f"{field}={value}" for field, value in entry.items()), *end))
