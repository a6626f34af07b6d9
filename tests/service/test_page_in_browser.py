"""The page in a real browser: what a person does on it, and what they then see."""

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.responses import JSONResponse
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from service.dialects import error_response
from service.errors import DeadlineExceeded, InvalidRequest, QueueFull, RequestTooLarge
from service.registry import Registry
from service.settings import Settings
from tests.service.browser import Page, chromium
from tests.service.fakes import FakeTranslator, fake_model
from tests.service.page_server import PageServer, echo, serve, word_by_word
from tests.service.xss_strings import XSS_STRINGS

SETTINGS = Settings(max_characters=500, max_texts=3)
PAIRS = ("en-de", "de-en", "en-sv", "zh-en")
AXE_VERSION = "4.14.1"


def refused(error: Exception) -> JSONResponse:
    """The answer of our own API to a request that failed so."""
    return error_response({"path": "/v1/translate"}, error)


@pytest.fixture(scope="module")
def window() -> Iterator[Page]:
    with chromium() as chrome:
        yield Page(chrome)


@pytest.fixture(scope="module")
def served() -> Iterator[PageServer]:
    translators = {
        pair: FakeTranslator(answer=echo if pair == "en-sv" else word_by_word) for pair in PAIRS
    }
    models = [fake_model(pair, SETTINGS, translator=translators[pair]) for pair in PAIRS]
    with serve(Registry(models), SETTINGS) as server:
        server.translators = translators
        yield server


@pytest.fixture
def page(window: Page, served: PageServer) -> Page:
    served.faults.response = None
    window.command("Emulation.clearDeviceMetricsOverride")
    return window.open(served.url)


def choose(page: Page, source: str, target: str) -> None:
    Select(page.by_id("source-language")).select_by_value(source)
    Select(page.by_id("target-language")).select_by_value(target)


def languages(page: Page) -> tuple[str, str]:
    ends = ("source-language", "target-language")
    source, target = (str(page.by_id(end).get_property("value")) for end in ends)
    return source, target


def press(page: Page, name: str) -> None:
    page.by_id(name).click()


# From typing to a translation


def test_typing_translates(page: Page) -> None:
    page.type("two small words")
    page.shows("TWO SMALL WORDS")
    page.type(" more")
    page.shows("TWO SMALL WORDS MORE")
    assert page.text("spoken") == "TWO SMALL WORDS MORE"  # what a screen reader is told
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


def test_an_emptied_box_empties_the_other(page: Page) -> None:
    page.type("word")
    page.shows("WORD")
    press(page, "clear")
    page.shows("")
    assert page.focused == "source"


def test_other_languages_translate_anew(page: Page) -> None:
    page.type("word")
    page.shows("WORD")
    choose(page, "en", "sv")
    page.shows("word")  # this model says what it is told
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


def test_alternatives_are_others(page: Page) -> None:
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


# Where words come from, and how sure they are


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
    assert page.text("doubts") == "Less sure: RARE 5\u00a0%."
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


# Taking it elsewhere


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


# When it does not work


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
    def network(*, offline: bool) -> None:
        page.command("Network.enable")
        page.command("Network.emulateNetworkConditions", offline=offline, latency=0,
                     downloadThroughput=-1, uploadThroughput=-1)  # fmt: skip

    network(offline=True)
    try:
        page.type("kept")
        page.until(lambda: "cannot be reached" in page.text("problem"))
        assert page.source == "kept"
    finally:
        network(offline=False)
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


# Files


