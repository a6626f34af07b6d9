"""`dragoman doctor`: checks whether the service would work here, and says what to do if not.

It changes nothing, and a failed check does not stop the following ones.
"""

import os
import platform
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from model.errors import ConfigError, DragomanError
from model.system.process import num_cores
from service.access.keys import read_keys
from service.access.quota_storage import num_counters
from service.http.server import listen
from service.serving.model_folder import checkpoint_folders, other_folders, why_not_served
from service.settings import Settings, load_settings

_PACKAGES = ("torch", "sentencepiece", "safetensors", "fastapi", "uvicorn", "pydantic")


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    check: str
    ok: bool
    detail: str  # of a failed check: what is wrong and what to do


def examine(models: Path, host: str, port: int) -> Iterator[Finding]:
    """Runs all checks in turn; those that need torch take some seconds."""
    yield _made("versions", _versions)
    settings: list[Settings] = []
    yield _made("settings", partial(_settings, settings))
    yield _made("port", partial(_port, host, port))
    yield _made("processor", _processor)
    if settings:
        yield _made("device and precision", partial(_precision, settings[0]))
        if settings[0].keys_file is not None:
            yield _made("keys", partial(_keys, settings[0].keys_file))
        if settings[0].usage_file is not None:
            yield _made("usage", partial(_usage, settings[0].usage_file))
    try:
        folders = checkpoint_folders(models)
    except DragomanError as error:
        yield Finding("models", ok=False, detail=str(error))
        return
    for folder in other_folders(models):  # not an error, but possibly a mistake
        yield Finding(f"folder {folder.name}", ok=True, detail=why_not_served(folder))
    for folder in folders:
        yield _made(f"checkpoint {folder.name}", partial(_checkpoint, folder, settings))


def _made(check: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(check, ok=True, detail=look())
    except DragomanError as error:  # its message says what to do
        return Finding(check, ok=False, detail=str(error))
    except Exception as error:  # noqa: BLE001 - no error may stop the other checks
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Finding(
            check,
            ok=False,
            detail=f"{reason}; reinstall in a new environment, then run `dragoman doctor` again",
        )


def _versions() -> str:
    def of(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            raise ImportError(f"{package} is not installed") from None

    packages = ", ".join(f"{package} {of(package)}" for package in _PACKAGES)
    return f"Python {platform.python_version()}, {packages}"


def _keys(path: Path) -> str:
    now = datetime.now(UTC)
    keys = read_keys(path).keys
    expired = sum(key.is_expired(now) for key in keys)
    return f"{path}: {len(keys) - expired} in force, {expired} expired"


def _usage(path: Path) -> str:
    remedy = "set DRAGOMAN_USAGE_FILE to a file that this user may write"
    if not path.parent.is_dir():
        raise ConfigError(
            f"usage file {path}: there is no folder {path.parent}; make it, or {remedy}"
        )
    # SQLite writes files beside it.
    for place in (path.parent, path):
        if place.exists() and not os.access(place, os.R_OK | os.W_OK):
            raise ConfigError(f"usage file {path}: {place} may not be read and written; {remedy}")
    if not path.exists():
        return f"{path}: not there yet, can be made"
    try:
        return f"{path}: intact, counts: {num_counters(path)}"
    except sqlite3.Error as error:
        raise ConfigError(
            f"usage file {path}: {error}; put back a copy that is whole, or move it away: then "
            "characters are counted anew"
        ) from None


def _settings(found: list[Settings]) -> str:
    settings = load_settings({})
    found.append(settings)
    if settings.tracing:
        import_module("service.monitoring.tracing")  # says what is missing
    changed = {
        name: "is set" if name.endswith("_sha256") else value  # private values are not shown
        for name, value in settings.model_dump().items()
        if value != type(settings).model_fields[name].default
    }
    return ", ".join(f"{name} {value}" for name, value in changed.items()) or "as delivered"


def _port(host: str, port: int) -> str:
    with listen(host, port) as listener:
        return f"{host} port {listener.getsockname()[1]} is free"


def _processor() -> str:
    return f"{num_cores()} of {platform.machine()} may be used"


def _precision(settings: Settings) -> str:
    from model.inference.precision import resolve_device, resolve_precision
    from model.inference.products import int8_failure

    device = resolve_device(settings.device)
    precision = resolve_precision(settings.precision, device)
    failure = int8_failure() if device.type == "cpu" else None
    return f"{device}, {precision}" + (f"; no int8: {failure}" if failure else "")


def _checkpoint(folder: Path, settings: list[Settings]) -> str:
    from model.translator import Translator

    device, precision = "cpu", "fp32"
    if settings:
        device, precision = settings[0].device, settings[0].precision
    started = time.monotonic()
    with Translator.load(folder, device=device, precision=precision) as translator:
        config = translator.checkpoint.config
        translator.translate(["Test 1."])
        precision, exact = translator.checkpoint.precision, str(translator.exact).lower()
    return (
        f"{config.source_language} to {config.target_language}, "
        f"version {translator.checkpoint.version}, hashes right, translates; "
        f"precision {precision}, exact: {exact}; {time.monotonic() - started:.1f} s"
    )
