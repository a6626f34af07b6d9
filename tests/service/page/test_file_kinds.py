"""Files taken apart and put together again: only their text changes."""

import re
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest

from tests.service.page.browser import Page
from tests.service.page.server import PageServer

SRT = (
    "\ufeff1\r\n00:00:01,000 --> 00:00:02,500\r\nWhere are\r\nyou <i>going</i>?\r\n\r\n"
    "2\r\n00:00:03,000 --> 00:00:04,000 X1:40 X2:600\r\n- Home.\r\n- {\\an8}Now?\r\n\r\n"
    "3\r\n00:00:05,000 --> 00:00:06,000\r\n\r\nafter a blank line\r\n\r\n1984\r\n\r\n\r\n"
    "5\n00:00:07.000 --> 00:00:08.000\n<font color=\"#ff0000\">a < b</font>\n12:30\n\n"
    "6\r\n00:00:09,000 --> 00:00:10,000\r\n\r\n7\r\n00:00:11,000 --> 00:00:12,000\r\nno end"
)  # fmt: skip

HTML = """\ufeff<!DOCTYPE html>\r
<html lang=en><head><meta charset="utf-8"><title>one &amp; two</title>
<style>p > a::after { content: "<b>style</b>" }</style>
<script>if (a<b && c>d) document.write("<p>script</p>") // it's</script>
<script type='x'><!-- <p>more</p> --></script></head>
<body data-x="a > b" title='it"s > that'><!-- <p>comment</p> --><!--><p>real&nbsp;text</p>
<p class=it's>quote in a value</p><img alt="an > alt" src=x><br/>plain <b>bold <i>both</i></b>&copy;
<p>&nbsp;</p><td>12.5</td><code>x < y</code><pre>first line
  second line</pre><![CDATA[ <p>data</p> ]]><?php echo "x" ?>
caf&eacute; & co 5 < 6<p attr = "v>w" other>last, without an end"""


@pytest.fixture(scope="module")
def page(window: Page, served: PageServer) -> Page:
    """Nothing here changes it."""
    return window.open(served.url)


def translated(page: Page, text: str, kind: str, translations: list[str] | None = None) -> Any:
    """The texts found in `text`, and the whole with them in upper case or as given."""
    return page.chrome.execute_async_script(
        "const [text, kind, given, done] = arguments;"
        "const path = document.querySelector('script[type=module]').src;"
        "import(new URL('file_kinds.js', path)).then(({KINDS, cut, fill}) => {"
        "  const passages = cut(text, KINDS[kind]); const texts = passages.map((p) => p.text);"
        "  passages.forEach((p, i) => { p.translation = given?.[i] ?? p.text.toUpperCase(); });"
        "  done([texts, fill(text, passages, KINDS[kind])]) })",
        text, kind, translations,
    )  # fmt: skip


class Structure(HTMLParser):
    """All that is no text, as the standard library sees it."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=False)
        self.seen: list[object] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append((tag, attrs, self.get_starttag_text()))

    def handle_endtag(self, tag: str) -> None:
        self.seen.append(tag)

    def handle_comment(self, data: str) -> None:
        self.seen.append(data)

    def handle_decl(self, decl: str) -> None:
        self.seen.append(decl)


def test_subtitles(page: Page) -> None:
    texts, result = translated(page, SRT, "srt")
    assert texts == [
        "Where are you", "going", "Home.", "Now?", "after a blank line", "a < b", "no end",
    ]  # fmt: skip
    expected = SRT
    for text in ("Where are", "you", "going", "Home.", "Now?", "after a blank line", "no end"):
        expected = expected.replace(text, text.upper())
    assert result == expected.replace("a < b", "A < B")


@pytest.mark.parametrize(
    ("original", "translation", "expected"),
    [
        ("one two\nthree four", "eins zwei drei vier", "eins zwei\ndrei vier"),
        ("one\r\n  two", "eins zwei", "eins\r\n  zwei"),
        ("a\nbb\nccc", "lang laenger am_allerlaengsten", "lang\nlaenger\nam_allerlaengsten"),
        ("where\nto", "wohin", "wohin"),  # a line without words would end the subtitle
        ("where\nto", "wo\nhin\n", "wo\nhin "),
        ("one two", "a\nb", "a b"),  # a line stays one, whatever the model writes
    ],
)
def test_lines_of_a_subtitle_are_wrapped_again(
    page: Page, original: str, translation: str, expected: str
) -> None:
    head = "1\n00:00:01,000 --> 00:00:02,000\n"
    assert translated(page, head + original, "srt", [translation])[1] == head + expected


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", ""])
@pytest.mark.parametrize("kind", ["txt", "srt", "html"])
def test_passages_without_words_stay_unchanged(page: Page, kind: str, end: str) -> None:
    for text in ("", end, f"{end} 1 {end}{end}", f"\ufeff{end}"):
        assert translated(page, text, kind) == [[], text]


def test_html(page: Page) -> None:
    texts, result = translated(page, HTML, "html")
    assert texts == [
        "one &amp; two", "real&nbsp;text", "quote in a value", "plain", "bold", "both",
        "first line second line", "caf&eacute; & co 5 < 6", "last, without an end",
    ]  # fmt: skip
    expected = HTML
    for text in (*texts[:6], "first line", "second line", *texts[7:]):
        assert expected.count(text) == 1
        expected = expected.replace(text, text.upper())
    assert result == expected


@pytest.mark.parametrize(
    "text",
    [
        "<p>x<",
        "<p>x</p",
        "<!-- <p>x</p>",
        "<script>x",
        "<SCRIPT >x</ScRiPt >y",
        "<a title='x>y</a>",
        "<a b=\"1\" c='2' d=3 e>x</a>",
        "<a href=x>y</a><b/>z<br>w",
        "<ul><li>a<ul><li>b</ul></ul>",
        "<svg><title>A</title><text>B</text></svg>",
        "<style>a{}</style >b<style/>c</style>d",
        "<p>a<!-- - -- > -->b<!--->c<!----!>d",
        "<" * 50 + "a" + ">" * 50,
        "<a b='>" * 20,
    ],
)
def test_every_tag_survives(page: Page, text: str) -> None:
    texts, result = translated(page, text, "html", ["é <i>new</i>"] * 9)
    fresh = result.replace("&#233; <i>new</i>", "")
    assert fresh == re.sub("|".join(map(re.escape, sorted(texts, key=len)[::-1])) or "$^", "", text)
    _, shouted = translated(page, text, "html")
    assert Structure(shouted).seen == Structure(text).seen


@pytest.mark.parametrize(
    ("head", "spelt"),
    [
        ("", True),
        ('<meta charset="iso-8859-1">', True),
        ("<meta charset=utf-8>", False),
        ('<?xml version="1.0" encoding="UTF-8"?>', False),
        ("\ufeff", False),
    ],
)
def test_letters_become_references_unless_the_html_declares_utf8(
    page: Page, head: str, spelt: bool
) -> None:
    _, result = translated(page, f"{head}<p>beautiful</p>", "html", ["schön 👍"])
    assert unescape(result) == f"{head}<p>schön 👍</p>"
    assert ("&#246; &#128077;" in result.replace("n", "")) == spelt


def test_unclosed_quotes_cost_no_time(page: Page) -> None:
    text = "<a " + "x=\"1\" y='2' " * 3000 + "z='"
    texts, result = translated(page, text, "html")
    assert len(texts) == 1
    assert result == text.upper()
