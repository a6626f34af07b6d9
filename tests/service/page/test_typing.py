"""From typing to a translation."""

import time

import httpx
import pytest
from selenium.webdriver.common.keys import Keys

from tests.service.page.browser import Page
from tests.service.page.conftest import SETTINGS, press
from tests.service.page.server import PageServer


def test_typing_translates(page: Page) -> None:
    page.type("two small words")
    page.shows("TWO SMALL WORDS")
    page.type(" more")
    page.shows("TWO SMALL WORDS MORE")
    assert page.text("spoken") == "TWO SMALL WORDS MORE"  # for screen readers
    assert page.by_id("output").get_attribute("lang") == "de"


def test_line_breaks_and_spaces_stay(page: Page) -> None:
    page.paste("one\n\n  two \n")
    page.shows("ONE\n\n  TWO \n")


def test_the_last_request_wins_and_earlier_ones_are_stopped(page: Page, served: PageServer) -> None:
    translator = served.translators["en-de"]
    num_cancelled = len(translator.cancelled)
    translator.running.clear()
    try:
        page.paste("first " * 60)  # a step a word: it would still be at work by then
        page.until(lambda: translator.num_waiting or translator.busy)
        page.paste("second")
        time.sleep(0.4)
    finally:
        translator.running.set()
    page.shows("SECOND")
    page.until(lambda: len(translator.cancelled) > num_cancelled)
    time.sleep(0.3)
    page.shows("SECOND")


def test_the_same_text_is_not_requested_twice(page: Page) -> None:
    page.type("word")
    page.shows("WORD")
    page.type(" \n")
    page.shows("WORD \n")
    page.type(Keys.BACKSPACE * 2 + "x" + Keys.BACKSPACE)
    page.shows("WORD")
    page.keys(Keys.CONTROL, Keys.ENTER)
    time.sleep(0.3)
    assert page.num_requests("/v1/translate") == 1
    page.all("#output .word")[0].click()
    assert "“WORD” comes from" in page.text("note")


def test_typing_alone_translates_nothing_where_that_is_switched_off(page: Page) -> None:
    page.type("one")
    page.shows("ONE")
    assert not page.by_id("translate").is_displayed()
    press(page, "live")
    page.type(" two")
    assert page.by_id("stale").is_displayed()
    time.sleep(0.3)
    assert page.num_requests("/v1/translate") == 1
    press(page, "translate")
    page.shows("ONE TWO")
    assert not page.by_id("stale").is_displayed()
    page.chrome.refresh()
    page.until(lambda: page.by_id("translate").is_displayed())  # remembered
    page.type("three")
    press(page, "live")
    page.shows("THREE")


def test_results_of_an_earlier_text_turn_faint_at_once(page: Page, served: PageServer) -> None:
    def colours() -> set[str]:
        return set(
            page.script(
                "return ['#output', '#warnings', '#doubts', '#alternatives li'].map((part) =>"
                " getComputedStyle(document.querySelector(part)).color)"
            )
        )

    press(page, "confidence")
    page.paste("again " * 5)
    page.until(lambda: "it repeats itself" in page.text("warnings"))
    assert len(colours()) > 1
    faint = page.script("return getComputedStyle(document.getElementById('count')).color")
    translator = served.translators["en-de"]
    translator.running.clear()
    try:
        page.type("x")
        assert page.busy  # though nothing is asked yet
        page.until(lambda: colours() == {faint})
    finally:
        translator.running.set()
    page.until(lambda: not page.busy)


def test_an_emptied_box_empties_the_other(page: Page) -> None:
    page.type("word")
    page.shows("WORD")
    press(page, "clear")
    page.shows("")
    assert page.focused == "source"
    page.keys(Keys.CONTROL, "z")
    assert page.source == "word"
    page.shows("WORD")
    press(page, "swap")
    assert page.source == "WORD"
    page.by_id("source").send_keys(Keys.CONTROL, "z")
    assert page.source == "word"


def test_alternatives_differ_from_the_translation(page: Page) -> None:
    page.type("word")
    page.until(lambda: [li.text for li in page.all("#alternatives li")] == [
        "WORD (1)", "WORD (2)", "WORD (3)",
    ])  # fmt: skip


@pytest.mark.parametrize(
    "text", ["plain", "e\u0301 👍🏽 👩‍👩‍👧 日本", "\U0001f600" * 7, "a\nb\tc "]
)
def test_the_counter_counts_as_the_service_does(page: Page, served: PageServer, text: str) -> None:
    exact = text + "x" * (SETTINGS.max_characters - len(text))
    for content, status in ((exact, 200), (exact + "x", 413)):
        body = {"text": content, "source": "en", "target": "de"}
        assert httpx.post(f"{served.url}v1/translate", json=body).status_code == status
        page.paste(content)
        assert page.text("count") == f"{len(content)} / 500"
        is_over = "over" in str(page.by_id("count").get_attribute("class"))
        assert is_over == (status == 413)
    page.until(lambda: "longer than 500 characters" in page.text("problem"))
    assert page.source == exact + "x"
