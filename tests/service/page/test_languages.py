"""Choosing, detecting and swapping languages."""

from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from tests.service.fakes import fake_registry
from tests.service.page.browser import Page
from tests.service.page.conftest import SETTINGS, choose, languages, press
from tests.service.page.server import PageServer, serve


def test_changing_a_language_translates_again(page: Page) -> None:
    page.type("word")
    page.shows("WORD")
    choose(page, "en", "sv")
    page.shows("word")  # this model repeats its input
    assert languages(page) == ("en", "sv")
    choose(page, "zh", "en")  # only what is served can be chosen
    assert len(Select(page.by_id("target-language")).options) == 1
    assert not page.by_id("swap").is_enabled()


def test_swap_moves_languages_and_texts(page: Page) -> None:
    page.type("good day")
    page.shows("GOOD DAY")
    press(page, "swap")
    assert languages(page) == ("de", "en")
    assert page.source == "GOOD DAY"
    page.keys(Keys.ALT, "s")
    assert languages(page) == ("en", "de")


def test_without_earlier_choices_the_language_is_detected_unless_a_link_names_it(
    window: Page, served: PageServer
) -> None:
    page = window.open(served.url)
    assert languages(page) == ("auto", "en")  # the browser's language is read, not written
    page.type("Guten Morgen, wo ist der Bahnhof?")
    page.shows("GUTEN MORGEN, WO IST DER BAHNHOF?")
    assert label(page) == "German, detected"
    page.open(f"{served.url}#source=zh&target=en&text=x")
    assert languages(page) == ("zh", "en")
    page.open(f"{served.url}#text=Wo+ist+der+Bahnhof%3F")
    page.until(lambda: label(page) == "German, detected")


def label(page: Page) -> str:
    return Select(page.by_id("source-language")).first_selected_option.text


def test_the_language_is_detected_and_said(page: Page) -> None:
    choose(page, "auto", "de")
    assert label(page) == "Detect language"
    page.type("Where is the railway station, please?")
    page.shows("WHERE IS THE RAILWAY STATION, PLEASE?")
    assert label(page) == "English, detected"
    assert page.text("detected") == "English, detected; into German"  # for screen readers
    page.paste("火车站在哪里?")
    page.until(lambda: label(page) == "Chinese, detected")
    assert languages(page) == ("auto", "en")  # nothing goes from Chinese to German
    page.paste("Where is it from here?")
    page.until(lambda: label(page) == "English, detected")
    assert languages(page) == ("auto", "de")  # what was wished for
    press(page, "clear")
    page.until(lambda: label(page) == "Detect language")
    page.type("1984, 2001")
    page.until(lambda: label(page) == "English, assumed")
    page.paste("Я иду домой.")  # in none of the languages there are
    page.until(lambda: label(page).endswith(", assumed") and not label(page).startswith("English"))


def test_a_target_that_the_detected_language_lacks_is_reported(
    page: Page, served: PageServer
) -> None:
    choose(page, "auto", "de")
    page.paste("Where is the railway station, please?")
    page.shows("WHERE IS THE RAILWAY STATION, PLEASE?")
    assert page.text("note") == ""
    choose(page, "auto", "en")
    sentence = "There is no model from English into English; German is shown."
    page.until(lambda: page.text("note") == sentence)
    assert languages(page) == ("auto", "de")
    press(page, "share")
    page.until(lambda: "target=de" in page.chrome.current_url)


def test_the_list_above_a_file_names_no_language_of_the_text(page: Page) -> None:
    choose(page, "auto", "de")
    page.paste("火车站在哪里?")
    page.until(lambda: label(page) == "Chinese, detected")
    press(page, "file-tab")
    assert label(page) == "Detect language"
    assert languages(page) == ("auto", "de")
    press(page, "text-tab")
    assert label(page) == "Chinese, detected"
    assert languages(page) == ("auto", "en")


def test_text_in_the_language_it_should_be_put_into(page: Page) -> None:
    choose(page, "auto", "de")
    page.paste("Guten Morgen, wo ist bitte der Bahnhof?")
    page.shows("GUTEN MORGEN, WO IST BITTE DER BAHNHOF?")
    assert label(page) == "German, detected"
    assert languages(page) == ("auto", "en")
    assert page.by_id("output").get_attribute("lang") == "en"


def test_a_letter_at_the_end_of_the_sample_is_not_cut_in_two(window: Page) -> None:
    settings = SETTINGS.model_copy(update={"max_characters": 5000})
    with serve(fake_registry(settings, "en-de", "de-en"), settings) as server:
        window.open(server.url)
        choose(window, "auto", "de")
        window.paste("x" + "👍" * 1500 + "x")
        window.until(lambda: window.text("output") and not window.busy)
        assert window.text("problem") == ""


def test_swap_after_detection(page: Page) -> None:
    choose(page, "auto", "de")
    page.paste("Where is the railway station, please?")
    page.until(lambda: label(page) == "English, detected")
    page.until(lambda: page.text("output") and not page.busy)
    press(page, "swap")
    assert languages(page) == ("de", "en")
    assert page.source == "WHERE IS THE RAILWAY STATION, PLEASE?"


def test_detection_is_remembered_and_linked(page: Page, served: PageServer) -> None:
    choose(page, "auto", "de")
    page.paste("Guten Morgen, wo ist der Bahnhof?")
    page.until(lambda: label(page) == "German, detected")
    page.until(lambda: page.by_id("share").is_enabled())
    press(page, "share")
    page.until(lambda: "#" in page.chrome.current_url)
    link = page.chrome.current_url
    assert "source=auto" in link
    page.chrome.get("about:blank")
    page.chrome.get(served.url)
    page.until(lambda: label(page) == "Detect language")
    page.open(link)
    page.until(lambda: label(page) == "German, detected")


def test_no_detection_where_there_is_one_language(window: Page) -> None:
    with serve(fake_registry(SETTINGS, "en-de"), SETTINGS) as server:
        window.open(server.url)
        assert len(Select(window.by_id("source-language")).options) == 1
        assert languages(window) == ("en", "de")


def test_the_command_names_the_language_found(page: Page) -> None:
    choose(page, "auto", "de")
    page.all("#call summary")[0].click()
    assert "auto" not in page.until(lambda: page.text("curl"))
    page.paste("火车站在哪里?")
    page.until(lambda: '"source":"zh","target":"en"' in page.text("curl"))
