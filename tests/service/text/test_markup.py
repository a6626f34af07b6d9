"""Only the text between tags is translated; tags stay unchanged."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.text.markup import plain_document, tagged_document


@pytest.mark.parametrize(
    ("text", "texts", "upper"),
    [
        ("good day", ["good day"], "GOOD DAY"),
        (
            '<p class="x">Hello &amp; <a href="/y?a=1&b=2">you</a>!</p>\n<br/> ',
            ["Hello & ", "you", "!"],
            '<p class="x">HELLO &amp; <a href="/y?a=1&b=2">YOU</a>!</p>\n<br/> ',
        ),
        ("a &lt;b&gt; c", ["a <b> c"], "A &lt;B&gt; C"),
        ("3 < 4 & 5", ["3 < 4 & 5"], "3 &lt; 4 &amp; 5"),
        ("one\r\ntwo<i>\nthree</i>", ["one\r\ntwo", "\nthree"], "ONE\r\nTWO<i>\nTHREE</i>"),
        ("a<x id='7'></x>b", ["a", "b"], "A<x id='7'></x>B"),
        ("a<X>keep <b>this</b></X> b", ["a", " b"], "A<X>keep <b>this</b></X> B"),
        (
            "<script>var a = '<b>';</script><!-- c -->d<![CDATA[e]]><?f g?><!doctype html>",
            ["d"],
            "<script>var a = '<b>';</script><!-- c -->D<![CDATA[e]]><?f g?><!doctype html>",
        ),
        ("", [], ""),
        (" <br> ", [], " <br> "),
    ],
)
def test_tags_stay_as_they_are(text: str, texts: list[str], upper: str) -> None:
    document = tagged_document(text, ignored_tags=["x"])
    assert list(document.texts) == texts
    assert document.filled([part.upper() for part in texts]) == upper


@given(st.text(st.sampled_from("<>/&;!-[]?ab x\"'=#\n\r\u2028é"), max_size=60))
def test_every_character_is_in_the_frame_or_in_a_text(text: str) -> None:
    document = tagged_document(text)
    assert len(document.frame) == len(document.texts) + 1
    position = 0
    for part in document.frame:  # in order, and nowhere twice
        found = text.find(part, position)
        assert found >= 0
        position = found + len(part)
    if "&" not in text and "<" not in text and ">" not in text:
        assert document.filled(document.texts) == text


def test_no_more_is_read_than_may_be_sent() -> None:
    text = "<b>x</b>" * 250_000
    started = time.process_time()
    assert tagged_document(text, 3).texts == ("x",) * 4
    assert tagged_document(text[:24], 3).texts == ("x",) * 3
    assert time.process_time() - started < 0.1


def test_a_translation_cannot_bring_tags() -> None:
    assert tagged_document("<b>a</b>").filled(["<script>"]) == "<b>&lt;script&gt;</b>"
    assert plain_document("a").filled(["<b>"]) == "<b>"


@pytest.mark.parametrize(
    "part",
    ["<!--", "<a ", "</", "<![CDATA[", "<", "<?", "<!", '<a b="', "<a b='\"", "<a'\"'", "&a"],
)
def test_hostile_markup_is_read_in_no_time(part: str) -> None:
    started = time.process_time()
    tagged_document("<" + "a" * 100_000)
    tagged_document(part * (100_000 // len(part)), ignored_tags=["x"])
    assert time.process_time() - started < 1
