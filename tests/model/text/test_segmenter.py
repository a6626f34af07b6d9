"""Segments rebuild the text, fit the limit and end where a reader would pause."""

import time
from collections.abc import Callable
from typing import get_args

import pytest
import sentencex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model.text.segmenter import Segmentation, Span, SplitText, join, split


def at_most(limit: int) -> Callable[[str], bool]:
    return lambda text: len(text) <= limit


def texts(found: SplitText) -> list[str]:
    return [segment.text for segment in found.segments]


def rebuild(found: SplitText) -> str:
    return "".join(s.before + s.text for s in found.segments) + found.after


PANICS = "A\u2028."  # sentencex 1.0.32, shown this as it is

LINE_BREAKS = "\n\v\f\r\x85\u2028\u2029"
TRICKY = [
    *'aZé. .!?。！？…,;:—、，"“”()「」 \t\x00\x1c\u00a0\u3000\u200b\u202e',
    *LINE_BREAKS,
    "\r\n",
    "Dr. ",
]
TRICKY += [
    "\u0301",
    "\u200d",
    "😀",
    "👨‍👩‍👧",
    "🇩🇪",
    "日本",
    "ไทย",
    "שלום",
    "سلام؟",
    "។",
    "𝔘",
    "e.g. ",
    "1,000 ",
    "U.S. ",
]
TRICKY += ["שלום", "سلام؟", "។", "𝔘"]


ANY_TEXT = st.text() | st.lists(st.sampled_from(TRICKY)).map("".join)
MODES: tuple[Segmentation, ...] = get_args(Segmentation)


@settings(max_examples=300, deadline=None)
@given(
    ANY_TEXT,
    st.sampled_from(MODES),
    st.sampled_from(["en", "de", "zh", "ja", "th", "km", "pt-BR", "tlh", "", "no such"]),
    st.integers(min_value=1, max_value=30),
)
@example("0\u00a00", "line", "en", 2)
@example(PANICS, "sentence", "en", 3)
def test_nothing_is_lost(text: str, mode: Segmentation, language: str, limit: int) -> None:
    found = split(text, language=language, fits=at_most(limit), segmentation=mode)
    assert rebuild(found) == text
    for segment in found.segments:
        assert segment.text == segment.text.strip() != ""
        assert mode == "none" or not set(LINE_BREAKS) & set(segment.text)
        assert len(segment.text) <= limit
        assert segment.before.strip() == ""
    assert found.after.strip() == ""


@settings(max_examples=300, deadline=None)
@given(
    ANY_TEXT,
    st.sampled_from(MODES),
    st.sampled_from(["en", "zh", "ja", "th"]),
    st.sampled_from(["de", "zh", "ja"]),
    st.lists(st.text(st.characters(codec="utf-8")).map(str.strip), min_size=1),
)
def test_offsets_rebuild_input_and_output(
    text: str, mode: Segmentation, source: str, target: str, translations: list[str]
) -> None:
    found = split(text, language=source, fits=at_most(20), segmentation=mode)
    given = [translations[n % len(translations)] for n in range(len(found.segments))]
    joined = join(found, given, target_language=target)

    spans = found.spans
    assert [text[span.start : span.end] for span in spans] == texts(found)
    assert [joined.text[span.start : span.end] for span in joined.spans] == given
    gaps = gaps_of(text, spans), gaps_of(joined.text, joined.spans)
    edges = {0, len(spans)}
    for number, (before, after) in enumerate(zip(*gaps, strict=True)):
        assert before.strip() == after.strip() == ""
        if number in edges or target == "de":
            assert after == before or (number not in edges and (before, after) == ("", " "))
        else:
            assert after == before or (before, after) == (" ", "")


def gaps_of(text: str, spans: list[Span]) -> list[str]:
    """What stands before, between and behind."""
    edges = [0, *(edge for span in spans for edge in (span.start, span.end)), len(text)]
    assert edges == sorted(edges)
    return [text[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True)]


@settings(max_examples=300, deadline=None)
@given(st.text() | st.lists(st.sampled_from(TRICKY)).map("".join), st.integers(1, 30))
def test_nothing_is_lost_when_fits_is_not_monotone(text: str, limit: int) -> None:
    def fits(part: str) -> bool:
        return len(part) == 1 or (len(part) * 7919) % 31 < limit

    found = split(text, language="en", fits=fits)
    assert rebuild(found) == text
    assert all(fits(segment.text) for segment in found.segments)


def test_a_text_that_fits_is_not_split() -> None:
    text = "One. Two! Three?\r\n\r\n  Four: five.\n"
    found = split(text, language="en", fits=at_most(100))
    assert [(s.before, s.text) for s in found.segments] == [
        ("", "One. Two! Three?"),
        ("\r\n\r\n  ", "Four: five."),
    ]
    assert found.after == "\n"


@pytest.mark.parametrize("text", ["", " ", "\n", "\r\n\t \u3000\n"])
def test_blank_text_has_no_segments(text: str) -> None:
    assert split(text, language="en", fits=at_most(1)) == SplitText((), after=text)
    assert join(SplitText((), after=text), [], target_language="de").text == text


