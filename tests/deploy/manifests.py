"""The files under deploy/ and the Dockerfile, read for tests."""

import importlib.util
import tomllib
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


def read_yaml(path: str) -> dict[str, Any]:
    """One document of a file under deploy/."""
    document = yaml.safe_load((DEPLOY / path).read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


def dockerfile() -> dict[str, str]:
    """Instruction -> what follows it; of several, the last."""
    path = ROOT / ".ci" / "dockerfile_steps.py"
    spec = importlib.util.spec_from_file_location("dockerfile_steps", path)
    assert spec is not None
    assert spec.loader is not None
    steps = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(steps)
    return dict(steps.instructions((ROOT / "Dockerfile").read_text(encoding="utf-8")))
