"""Taking a translation elsewhere: copy, link, command line."""

import json
import shutil
import subprocess

import pytest

from tests.service.page.browser import Page
from tests.service.page.conftest import choose, languages, press
from tests.service.page.server import PageServer


def clipboard(page: Page, served: PageServer) -> str:
    page.command(
        "Browser.grantPermissions",
        origin=served.url,
        permissions=["clipboardReadWrite", "clipboardSanitizedWrite"],
    )
    return str(
        page.chrome.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "navigator.clipboard.readText().then(done, (error) => done(String(error)))"
        )
    )


@pytest.mark.parametrize("with_clipboard", [True, False], ids=["clipboard", "plain HTTP"])
def test_copy(page: Page, served: PageServer, with_clipboard: bool) -> None:
    page.paste("one\ntwo")
    page.shows("ONE\nTWO")
    if not with_clipboard:
        page.script("navigator.clipboard.writeText = () => Promise.reject(new Error('insecure'))")
    press(page, "copy")
    page.until(lambda: page.text("note") == "Copied.")
    assert clipboard(page, served) == "ONE\nTWO"


def test_a_link_restores_the_state(page: Page, served: PageServer) -> None:
    text = "50 % of A&B = #1, 👍\nnew line + plus"
    choose(page, "en", "sv")
    page.paste(text)
    page.shows(text)
    press(page, "share")
    page.until(lambda: "Link copied" in page.text("note"))
    link = clipboard(page, served)
    assert link == page.chrome.current_url
    assert link.startswith(served.url + "#")  # the text is behind the #: it is sent to no server
    page.open(link)
    page.shows(text)
    assert page.source == text
    assert languages(page) == ("en", "sv")
    page.type("x")
    assert "#" not in page.chrome.current_url


def test_the_shown_command_works(page: Page) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    text = """It's "$HOME" \\ `x` & 'y'\nsecond"""
    page.paste(text)
    page.shows(text.upper())
    page.all("#call summary")[0].click()
    command = page.until(lambda: page.text("curl"))
    answer = subprocess.run(["sh", "-c", command], capture_output=True, check=True, timeout=20)
    assert json.loads(answer.stdout)["translations"][0]["text"] == text.upper()
