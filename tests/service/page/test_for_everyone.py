"""On phones, by keyboard, in light and dark, with a screen reader."""

import pytest
from selenium.webdriver.common.keys import Keys

from tests.service.page.browser import Page
from tests.service.page.conftest import press
from tests.service.page.server import PageServer


@pytest.mark.parametrize("width", [320, 360, 768])
def test_nothing_scrolls_sideways(page: Page, width: int) -> None:
    page.resize(width, 780)
    page.paste(
        "Donaudampfschifffahrtsgesellschaftskapitänsmütze" * 3 + " and many other words " * 5
    )
    page.until(lambda: page.all("#output .word"))
    for details in page.all("summary"):
        page.script("arguments[0].click()", details)
    for tab in ("text-tab", "file-tab"):
        press(page, tab)
        widths = page.script("return [document.documentElement.scrollWidth, innerWidth]")
        assert widths[0] <= widths[1] == width


def test_everything_by_keyboard_alone(page: Page) -> None:
    page.script("document.body.focus(); document.activeElement.blur()")
    page.by_id("source").send_keys("to type")
    page.shows("TO TYPE")
    wanted = page.script(
        "return [...document.querySelectorAll('button, select, a[href], textarea, summary')]"
        ".filter((e) => e.checkVisibility() && !e.disabled && e.tabIndex >= 0)"
        ".map((e) => e.id || e.textContent)"
    )
    reached = set()
    for _ in range(len(wanted) + 8):
        page.keys(Keys.TAB)
        if page.script("return document.activeElement === document.body"):
            continue  # past the last, the focus is the browser's before it comes back
        reached.add(page.script("const e = document.activeElement; return e.id || e.textContent"))
        ring = page.script("return getComputedStyle(document.activeElement).outlineStyle")
        assert ring != "none" or page.focused == "source"  # around its whole box
    assert set(wanted) <= reached

    page.script("document.getElementById('source').focus()")
    while "word" not in page.focused:
        page.keys(Keys.TAB)
    assert "“TO” comes from" in page.text("note")
    page.keys(Keys.END)
    assert "“TYPE” comes from" in page.text("note")
    page.script("document.getElementById('text-tab').focus()")
    page.keys(Keys.ARROW_RIGHT)
    assert page.focused == "file-tab"
    assert page.by_id("file-panel").is_displayed()


def test_light_dark_and_the_button_between(page: Page, served: PageServer) -> None:
    def ground() -> str:
        return str(page.script("return getComputedStyle(document.documentElement).backgroundColor"))

    def system(scheme: str) -> None:
        feature = {"name": "prefers-color-scheme", "value": scheme}
        page.command("Emulation.setEmulatedMedia", features=[feature])

    try:
        system("light")
        light = ground()
        system("dark")
        dark = ground()
        assert light != dark
        # The page hears of it by an event.
        page.until(lambda: page.by_id("theme").get_attribute("aria-pressed") == "true")
        press(page, "theme")
        page.until(lambda: ground() == light)
        page.chrome.get(served.url)
        assert ground() == light  # remembered
    finally:
        system("")


def test_detection_key_and_file_by_keyboard_alone(page: Page, served: PageServer) -> None:
    page.script("document.getElementById('source-language').focus()")
    page.keys(Keys.HOME)
    page.until(lambda: page.by_id("source-language").get_property("value") == "auto")
    page.type("Where is the railway station?")
    page.shows("WHERE IS THE RAILWAY STATION?")
    page.keys(Keys.ALT, "s")
    assert page.by_id("source-language").get_property("value") == "de"
    served.authentication.key = "right"
    page.keys("x")
    page.until(lambda: page.by_id("key").is_displayed())
    # Words take the focus only once they are shown; wherever it is, the key is before it.
    page.script("document.getElementById('clear').focus()")
    while page.focused != "key":
        page.keys(Keys.SHIFT, Keys.TAB)
    page.keys(f"right{Keys.ENTER}")
    page.until(lambda: not page.by_id("problem").is_displayed())
    assert page.focused == "source"
    served.authentication.key = None
