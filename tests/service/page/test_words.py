"""Where words come from, and how sure they are."""

from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from tests.service.page.browser import Page
from tests.service.page.conftest import choose, press


def test_a_clicked_word_shows_where_it_comes_from(page: Page) -> None:
    page.paste("first line here\nthen comes RARE (yes).")
    page.shows("FIRST LINE HERE\nTHEN COMES RARE (YES).")
    words = {word.text: word for word in page.all("#output .word")}
    words["COMES"].click()
    assert [mark.get_attribute("textContent") for mark in page.all("#marks mark")] == ["comes"]
    assert page.text("note") == "“COMES” comes from “comes” 100\u00a0%. Confidence 90\u00a0%."
    page.keys(Keys.ARROW_RIGHT)  # focus does what a click does
    assert [mark.get_attribute("textContent") for mark in page.all("#marks mark")] == ["RARE"]
    assert "Confidence 5\u00a0%" in page.text("note")
    page.type("!")
    assert page.all("#marks mark") == []  # of a text that is no more


def test_the_marks_lie_exactly_under_their_words(page: Page) -> None:
    page.paste("a fairly long text that needs more than a single line to be shown " * 3)
    page.until(lambda: page.all("#output .word"))
    boxes = page.script(
        "return ['marks', 'source'].map((id) => { const e = document.getElementById(id);"
        "const s = getComputedStyle(e); const r = e.getBoundingClientRect();"
        "return [r.x, r.y, r.width, r.height, s.font, s.padding, s.letterSpacing, s.wordSpacing] })"
    )
    assert boxes[0] == boxes[1]


def test_doubtful_words_are_shaded_and_named(page: Page) -> None:
    page.type("some RARE word")
    page.shows("SOME RARE WORD")
    assert not page.by_id("doubts").is_displayed()
    press(page, "confidence")
    assert page.by_id("confidence").get_attribute("aria-pressed") == "true"
    assert page.text("doubts") == "Less sure: “RARE” 5\u00a0%."
    levels = [word.get_attribute("data-level") for word in page.all("#output .word")]
    assert levels == ["sure", "doubtful", "sure"]


def test_the_heat_map_has_a_row_a_word_that_sums_to_one(page: Page) -> None:
    page.type("we see three")
    page.shows("WE SEE THREE")
    page.all("#attention summary")[0].click()
    page.until(lambda: page.all("#attention-map tbody tr"))
    shown = page.script(
        "return [...document.querySelectorAll('#attention-map tbody tr')].map("
        "(row) => [...row.cells].map((cell) => cell.textContent))"
    )
    assert shown == [
        ["WE", "100", "0", "0", "0"],
        ["SEE", "0", "100", "0", "0"],
        ["THREE", "0", "0", "100", "0"],
    ]


@pytest.mark.parametrize(
    ("source", "target", "source_pieces", "target_pieces", "rows", "expected"),
    [
        # two pieces a word on both sides: columns are added, rows averaged
        ("ab cd", "xy z", ["▁a", "b", "▁cd"], ["▁x", "y", "▁z"],
         [[0.5, 0.1, 0.2, 0.2], [0.1, 0.1, 0.6, 0.2], [0, 0, 1, 0], [0, 0, 0, 1]],
         [[0.4, 0.4, 0.2], [0, 1, 0]]),
        # the normalised source is longer than the source
        ("ﬁn x", "a", ["▁fin", "▁x"], ["▁a"], [[0.7, 0.2, 0.1], [0, 0, 1]], [[0.7, 0.2, 0.1]]),
        # a letter the vocabulary lacks, as its UTF-8 bytes
        ("é x", "a", ["▁", "<0xC3>", "<0xA9>", "▁x"], ["▁a"],
         [[0.1, 0.2, 0.3, 0.3, 0.1], [0, 0, 0, 0, 1]], [[0.6, 0.3, 0.1]]),
        # no spaces: a piece over two words is shared by its letters
        ("a b", "x", ["▁a", "▁b"], ["▁x"], [[0.25, 0.75, 0], [0, 0, 1]], [[0.25, 0.75, 0]]),
    ],
)  # fmt: skip
def test_pieces_become_words(
    page: Page, source: str, target: str, source_pieces: Any, target_pieces: Any,
    rows: Any, expected: list[list[float]],
) -> None:  # fmt: skip
    segment = {
        "source": source,
        "text": target,
        "source_pieces": source_pieces,
        "target_pieces": target_pieces,
        "alignment": rows,
    }
    words = page.chrome.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "const path = document.querySelector('script[type=module]').src;"
        "import(new URL('words.js', path)).then(({wordsOf}) => done(wordsOf(arguments[0],"
        "{text: arguments[1], segments: [arguments[2]]}, {source: 'en', target: 'de'})))",
        source, target, segment,
    )  # fmt: skip
    weights = [word["weights"] for word in words[0]["targets"]]
    assert weights == [pytest.approx(row) for row in expected]


def test_signs_of_a_bad_translation_are_shown_as_a_sentence(page: Page) -> None:
    assert page.by_id("warnings").get_attribute("role") == "status"
    choose(page, "en", "sv")  # this model repeats its input
    page.type("word")
    page.shows("word")
    assert page.text("warnings") == "Check this translation: it is your text, unchanged."
    choose(page, "en", "de")
    page.shows("WORD")
    assert page.text("warnings") == ""
    page.paste("again " * 5)
    page.until(lambda: "it repeats itself" in page.text("warnings"))
    page.paste("")
    page.until(lambda: page.text("warnings") == "")


def test_words_that_the_model_was_unsure_of_are_named_and_marked(page: Page) -> None:
    page.paste("a RARE word, RAREST too")
    page.shows("A RARE WORD, RAREST TOO")
    assert page.text("warnings") == (
        "Check this translation: the model was unsure of “RARE”, “RAREST”."
    )
    assert [word.get_attribute("textContent") for word in page.all("#output .doubted")] == [
        "RARE",
        "RAREST",
    ]
    page.paste("a word")
    page.shows("A WORD")
    assert page.text("warnings") == ""
    assert page.all("#output .doubted") == []


def test_of_a_long_text_it_says_that_some_word_was_unsure(window: Page) -> None:
    said = window.chrome.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "const path = document.querySelector('script[type=module]').src;"
        "import(new URL('output.js', path)).then(({warningOf}) => done(warningOf(['unsure'], [])))"
    )
    assert said == "Check this translation: the model was unsure of a word."
