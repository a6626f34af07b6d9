"""When it does not work."""

import threading
import time

import pytest
from selenium.webdriver.common.keys import Keys

from service.errors import DeadlineExceeded, InvalidRequest, QueueFull, RequestTooLarge
from service.serving.registry import Registry
from tests.service.fakes import FakeTranslator, fake_model
from tests.service.page.browser import Page
from tests.service.page.conftest import SETTINGS, press, refused
from tests.service.page.server import PageServer, serve, word_by_word


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (QueueFull("the queue is full", retry_after_s=1), "The service is busy."),
        (RequestTooLarge("text has 9 characters, the limit is 5"), "the limit is 5."),
        (DeadlineExceeded("not done in time"), "This took too long."),
        (InvalidRequest("text cannot be cut into segments"), "text cannot be cut into segments."),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_is_shown_and_the_text_is_kept(
    page: Page, served: PageServer, error: Exception, sentence: str
) -> None:
    page.type("kept")
    page.shows("KEPT")
    served.faults.response = refused(error)
    page.type(" text")
    page.until(lambda: sentence in page.text("problem"))
    assert page.source == "kept text"
    assert "Your text is kept." in page.text("problem")
    assert page.text("output").strip() == "KEPT"
    assert page.by_id("stale").is_displayed()  # and all that belongs to it is gone
    assert not page.by_id("alternatives").is_displayed()
    assert not page.all("#attention-map td")
    served.faults.response = None
    if isinstance(error, QueueFull):
        assert "Trying again at " in page.text("problem")
    else:
        page.keys(Keys.CONTROL, Keys.ENTER)
    page.shows("KEPT TEXT")
    assert not page.by_id("problem").is_displayed()
    assert not page.by_id("stale").is_displayed()


def test_a_too_long_text_stays_and_the_old_translation_is_marked_stale(page: Page) -> None:
    page.paste("short")
    page.shows("SHORT")
    text = "long " * 101
    page.paste(text)
    page.until(lambda: "longer than 500 characters" in page.text("problem"))
    assert page.by_id("stale").is_displayed()
    press(page, "copy")
    page.until(lambda: page.text("note") == "Copied the translation of an earlier text.")
    page.keys(Keys.ALT, "s")  # what is shown is no translation of what would be replaced
    assert page.source == text
    page.keys(Keys.ALT, "s")
    page.paste("short")
    page.shows("SHORT")
    assert not page.by_id("stale").is_displayed()
    page.paste(text)
    page.until(lambda: page.by_id("stale").is_displayed())
    press(page, "clear")
    page.shows("")
    assert not page.by_id("stale").is_displayed()
    assert not page.by_id("problem").is_displayed()


def test_the_pause_asked_for_is_kept_while_typing_on(page: Page, served: PageServer) -> None:
    served.faults.response = refused(QueueFull("full", retry_after_s=60))
    page.type("one")
    page.until(lambda: "Trying again at " in page.text("problem"))
    asked = page.num_requests("/v1/translate")
    page.type(" more")
    time.sleep(0.4)
    assert page.num_requests("/v1/translate") == asked
    served.faults.response = None
    page.keys(Keys.CONTROL, Keys.ENTER)  # people may
    page.shows("ONE MORE")


def test_models_are_requested_again_when_a_user_types(page: Page, served: PageServer) -> None:
    served.authentication.key = "right"
    page.chrome.refresh()
    page.until(lambda: "needs an API key" in page.text("problem"))
    served.authentication.key = None
    page.type("word")
    page.until(lambda: page.text("output") == "WORD")


def test_models_are_requested_again_after_a_failure(page: Page, served: PageServer) -> None:
    asked = page.num_requests("/v1/models")
    served.faults.response = refused(QueueFull("full", retry_after_s=1))
    page.type("word")
    page.until(lambda: "busy" in page.text("problem"))
    served.faults.response = None
    page.shows("WORD")
    page.until(lambda: page.num_requests("/v1/models") == asked + 1)
    page.type("s")
    page.shows("WORDS")
    assert page.num_requests("/v1/models") == asked + 1
    assert not page.by_id("problem").is_displayed()


def test_a_broken_network_is_reported_and_retried(page: Page) -> None:
    page.network(offline=True)
    try:
        page.type("kept")
        page.until(lambda: "cannot be reached" in page.text("problem"))
        assert page.source == "kept"
    finally:
        page.network(offline=False)
    page.shows("KEPT")


def test_models_that_still_load_are_waited_for(window: Page) -> None:
    loaded = threading.Event()

    def wait_for_loading() -> None:
        loaded.wait()

    model = fake_model(
        "en-de", SETTINGS, translator=FakeTranslator(answer=word_by_word), before=wait_for_loading
    )
    try:
        with serve(Registry([model]), SETTINGS, wait=False) as server:
            window.chrome.get(server.url)
            window.until(lambda: "still loading" in window.text("problem"))
            window.type("early")
            loaded.set()
            window.shows("EARLY")
            assert not window.by_id("problem").is_displayed()
    finally:
        loaded.set()
