"""The findings of `doctor`; one failed check does not stop the other checks."""

import json
import shutil
import socket
import sqlite3
from pathlib import Path

import pytest

from service import cli
from service.access.quota_storage import CounterStorage
from service.commands.doctor import examine


def examined(models: Path, port: int = 0) -> dict[str, tuple[bool, str]]:
    return {
        finding.check: (finding.ok, finding.detail)
        for finding in examine(models, "127.0.0.1", port)
    }


def test_a_good_configuration_has_no_findings(
    tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["doctor", str(tiny_checkpoint), "--port", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok    ") for line in lines)
    assert [line[6:].split(":")[0] for line in lines] == [
        "versions",
        "settings",
        "port",
        "processor",
        "device and precision",
        f"checkpoint {tiny_checkpoint.name}",
    ]
    assert "en to de" in lines[-1]
    assert "exact: true" in lines[-1]


def test_every_failure_is_reported_with_a_remedy(
    tiny_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DRAGOMAN_MAX_SLOTS", "many")
    for name in ("good", "flipped"):
        shutil.copytree(tiny_checkpoint, tmp_path / name)
    weights = tmp_path / "flipped" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.run(["doctor", str(tmp_path), "--port", str(port), "--json"]) == 1
    rows = {row["check"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert {check for check, row in rows.items() if not row["ok"]} == {
        "settings",
        "port",
        "checkpoint flipped",
    }
    assert "DRAGOMAN_MAX_SLOTS" in rows["settings"]["detail"]
    assert "choose another --port" in rows["port"]["detail"]
    assert "weights.safetensors" in rows["checkpoint flipped"]["detail"]


def test_a_folder_without_checkpoints(tmp_path: Path) -> None:
    found = examined(tmp_path)
    assert found["versions"][0]
    assert found["models"] == (
        False,
        f"{tmp_path} holds no checkpoint; put one there with `dragoman export RUN {tmp_path}/NAME`",
    )


def test_changed_settings_are_named(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAGOMAN_PRECISION", "bf16")
    found = examined(tiny_checkpoint)
    assert found["settings"] == (True, "precision bf16")
    assert found["device and precision"][1].startswith("cpu, bf16")


def test_an_unexpected_error_of_a_check_is_reported(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(package: str) -> str:
        raise RuntimeError(f"{package} is broken")

    monkeypatch.setattr("service.commands.doctor.version", missing)
    ok, detail = examined(tiny_checkpoint)["versions"]
    assert not ok
    assert "torch is broken; reinstall" in detail


def test_the_keys_file_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.json"
    monkeypatch.setenv("DRAGOMAN_KEYS_FILE", str(path))
    ok, detail = examined(tmp_path)["keys"]
    assert not ok
    assert "dragoman keys add" in detail
    assert cli.run(["keys", "add", str(path), "a"]) == 0
    assert cli.run(["keys", "add", str(path), "b", "--expires", "2020-01-01"]) == 0
    assert examined(tmp_path)["keys"] == (True, f"{path}: 1 in force, 1 expired")


def test_the_usage_file_is_checked_and_not_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kept" / "usage.db"
    monkeypatch.setenv("DRAGOMAN_USAGE_FILE", str(path))

    def usage() -> tuple[bool, str]:
        return examined(tmp_path)["usage"]

    ok, detail = usage()
    assert not ok
    assert "there is no folder" in detail
    path.parent.mkdir()
    assert usage() == (True, f"{path}: not there yet, can be made")
    assert not path.exists()
    counters = CounterStorage(path)
    for number in range(500):
        counters.incr(f"key {number}", 1000)
    assert usage() == (True, f"{path}: intact, counts: 500")  # beside the service
    counters.close()
    assert usage() == (True, f"{path}: intact, counts: 500")
    assert list(path.parent.iterdir()) == [path]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    for content in (path.read_bytes(), b"no database " * 1000):
        path.write_bytes(content)
        ok, detail = usage()
        assert not ok
        assert "put back a copy that is whole" in detail
        assert path.read_bytes() == content
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE counters (colour TEXT)")
    other.close()
    assert not usage()[0]


def test_folders_without_a_checkpoint_are_reported(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path / "en-de")
    (tmp_path / "zh-en").mkdir()
    assert cli.run(["doctor", str(tmp_path), "--port", "0"]) == 0
    output = capsys.readouterr().out
    assert (
        f"ok    folder zh-en: {tmp_path / 'zh-en'} is not served: it holds no config.json" in output
    )


def test_a_wrong_device_or_precision_is_found_at_the_start(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, words in (
        (["--device", "gpu"], "DRAGOMAN_DEVICE: not a device; use cpu"),
        (["--precision", "fp16"], "DRAGOMAN_PRECISION: Input should be 'auto'"),
        (["--device", "cuda:99"], "device 'cuda:99' was asked for, but torch sees"),
    ):
        assert cli.run(["serve", str(tiny_checkpoint), "--port", "0", *options]) == 1
        output = capsys.readouterr().err
        assert words in output
        assert "no model could be loaded" not in output
    monkeypatch.setenv("DRAGOMAN_DEVICE", "gpu")
    ok, detail = examined(tiny_checkpoint)["settings"]
    assert not ok
    assert "DRAGOMAN_DEVICE" in detail
