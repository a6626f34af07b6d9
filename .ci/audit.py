"""Known vulnerabilities, by pip-audit: of the pinned versions, and of the oldest that are allowed.

A vulnerability fails; an advisory service that cannot be reached is told and does not.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

LIMIT_S = 300  # for a network that swallows what is sent
REPOSITORY = Path(__file__).resolve().parent.parent


def pinned() -> list[str]:
    """The versions that a checkout installs."""
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def oldest() -> list[str]:
    """The lower bounds of what is installed to serve or to train."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [
        *project["dependencies"],
        *(line for name in sorted(extras) if name != "dev" for line in extras[name]),
    ]
    return [re.sub(r"\[.*?\]", "", line).replace(">=", "==") for line in wanted]


def audit(versions: Sequence[str]) -> dict[str, object]:
    """pip-audit's own report; empty where it could not make one."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write("\n".join(versions))
        file.flush()
        options = ["--disable-pip", "--no-deps", "--progress-spinner=off", "--format=json"]
        command = [sys.executable, "-m", "pip_audit", *options, "--requirement", file.name]
        try:
            run = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=LIMIT_S
            )
            report = json.loads(run.stdout)
        except (subprocess.TimeoutExpired, json.JSONDecodeError):
            return {}
    assert isinstance(report, dict)
    return report


def findings(report: dict[str, object]) -> tuple[int, list[str]]:
    """How many packages were looked up, and a line for each vulnerability."""
    looked_up, lines = 0, []
    dependencies = report.get("dependencies", [])
    assert isinstance(dependencies, list)
    for package in dependencies:
        if "skip_reason" in package:  # the service does not know it, or nothing at all
            continue
        looked_up += 1
        lines += list(_lines(package))
    return looked_up, lines


def _lines(package: dict[str, object]) -> Iterator[str]:
    vulnerabilities = package["vulns"]
    assert isinstance(vulnerabilities, list)
    for each in vulnerabilities:
        names = ", ".join([each["id"], *each.get("aliases", [])])
        fixed = ", ".join(each.get("fix_versions", [])) or "no version"
        yield f"{package['name']} {package['version']}: {names}; fixed in {fixed}"


def main() -> int:
    """1 when a vulnerability is known."""
    status = 0
    for title, versions in (("pinned", pinned()), ("oldest allowed", oldest())):
        looked_up, lines = findings(audit(versions))
        for line in lines:
            print(f"error: {title}: {line}", file=sys.stderr)
            status = 1
        if looked_up < len(versions):
            print(
                f"audit: {title}: {len(versions) - looked_up} of {len(versions)} versions could "
                "not be looked up (is the advisory service in reach?)"
            )
        if looked_up and not lines:
            print(f"audit: {title}: {looked_up} versions, no known vulnerability")
    return status


if __name__ == "__main__":
    sys.exit(main())