def test_sentences_are_packed_while_they_fit() -> None:
    text = "One two. Three four. Five six.  Seven eight."
    found = split(text, language="en", fits=at_most(20))
    assert texts(found) == ["One two. Three four.", "Five six.", "Seven eight."]
    assert [s.before for s in found.segments] == ["", " ", "  "]


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "I saw Dr. Smith today. He was well.", ["I saw Dr. Smith today.", "He was well."]),
        ("de", "Es ist der 3. Oktober heute. Ja.", ["Es ist der 3. Oktober heute.", "Ja."]),
        ("zh", "今天天气很好。我们去公园吧！", ["今天天气很好。", "我们去公园吧！"]),
        ("ja", "「はい。」と言った。次の文です。", ["「はい。」と言った。", "次の文です。"]),
        ("hi", "यह एक वाक्य है। यह दूसरा है।", ["यह एक वाक्य है।", "यह दूसरा है।"]),
        ("tlh", "Hello you there. Good day.", ["Hello you there.", "Good day."]),
    ],
)
def test_sentence_ends(language: str, text: str, expected: list[str]) -> None:
    limit = max(map(len, expected))
    assert texts(split(text, language=language, fits=at_most(limit))) == expected


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        (
            "en",
            "Dr. Smith came at 5 p.m. yesterday. Who? J. R. Tolkien, e.g., or the U.S. army!",
            [
                "Dr. Smith came at 5 p.m. yesterday.",
                "Who?",
                "J. R. Tolkien, e.g., or the U.S. army!",
            ],
        ),
        ("de", "Am 3. Mai z. B. kam er. Und dann?", ["Am 3. Mai z. B. kam er.", "Und dann?"]),
        ("zh", "他来了。价格是3.5元！真的？", ["他来了。", "价格是3.5元！", "真的？"]),
        ("zh", "你说“好的。”吗？是的。", ["你说“好的。”吗？", "是的。"]),
        ("zh", "走吧。好。坐下。", ["走吧。", "好。", "坐下。"]),
        ("ja", "「はい。」と言った。次です。", ["「はい。」と言った。", "次です。"]),
        ("th", "สวัสดีครับ ผมชื่อสมชาย", ["สวัสดีครับ ผมชื่อสมชาย"]),
        ("km", "សួស្តី។ អ្នកសុខសប្បាយទេ។", ["សួស្តី។", "អ្នកសុខសប្បាយទេ។"]),
        ("my", "မင်္ဂလာပါ။ နေကောင်းလား။", ["မင်္ဂလာပါ။", "နေကောင်းလား။"]),
        ("ar", "مرحبا بك. كيف حالك؟", ["مرحبا بك.", "كيف حالك؟"]),
        # no space, no end
        ("en", "See Node.Js or example.com. Yes!No.", ["See Node.Js or example.com.", "Yes!No."]),
        ("zh", "他用Node.Js。好吧。", ["他用Node.Js。", "好吧。"]),
        # what has no words goes with its neighbour
        ("en", "1. Open it. 2. Close it. 5", ["1. Open it.", "2. Close it. 5"]),
        ("fr", "M. Dupont est là. Oui.", ["M. Dupont est là.", "Oui."]),
        ("en", "... 7.", ["... 7."]),
        # every line by itself
        ("en", "One two. Three\nfour. Five.", ["One two.", "Three", "four.", "Five."]),
        ("en", "1.\r\u2028Two.\x85Three", ["1.", "Two.", "Three"]),
    ],
)
def test_by_sentence(language: str, text: str, expected: list[str]) -> None:
    found = split(text, language=language, fits=at_most(100), segmentation="sentence")
    assert texts(found) == expected
    assert rebuild(found) == text


def test_sentences_that_do_not_fit_are_split_further() -> None:
    text = "One two, three four. Five. Six seven eight."
    found = split(text, language="en", fits=at_most(12), segmentation="sentence")
    assert texts(found) == ["One two,", "three four.", "Five.", "Six seven", "eight."]


def test_sentences_of_a_line_longer_than_a_window() -> None:
    sentences = [f"Sentence {number} is here." for number in range(2000)]
    found = split(" ".join(sentences), language="en", fits=at_most(100), segmentation="sentence")
    assert texts(found) == sentences
    endless = "word " * 2000 + "end. And another."
    found = split(endless, language="en", fits=at_most(20_000), segmentation="sentence")
    assert texts(found) == [endless.removesuffix(" And another."), "And another."]


