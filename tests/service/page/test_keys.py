"""A service that needs an API key."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.responses import HTMLResponse, JSONResponse
from selenium.webdriver.common.keys import Keys

from tests.service.page.browser import Page
from tests.service.page.conftest import choose, press
from tests.service.page.server import PageServer

KEY = "dgm_right'$x"


@pytest.fixture
def locked(page: Page, served: PageServer) -> Iterator[Page]:
    """The page of a service that wants KEY for everything."""
    served.authentication.key = KEY
    page.chrome.refresh()
    page.until(lambda: "needs an API key" in page.text("problem"))
    yield page
    served.authentication.key = None


def enter(page: Page, key: str) -> None:
    page.by_id("key").send_keys(key, Keys.ENTER)


def test_a_service_without_keys_shows_no_key_field(page: Page) -> None:
    page.type("word")
    page.shows("WORD")
    assert not page.by_id("key").is_displayed()


def test_entering_a_key_continues_with_the_typed_text(locked: Page) -> None:
    page = locked
    page.type("typed before")
    assert page.by_id("key").is_displayed()
    enter(page, "wrong")
    page.until(lambda: "refused the API key: the key does not fit." in page.text("problem"))
    assert page.source == "typed before"
    assert page.focused == "key"
    enter(page, f"  {KEY} ")
    page.shows("TYPED BEFORE")
    assert page.focused == "source"
    assert not page.by_id("key").is_displayed()
    assert not page.by_id("problem").is_displayed()
    choose(page, "auto", "de")  # detection is another API with the same key
    page.until(lambda: page.text("detected"))
    page.shows("TYPED BEFORE")


def test_a_key_is_kept_for_the_tab_and_shown_nowhere(locked: Page, served: PageServer) -> None:
    page = locked
    enter(page, KEY)
    page.type("word")
    page.shows("WORD")
    press(page, "share")
    assert KEY not in page.chrome.current_url
    assert KEY not in page.script("return document.documentElement.outerHTML")
    assert KEY not in page.script("return JSON.stringify(localStorage)")
    assert page.by_id("key").get_property("value") == ""
    page.chrome.refresh()
    page.shows("WORD")
    page.all("#call summary")[0].click()
    command = page.until(lambda: page.text("curl"))
    assert KEY not in command
    if shutil.which("curl") is not None:
        answer = subprocess.run(
            ["sh", "-c", command],
            env={**os.environ, "DRAGOMAN_KEY": KEY},
            capture_output=True,
            check=True,
            timeout=20,
        )
        assert b'"WORD"' in answer.stdout


def test_typing_spares_the_key(locked: Page) -> None:
    page = locked
    enter(page, KEY)
    page.until(lambda: not page.by_id("problem").is_displayed())
    for part in ("some", " words", " more"):
        page.type(part)
        time.sleep(0.4)  # a pause between words
    assert page.num_requests("/v1/translate") == 0
    page.keys(Keys.CONTROL, Keys.ENTER)
    page.shows("SOME WORDS MORE")
    page.type("!")
    page.shows("SOME WORDS MORE!")  # by itself
    assert page.num_requests("/v1/translate") == 2


@pytest.mark.parametrize("name", ["a.txt", "a.html"])
def test_a_file_goes_on_once_the_key_is_there(
    page: Page, served: PageServer, tmp_path: Path, name: str
) -> None:
    served.authentication.key = KEY
    press(page, "file-tab")
    page.drop_file(name, "<p>one\ntwo")
    page.until(lambda: "needs an API key" in page.text("file-note"))
    enter(page, KEY)
    page.until(lambda: page.text("file-note").startswith("Done"))
    assert page.downloads(tmp_path) in (b"<P>ONE\nTWO", b"<p>ONE\nTWO")
    served.authentication.key = None


def refusal(status: int, code: str, retry_after_s: int) -> JSONResponse:
    error = {"code": code, "message": "the day's characters are used up"}
    headers = {"Retry-After": str(retry_after_s)} if retry_after_s else None
    return JSONResponse({"error": error}, status, headers)


@pytest.mark.parametrize(
    ("status", "code", "retry_after_s", "sentences"),
    [
        (429, "rate_limited", 1, ["too many texts in a short time", "Trying again at "]),
        (429, "rate_limited", 600, ["too many texts in a short time", "Try again in 10 minutes."]),
        (403, "quota_exceeded", 0, ["This exceeds the quota of the API key: the day's char"]),
    ],
)
def test_errors_about_a_keys_limits_are_shown(
    page: Page, served: PageServer, status: int, code: str, retry_after_s: int, sentences: list[str]
) -> None:
    served.authentication.key = KEY
    page.type("x")
    page.until(lambda: page.by_id("key").is_displayed())
    enter(page, KEY)
    page.shows("X")
    served.faults.response = refusal(status, code, retry_after_s)
    page.type(" kept")
    for sentence in sentences:
        page.until(lambda sentence=sentence: sentence in page.text("problem"))  # type: ignore[misc]
    assert page.source == "x kept"
    assert page.by_id("key").is_displayed() == (status == 403)  # another key may help
    assert page.focused == "source"
    asked = page.num_requests("/v1/translate")
    served.faults.response = None
    if retry_after_s == 1:
        page.shows("X KEPT")
        return
    assert page.by_id("translate").is_displayed()  # people may try
    page.type(" on")
    choose(page, "en", "sv")
    time.sleep(1.4)
    assert page.num_requests("/v1/translate") == asked
    assert page.by_id("stale").is_displayed()
    if status == 403:
        page.paste("short")  # which the rest of the quota may be enough for
        page.shows("short")
    else:
        press(page, "translate")
        page.shows("x kept on")
    served.authentication.key = None


@pytest.mark.parametrize(
    ("name", "status", "body", "sentence"),
    [
        (
            "a.txt",
            403,
            {"error": {"code": "quota_exceeded", "message": "9 characters left until 2026-12-01"}},
            "This exceeds the quota of the API key: 9 characters left until 2026-12-01.",
        ),
        (
            "a.html",
            403,
            {"error": "the key's quota of 60 characters a month has 9 left"},
            "This exceeds the quota of the API key: the key's quota",
        ),
        (
            "a.html",
            429,
            {"error": "more texts than the rate of 5/day allows; wait"},
            "too many texts in a short time. Try again in 12 hours.",
        ),
        ("a.html", 429, {"error": "the queue is full"}, "is busy. Try again in 12 hours."),
    ],
)
def test_a_file_does_not_wait_for_hours(
    page: Page, served: PageServer, name: str, status: int, body: object, sentence: str
) -> None:
    headers = {"Retry-After": "40000"} if status == 429 else None
    served.faults.response = JSONResponse(body, status, headers)
    press(page, "file-tab")
    page.drop_file(name, "one\n")
    page.until(lambda: sentence in page.text("file-note"))
    page.until(lambda: page.text("stop") == "Continue into German")
    served.faults.response = None
    press(page, "stop")
    page.until(lambda: page.text("file-note").startswith("Done"))


def test_a_refusal_by_a_proxy_does_not_show_the_key_field(page: Page, served: PageServer) -> None:
    served.faults.response = HTMLResponse("<h1>Forbidden</h1>", 403)
    page.type("word")
    page.until(lambda: "the server answered 403." in page.text("problem"))
    assert not page.by_id("key").is_displayed()
