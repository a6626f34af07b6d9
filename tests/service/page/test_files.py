"""The file tab."""

from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from service.errors import QueueFull
from tests.service.page.browser import Page
from tests.service.page.conftest import choose, press, refused
from tests.service.page.server import PageServer


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
        "Done: 24 lines. Could not be translated, left unchanged: line 4."
    )
    assert page.by_id("download").get_attribute("download") == "my text.de.txt"
    expected = content.upper().replace("REFUSE THIS", "REFUSE this")
    assert page.downloads(tmp_path / "out") == expected.encode()


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
def test_other_encodings_are_read_and_said(page: Page, tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "old.txt"
    path.write_bytes("größer\n".encode(encoding))
    (tmp_path / "out").mkdir()
    press(page, "file-tab")
    page.by_id("file").send_keys(str(path))
    page.until(lambda: "the translation is UTF-8" in page.text("file-note"))
    mark = "\ufeff" if encoding == "utf-16" else ""
    assert page.downloads(tmp_path / "out").decode() == f"{mark}GRÖSSER\n"


@pytest.mark.parametrize(
    ("name", "content", "expected", "media_type", "note"),
    [
        (
            "My film.SRT",
            "1\r\n00:00:01,000 --> 00:00:02,000\r\nWhere <i>to</i>?\r\n- REFUSE",
            "1\r\n00:00:01,000 --> 00:00:02,000\r\nWHERE <i>TO</i>?\r\n- REFUSE",
            "application/x-subrip",
            "Done: 2 passages. Could not be translated, left unchanged: line 4.",
        ),
        (
            "page.html",
            "<meta charset=utf-8><p title=x>one &amp; &uuml;ber<br>\n<b>REFUSE</b>\n<i>end",
            "<meta charset=utf-8><p title=x>ONE &amp; ÜBER<br>\n<b>REFUSE</b>\n<i>END",
            "text/html",
            "Done: 2 passages. Could not be translated, left unchanged: line 2.",
        ),
    ],
    ids=["srt", "html"],
)
def test_subtitles_and_pages(
    page: Page, tmp_path: Path, name: str, content: str, expected: str, media_type: str, note: str
) -> None:
    page.script(
        "const make = URL.createObjectURL; URL.createObjectURL = (blob) => {"
        "window.mediaType = blob.type; return make.call(URL, blob) }"
    )
    press(page, "file-tab")
    page.drop_file(name, content)
    page.until(lambda: page.text("file-note").startswith("Done"))
    assert page.text("file-note") == note
    stem, _, ending = name.rpartition(".")
    assert page.by_id("download").get_attribute("download") == f"{stem}.de.{ending}"
    assert page.script("return window.mediaType") == f"{media_type};charset=utf-8"
    assert page.downloads(tmp_path).decode() == expected


def test_a_page_of_an_old_encoding_is_not_guessed_at(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "old.html"
    path.write_bytes("<meta charset=iso-8859-1><p>größer".encode("latin-1"))
    press(page, "file-tab")
    page.by_id("file").send_keys(str(path))
    page.until(lambda: "Save it as UTF-8" in page.text("file-note"))


def test_the_language_of_a_file_is_detected(page: Page, tmp_path: Path) -> None:
    choose(page, "auto", "en")
    press(page, "file-tab")
    page.drop_file("a.txt", "Guten Morgen, wo ist der Bahnhof?\nDanke schön.\n")
    page.until(lambda: page.text("file-note") == "Done: 2 lines from German, detected.")
    assert page.by_id("download").get_attribute("download") == "a.en.txt"
    page.drop_file("b.txt", "Я иду домой.\n")
    page.until(lambda: page.text("file-note").endswith(", assumed."))


def test_a_file_without_text(page: Page) -> None:
    press(page, "file-tab")
    page.drop_file("a.txt", "1 2 3\n\n")
    page.until(lambda: page.text("file-note") == "The file has no text.")
    page.until(lambda: not page.by_id("stop").is_displayed())
    assert not page.by_id("download").is_displayed()


def test_a_network_that_breaks_in_the_middle_of_a_file(
    page: Page, served: PageServer, tmp_path: Path
) -> None:
    lines = [f"line {number}\n" for number in range(40)]
    translator = served.translators["en-de"]
    translator.delay_s = 0.02
    press(page, "file-tab")
    page.drop_file("a.txt", "".join(lines))
    try:
        page.until(lambda: page.text("file-note").startswith(("3 of", "6 of", "9 of")))
        page.network(offline=True)
        page.until(lambda: "cannot be reached" in page.text("file-note"))
    finally:
        translator.delay_s = 0.0
        page.network(offline=False)
    page.wait_s = 20.0  # it asks again every 5 s
    page.until(lambda: page.text("file-note") == "Done: 40 lines.")
    assert page.downloads(tmp_path).decode() == "".join(lines).upper()


def test_a_stopped_file_goes_on_where_it_was(
    page: Page, served: PageServer, tmp_path: Path
) -> None:
    lines = [f"line {number}\n" for number in range(30)]
    translator = served.translators["en-de"]
    translator.delay_s = 0.02
    press(page, "file-tab")
    page.drop_file("a.b.txt", "".join(lines))
    try:
        page.until(lambda: page.text("file-note").startswith(("3 of", "6 of", "9 of")))
        page.by_id("stop").send_keys(Keys.ENTER)
        page.until(lambda: page.text("file-note").endswith("of 30 lines. Stopped."))
    finally:
        translator.delay_s = 0.0
    done = int(page.text("file-note").split()[0])
    (tmp_path / "part").mkdir()
    expected = "".join(lines[:done]).upper() + "".join(lines[done:])
    assert page.text("download") == "Download the finished part"
    assert page.by_id("download").get_attribute("download") == "a.b.de.part.txt"
    assert page.downloads(tmp_path / "part").decode() == expected
    choose(page, "en", "sv")  # a file is of one language
    assert page.text("stop") == "Continue into German"
    asked = page.num_requests("/v1/translate")
    page.script("document.getElementById('stop').focus()")
    page.keys(Keys.ENTER)
    page.until(lambda: page.text("file-note") == "Done: 30 lines.")
    assert page.num_requests("/v1/translate") - asked == (30 - done) / 3
    assert page.focused == "download"  # the button that had the focus is gone
    assert page.by_id("download").get_attribute("download") == "a.b.de.txt"
    (tmp_path / "whole").mkdir()
    assert page.downloads(tmp_path / "whole").decode() == "".join(lines).upper()


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
    page.drop_file("b.html", "one\n")
    page.until(lambda: "busy" in page.text("file-note"))
    press(page, "stop")
    page.until(lambda: page.text("file-note") == "0 of 1 passage. Stopped.")
    assert not page.by_id("download").is_displayed()
    for name in ("c.pdf", "d.constructor", "txt"):
        page.drop_file(name, "one\n")
        page.until(lambda name=name: page.text("file-name") == name)  # type: ignore[misc]
        page.until(lambda: "Only .txt, .srt and .html files" in page.text("file-note"))
