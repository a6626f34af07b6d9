"""Texts of attackers: no text is ever run as a script."""

import httpx

from service.errors import InvalidRequest
from tests.service.page.browser import Page
from tests.service.page.conftest import choose, press, refused
from tests.service.page.server import PageServer
from tests.service.page.xss_strings import XSS_STRINGS

KINDS = {
    "txt": "TEXT",
    "srt": "1\n00:00:01,000 --> 00:00:02,000\nTEXT\n",
    "html": "<p title='TEXT'>TEXT</p>",
}


def test_no_text_ever_runs(page: Page, served: PageServer) -> None:
    assert len(set(XSS_STRINGS)) == 50
    choose(page, "en", "sv")  # this model repeats its input
    page.script(
        "window.times = 0; window.ran = () => { window.times += 1; };"
        "window.violations = []; document.addEventListener('securitypolicyviolation',"
        "(event) => window.violations.push(event.violatedDirective));"
    )
    for details in page.all("summary"):
        details.click()
    kinds = (
        "return [...new Set([...document.querySelectorAll('*')].map((e) => e.localName))].sort()"
    )
    page.paste("harmless words")
    page.shows("harmless words")
    page.all("#output .word")[0].click()
    page.script("document.getElementById('confidence').click()")
    before = set(page.script(kinds))
    page.hurry()
    for number, text in enumerate(XSS_STRINGS):
        page.paste(text)
        page.shows(text)
        page.script("document.querySelector('#output .word').focus()")
        kind = list(KINDS)[number % len(KINDS)]
        name = f"{text}.{kind}"
        page.drop_file(name, KINDS[kind].replace("TEXT", text))
        page.until(lambda name=name: page.text("file-name") == name)  # type: ignore[misc]
        page.until(lambda: page.text("file-note").startswith(("Done: ", "The file has no text")))
        if number % 5 == 0:
            served.faults.response = refused(InvalidRequest(text))
            page.paste(f"{text} again")
            page.until(lambda text=text: text in page.text("problem"))  # type: ignore[misc]
            served.faults.response = None
        assert set(page.script(kinds)) <= before, text
    assert page.script("return [window.times, window.violations]") == [0, []]


def test_a_translated_page_that_is_opened_in_place_runs_nothing(page: Page) -> None:
    press(page, "file-tab")
    page.drop_file("a.html", "".join(XSS_STRINGS[:20]) + "<script>document.title='ran'</script>")
    page.until(lambda: page.text("file-note").startswith("Done: "))
    address = page.by_id("download").get_attribute("href")
    page.script("window.open(arguments[0], '_self')", address)
    page.until(lambda: page.chrome.current_url.startswith("blob:"))
    assert page.script("return [document.title, typeof ran]") == ["", "undefined"]
    page.chrome.get_log("browser")  # type: ignore[no-untyped-call] # the policy's complaints


def test_a_link_never_runs(page: Page, served: PageServer) -> None:
    for text in XSS_STRINGS[::10]:
        query = httpx.QueryParams({"source": text, "target": text, "text": text})
        page.open(f"{served.url}#{query}")
        page.shows(text.upper())
        assert page.all("#text-panel img, #text-panel script, #text-panel svg") == []


def test_the_browser_has_nothing_to_complain_about(page: Page) -> None:
    page.chrome.get_log("browser")  # type: ignore[no-untyped-call]
    page.open(page.chrome.current_url)
    page.type("word")
    page.shows("WORD")
    assert page.chrome.get_log("browser") == []  # type: ignore[no-untyped-call]
