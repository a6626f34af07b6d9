"""A headless Chromium, and the page as a person at it sees it."""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

Value = TypeVar("Value")

WAIT_S = 15.0
_UNFINISHED = (".crdownload", ".tmp", "")  # names of downloads that are not whole yet


@contextlib.contextmanager
def chromium() -> Iterator[webdriver.Chrome]:
    """The machine's own browser and driver; skips the test where there is none."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in (
        "--headless=new",
        "--no-sandbox",  # CI runs as root
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--lang=en",
        "--window-size=1200,900",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        chrome.set_page_load_timeout(30)
        chrome.set_script_timeout(30)
        yield chrome
    finally:
        chrome.quit()


class Page:
    """The page in a browser, by what is on it."""

    def __init__(self, chrome: webdriver.Chrome) -> None:
        self.chrome = chrome
        self.wait_s = WAIT_S

    def open(self, url: str, **remembered: str) -> "Page":
        """A fresh page: nothing remembered but what is given, languages filled in."""
        self.wait_s = WAIT_S
        origin = "/".join(url.split("/")[:3])
        if not self.chrome.current_url.startswith(origin):
            self.chrome.get(url)  # what is remembered belongs to where it was
        self.script(
            "localStorage.clear(); sessionStorage.clear();"
            "Object.assign(localStorage, arguments[0])",
            remembered,
        )
        self.chrome.get("about:blank")  # else another # of the same address loads nothing
        self.chrome.get(url)
        self.until(lambda: self.by_id("source-language").get_attribute("value"))
        return self

    def by_id(self, name: str) -> WebElement:
        return self.chrome.find_element(By.ID, name)

    def all(self, selector: str) -> list[WebElement]:
        return self.chrome.find_elements(By.CSS_SELECTOR, selector)

    def script(self, code: str, *arguments: object) -> Any:
        return self.chrome.execute_script(code, *arguments)

    def command(self, name: str, **parameters: object) -> Any:
        """One of the browser's own commands (DevTools protocol)."""
        return self.chrome.execute_cdp_cmd(name, parameters)

    def until(self, condition: Callable[[], Value]) -> Value:
        """The first true value of `condition`."""
        deadline = time.monotonic() + self.wait_s
        while not (value := condition()):
            assert time.monotonic() < deadline, f"not within {self.wait_s:g} s; {self.says()!r}"
            time.sleep(0.02)
        return value

    def says(self) -> str:
        """All sentences that the page tells at the moment."""
        return " ".join(
            self.text(name) for name in ("problem", "warnings", "note", "doubts", "file-note")
        )

    def text(self, name: str) -> str:
        return str(self.script("return document.getElementById(arguments[0]).textContent", name))

    @property
    def source(self) -> str:
        return str(self.by_id("source").get_property("value"))

    def type(self, text: str) -> None:
        self.by_id("source").send_keys(text)

    def paste(self, text: str) -> None:
        """Replaces the text at once; also what has no key, such as emoji."""
        self.script(
            "const area = document.getElementById('source'); area.value = arguments[0];"
            "area.dispatchEvent(new Event('input', {bubbles: true}))",
            text,
        )

    def shows(self, text: str) -> None:
        """Waits until `text` is the translation on the page."""
        self.until(lambda: self.text("output") == text and not self.busy)

    def hurry(self) -> None:
        """Makes the page's pauses a tenth as long, until it is opened anew."""
        self.script(
            "const set = window.setTimeout;"
            "window.setTimeout = (done, ms, ...rest) => set(done, ms / 10, ...rest);"
        )

    @property
    def busy(self) -> bool:
        return self.by_id("result").get_attribute("aria-busy") == "true"

    def num_requests(self, path: str) -> int:
        """How often the page has asked for `path` since it was opened."""
        return int(
            self.script(
                "return performance.getEntriesByType('resource')"
                ".filter(({name}) => new URL(name).pathname === arguments[0]).length",
                path,
            )
        )

    def keys(self, *keys: str) -> None:
        """Presses `keys` wherever the focus is; all but the last are held."""
        chain = ActionChains(self.chrome)
        for key in keys[:-1]:
            chain.key_down(key)
        chain.send_keys(keys[-1])
        for key in reversed(keys[:-1]):
            chain.key_up(key)
        chain.perform()

    @property
    def focused(self) -> str:
        """The id of the element with the focus, or its class."""
        return str(self.script("const e = document.activeElement; return e.id || e.className"))

    def resize(self, width: int, height: int) -> None:
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )

    def network(self, *, offline: bool) -> None:
        """Pulls the plug of the page, or puts it back."""
        self.command("Network.enable")
        self.command("Network.emulateNetworkConditions", offline=offline, latency=0,
                     downloadThroughput=-1, uploadThroughput=-1)  # fmt: skip

    def drop_file(self, name: str, content: str) -> None:
        """Drops a file made up in the browser, whose name no file system would have to accept."""
        self.script(
            "const data = new DataTransfer();"
            "data.items.add(new File([arguments[1]], arguments[0]));"
            "document.getElementById('drop').dispatchEvent("
            "new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}))",
            name,
            content,
        )

    def downloads(self, folder: Path) -> bytes:
        """What the download link gives."""
        self.command("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        self.by_id("download").click()
        (path,) = self.until(
            lambda: [file for file in folder.iterdir() if file.suffix not in _UNFINISHED]
        )
        return path.read_bytes()
