"""Checks each state of the page with axe-core, which must find no violation."""

import shutil
import subprocess
from typing import Any

import pytest

from service.errors import InvalidRequest
from tests.service.page.browser import Page
from tests.service.page.conftest import choose, press, refused
from tests.service.page.server import PageServer

AXE_VERSION = "4.14.1"


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The accessibility checker, fetched where there is npm and a network; else skips."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm, to fetch axe-core")
    folder = tmp_path_factory.mktemp("axe")
    package = folder / f"axe-core-{AXE_VERSION}.tgz"
    try:
        subprocess.run(
            ["npm", "pack", "--silent", f"axe-core@{AXE_VERSION}"],
            cwd=folder, check=True, capture_output=True, timeout=60,
        )  # fmt: skip
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip("axe-core could not be fetched")
    shutil.unpack_archive(package, folder, filter="data")
    return (folder / "package" / "axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_has_no_serious_finding(page: Page, served: PageServer, axe: str, scheme: str) -> None:
    page.command(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
    )
    page.type("some RARE word")
    page.shows("SOME RARE WORD")
    press(page, "confidence")
    for details in page.all("summary"):
        details.click()
    page.all("#output .word")[1].click()
    findings = run_axe(page, axe)
    press(page, "file-tab")
    page.drop_file("a.txt", "one\n")
    page.until(lambda: page.text("file-note") == "Done: 1 line.")
    findings += run_axe(page, axe)
    served.authentication.key = "right"
    page.drop_file("b.srt", "1\n00:00:01,000 --> 00:00:02,000\ntext\n")
    page.until(lambda: page.by_id("key").is_displayed())
    findings += run_axe(page, axe)
    served.authentication.key = None
    press(page, "text-tab")
    served.faults.response = refused(InvalidRequest("it is wrong"))
    page.type("x")
    page.until(lambda: page.by_id("problem").is_displayed())
    findings += run_axe(page, axe)
    served.faults.response = None
    choose(page, "auto", "de")
    page.paste("Where is it? " + "Again " * 5)
    page.until(lambda: "repeats" in page.text("warnings") and page.text("detected"))
    findings += run_axe(page, axe)
    page.command("Emulation.setEmulatedMedia", features=[])
    assert findings == []


def run_axe(page: Page, axe: str) -> list[Any]:
    page.script(axe)
    results = page.chrome.execute_async_script(
        "const done = arguments[arguments.length - 1]; axe.run().then(done)"
    )
    return [
        (finding["id"], finding["impact"], [node["html"] for node in finding["nodes"]])
        for finding in results["violations"]
        if finding["impact"] in ("serious", "critical")
    ]
