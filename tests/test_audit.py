"""The audit of dependencies: its requests, and how it reads the answers."""

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def audit() -> ModuleType:
    path = Path(__file__).parents[1] / ".ci" / "audit.py"
    spec = importlib.util.spec_from_file_location("audit", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answer(monkeypatch: pytest.MonkeyPatch, audit: ModuleType, stdout: str) -> None:
    done = subprocess.CompletedProcess([], 0, stdout=stdout, stderr="no network")
    monkeypatch.setattr(audit.subprocess, "run", lambda *_, **__: done)


def test_it_asks_for_exact_versions(audit: ModuleType) -> None:
    for versions in (audit.pinned(), audit.oldest()):
        assert len(versions) > 20
        assert all(version.count("==") == 1 for version in versions)
        assert not any(sign in version for version in versions for sign in " [>;")
    pinned = {version.partition("==")[0] for version in audit.pinned()}
    assert {version.partition("==")[0] for version in audit.oldest()} <= pinned


def test_a_vulnerability_fails(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(
        monkeypatch,
        audit,
        '{"dependencies": [{"name": "h11", "version": "0.14", "vulns": [{"id": "PYSEC-1", '
        '"aliases": ["CVE-2025-43859"], "fix_versions": ["0.16.0"]}]}]}',
    )
    assert audit.main() == 1
    output = capsys.readouterr().err
    assert "h11 0.14: PYSEC-1, CVE-2025-43859; fixed in 0.16.0" in output


@pytest.mark.parametrize(
    "stdout", ["", '{"dependencies": [{"name": "h11", "skip_reason": "not found"}]}']
)
def test_a_service_out_of_reach_does_not(
    audit: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stdout: str,
) -> None:
    answer(monkeypatch, audit, stdout)
    assert audit.main() == 0
    assert "could not be looked up" in capsys.readouterr().out