def test_a_file_comes_back_line_by_line(page: Page, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    content = "\ufeffone\r\n\r\n  two \nREFUSE this\rthree\n\n\n" + "four\n" * 20 + "🙂 last"
    path = tmp_path / "in" / "my text.txt"
    path.write_bytes(content.encode())
    press(page, "file-tab")
    page.by_id("file").send_keys(str(path))
    page.until(lambda: page.text("file-note").startswith("Done"))
    assert page.text("file-note") == (
        "Done: 24 lines. Could not be translated and was left as it is: line 4."
    )
    assert page.by_id("download").get_attribute("download") == "my text.de.txt"
    expected = content.removeprefix("\ufeff").upper().replace("REFUSE THIS", "REFUSE this")
    assert page.downloads(tmp_path / "out") == expected.encode()


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
def test_other_encodings_are_read_and_said(page: Page, tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "old.txt"
    path.write_bytes("größer\n".encode(encoding))
    (tmp_path / "out").mkdir()
    press(page, "file-tab")
    page.by_id("file").send_keys(str(path))
    page.until(lambda: "the translation is UTF-8" in page.text("file-note"))
    assert page.downloads(tmp_path / "out").decode() == "GRÖSSER\n"


def test_a_file_waits_while_the_service_is_busy_and_can_be_stopped(
    page: Page, served: PageServer
) -> None:
    served.faults.response = refused(QueueFull("full", retry_after_s=1))
    press(page, "file-tab")
    page.drop_file("a.txt", "one\ntwo\n")
    page.until(lambda: "0 of 2 lines. The service is busy." in page.text("file-note"))
    served.faults.response = None
    page.until(lambda: page.text("file-note") == "Done: 2 lines.")
    served.faults.response = refused(QueueFull("full", retry_after_s=60))
    page.drop_file("b.txt", "one\n")
    page.until(lambda: "busy" in page.text("file-note"))
    press(page, "stop")
    page.until(lambda: page.text("file-note") == "Stopped.")
    page.drop_file("c.pdf", "one\n")
    page.until(lambda: "Only .txt files" in page.text("file-note"))


# For everyone


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


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The accessibility checker, fetched where there is npm and a network; else skips."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm, to fetch axe-core")
    folder = tmp_path_factory.mktemp("axe")
    package = folder / f"axe-core-{AXE_VERSION}.tgz"
    try:
        subprocess.run(
            ["npm", "pack", "--silent", f"axe-core@{AXE_VERSION}"],
            cwd=folder, check=True, capture_output=True, timeout=60,
        )  # fmt: skip
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip("axe-core could not be fetched")
    shutil.unpack_archive(package, folder, filter="data")
    return (folder / "package" / "axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_has_no_serious_finding(page: Page, served: PageServer, axe: str, scheme: str) -> None:
    page.command(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
    )
    page.type("some RARE word")
    page.shows("SOME RARE WORD")
    press(page, "confidence")
    for details in page.all("summary"):
        details.click()
    page.all("#output .word")[1].click()
    findings = run_axe(page, axe)
    press(page, "file-tab")
    page.drop_file("a.txt", "one\n")
    page.until(lambda: page.text("file-note") == "Done: 1 line.")
    findings += run_axe(page, axe)
    press(page, "text-tab")
    served.faults.response = refused(InvalidRequest("it is wrong"))
    page.type("x")
    page.until(lambda: page.by_id("problem").is_displayed())
    findings += run_axe(page, axe)
    page.command("Emulation.setEmulatedMedia", features=[])
    assert findings == []


def run_axe(page: Page, axe: str) -> list[Any]:
    page.script(axe)
    results = page.chrome.execute_async_script(
        "const done = arguments[arguments.length - 1]; axe.run().then(done)"
    )
    return [
        (finding["id"], finding["impact"], [node["html"] for node in finding["nodes"]])
        for finding in results["violations"]
        if finding["impact"] in ("serious", "critical")
    ]


# Against those who mean harm


def test_no_text_ever_runs(page: Page, served: PageServer) -> None:
    assert len(set(XSS_STRINGS)) == 50
    choose(page, "en", "sv")  # says what it is told
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
    for text in XSS_STRINGS:
        page.paste(text)
        page.shows(text)
        page.script("document.querySelector('#output .word').focus()")
        page.drop_file(f"{text}.txt", text)
        page.until(lambda text=text: page.text("file-name") == f"{text}.txt")  # type: ignore[misc]
        page.until(lambda: page.text("file-note").startswith("Done: "))
        served.faults.response = refused(InvalidRequest(text))
        page.paste(f"{text} ")
        page.until(lambda text=text: text in page.text("problem"))  # type: ignore[misc]
        served.faults.response = None
        assert set(page.script(kinds)) <= before, text
    assert page.script("return [window.times, window.violations]") == [0, []]


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