def test_a_whole_text_stays_whole_while_it_fits() -> None:
    text = " One two.\nThree\r\n\r\nfour. \n"
    found = split(text, language="en", fits=at_most(30), segmentation="none")
    assert [(s.before, s.text) for s in found.segments] == [(" ", "One two.\nThree\r\n\r\nfour.")]
    assert found.after == " \n"
    found = split(text, language="en", fits=at_most(16), segmentation="none")
    assert [(s.before, s.text) for s in found.segments] == [
        (" ", "One two."),
        ("\n", "Three\r\n\r\nfour."),
    ]


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        # the last clause within the limit
        (
            "first part, second part, third part",
            26,
            ["first part, second part,", "third part"],
        ),
        ("第一部分，第二部分，第三部分", 11, ["第一部分，第二部分，", "第三部分"]),
        # a comma within a number and a colon within a time are none
        ("it costs about 1,000,000 at 12:30", 20, ["it costs about", "1,000,000 at 12:30"]),
        # a clause near the start loses to a word near the limit
        ("so, this goes on and on and on and on", 30, ["so, this goes on and on and on", "and on"]),
        # no mark at all: words
        ("one two three four five six", 13, ["one two three", "four five six"]),
        ("one two three four", 12, ["one two", "three four"]),
        # no space at all: characters as a reader sees them
        ("abcdefgh", 3, ["abc", "def", "gh"]),
        ("e\u0301e\u0301e\u0301", 3, ["e\u0301", "e\u0301", "e\u0301"]),
        ("👨‍👩‍👧👨‍👩‍👧", 7, ["👨‍👩‍👧", "👨‍👩‍👧"]),
        ("🇩🇪🇫🇷", 3, ["🇩🇪", "🇫🇷"]),
        # one that does not fit itself is split, not dropped
        ("👨‍👩‍👧", 2, ["👨\u200d", "👩\u200d", "👧"]),
    ],
)
def test_a_sentence_that_does_not_fit(text: str, limit: int, expected: list[str]) -> None:
    assert texts(split(text, language="xx", fits=at_most(limit))) == expected


def test_a_panic_of_the_sentence_splitter_costs_only_the_sentence_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    segment = sentencex.segment
    with pytest.raises(BaseException, match="not a char boundary"):
        segment("en", PANICS)
    monkeypatch.setattr(sentencex, "segment", lambda language, text: segment(language, PANICS))
    found = split("One two. Three, four five.", language="en", fits=at_most(18))
    assert texts(found) == ["One two. Three,", "four five."]


def test_a_character_that_does_not_fit_stands_alone() -> None:
    found = split("a bc", language="en", fits=lambda text: False)
    assert texts(found) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("source", "target_language", "expected"),
    [
        ("Aa. Bb.\nCc.", "de", "1 2\n3"),
        ("Aa. Bb.\nCc.", "zh-Hans", "12\n3"),
        ("Aa. Bb.\nCc.", "ja", "12\n3"),
        ("Aa. Bb.\nCc.", "th", "1 2\n3"),
        ("啊啊。啵啵。\n\n次次。\n", "en", "1 2\n\n3\n"),
        ("啊啊。啵啵。\n\n次次。\n", "ja", "12\n\n3\n"),
        (" Aa.  Bb.\r\n\tCc. ", "de", " 1  2\r\n\t3 "),
    ],
)
def test_join_follows_the_target_language(source: str, target_language: str, expected: str) -> None:
    found = split(source, language="en", fits=at_most(3))
    numbers = ["一", "二", "三"]
    joined = join(found, numbers, target_language=target_language).text
    assert joined == expected.translate(str.maketrans("123", "一二三"))


def test_latin_words_stay_apart_in_chinese() -> None:
    found = split("Windows Eleven", language="en", fits=at_most(7))
    assert join(found, ["Windows", "11"], target_language="zh").text == "Windows 11"
    assert join(found, ["视窗", "11"], target_language="zh").text == "视窗11"


def test_join_needs_one_translation_per_segment() -> None:
    found = split("a b", language="en", fits=at_most(1))
    with pytest.raises(ValueError, match="shorter"):
        join(found, ["x"], target_language="de")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(TRICKY)).map("".join), st.integers(1, 30))
def test_join_keeps_lines(text: str, limit: int) -> None:
    found = split(text, language="en", fits=at_most(limit))
    joined = join(found, ["T"] * len(found.segments), target_language="en").text
    assert joined.count("\n") == text.count("\n")
    blank = [line.strip() == "" for line in text.split("\n")]
    assert [line.strip() == "" for line in joined.split("\n")] == blank


MEGABYTE = {
    "letters": "a" * 1_000_000,
    "words": "word " * 200_000,
    "sentences": "A short one. " * 77_000,
    "points": ". " * 500_000,
    "quotes": "“" * 1_000_000,
    "brackets": "「(" * 500_000,
    "chinese": "你好。" * 333_000,
    "emoji": "👨‍👩‍👧" * 200_000,
    "combining": "e" + "\u0301" * 1_000_000,
    "spaces": "a" + " " * 1_000_000 + "b",
    "lines": "A short line.\n" * 71_000,
}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("text", MEGABYTE.values(), ids=MEGABYTE.keys())
@pytest.mark.parametrize("mode", MODES)
def test_time_is_in_proportion(text: str, mode: Segmentation) -> None:
    if mode != "line":
        text = text[: len(text) // 10]
    asked = 0

    def fits(part: str) -> bool:
        nonlocal asked
        asked += len(part)
        return len(part) <= 200

    started = time.process_time()
    found = split(text, language="en", fits=fits, segmentation=mode)
    # Each segment of 200 asks some 12 times about at most 400 characters.
    assert asked <= 30 * len(text)
    assert time.process_time() - started < 10  # about 1 on a slow core; quadratic would be minutes
    assert rebuild(found) == text
