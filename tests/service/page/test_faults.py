"""When it does not work."""

import threading

import pytest
from selenium.webdriver.common.keys import Keys

from service.errors import DeadlineExceeded, InvalidRequest, QueueFull, RequestTooLarge
from service.registry import Registry
from tests.service.fakes import FakeTranslator, fake_model
from tests.service.page.browser import Page
from tests.service.page.conftest import SETTINGS, refused
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
def test_a_refusal_is_told_and_keeps_the_text(
    page: Page, served: PageServer, error: Exception, sentence: str
) -> None:
    page.type("kept")
    page.shows("KEPT")
    served.faults.response = refused(error)
    page.type(" text")
    page.until(lambda: sentence in page.text("problem"))
    assert page.source == "kept text"
    assert page.text("output") == "KEPT"
    assert "Your text is kept." in page.text("problem")
    served.faults.response = None
    if isinstance(error, QueueFull):
        assert "Trying again in 1 s." in page.text("problem")
    else:
        page.keys(Keys.CONTROL, Keys.ENTER)
    page.shows("KEPT TEXT")
    assert not page.by_id("problem").is_displayed()


def test_a_broken_network_is_told_and_mended(page: Page) -> None:
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
