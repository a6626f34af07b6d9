"""Segments rebuild the text, fit the limit and end where a reader would pause."""

import time
from collections.abc import Callable

import pytest
import sentencex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model.segmenter import Segmentation, join, split


def at_most(limit: int) -> Callable[[str], bool]:
    return lambda text: len(text) <= limit


def texts(segmentation: Segmentation) -> list[str]:
    return [segment.text for segment in segmentation.segments]


def rebuild(segmentation: Segmentation) -> str:
    return "".join(s.before + s.text for s in segmentation.segments) + segmentation.after


PANICS = "A\u2028."  # sentencex 1.0.32, shown this as it is

TRICKY = [
    *'aZé. .!?。！？…,;:—、，"“”()「」 \t\r\n\v\f\x00\x1c\x85\u2028\u00a0\u3000',
    "\r\n",
    "Dr. ",
]
TRICKY += ["\u0301", "\u200d", "😀", "👨‍👩‍👧", "🇩🇪", "日本", "ไทย", "e.g. ", "1,000 ", "U.S. "]


@settings(max_examples=600, deadline=None)
@given(
    st.text() | st.lists(st.sampled_from(TRICKY)).map("".join),
    st.sampled_from(["en", "de", "zh", "ja", "th", "pt-BR", "tlh", "", "no such"]),
    st.integers(min_value=1, max_value=30),
)
@example("0\u00a00", "en", 2)
@example(PANICS, "en", 3)
def test_nothing_is_lost(text: str, language: str, limit: int) -> None:
    segmentation = split(text, language=language, fits=at_most(limit))
    assert rebuild(segmentation) == text
    for segment in segmentation.segments:
        assert segment.text == segment.text.strip() != ""
        assert "\n" not in segment.text
        assert len(segment.text) <= limit
        assert segment.before.strip() == ""
    assert segmentation.after.strip() == ""


@settings(max_examples=300, deadline=None)
@given(st.text() | st.lists(st.sampled_from(TRICKY)).map("".join), st.integers(1, 30))
def test_nothing_is_lost_when_fits_is_not_monotone(text: str, limit: int) -> None:
    def fits(part: str) -> bool:
        return len(part) == 1 or (len(part) * 7919) % 31 < limit

    segmentation = split(text, language="en", fits=fits)
    assert rebuild(segmentation) == text
    assert all(fits(segment.text) for segment in segmentation.segments)


def test_what_fits_is_not_split() -> None:
    text = "One. Two! Three?\r\n\r\n  Four: five.\n"
    segmentation = split(text, language="en", fits=at_most(100))
    assert [(s.before, s.text) for s in segmentation.segments] == [
        ("", "One. Two! Three?"),
        ("\r\n\r\n  ", "Four: five."),
    ]
    assert segmentation.after == "\n"


@pytest.mark.parametrize("text", ["", " ", "\n", "\r\n\t \u3000\n"])
def test_blank_text_has_no_segments(text: str) -> None:
    assert split(text, language="en", fits=at_most(1)) == Segmentation((), after=text)
    assert join(Segmentation((), after=text), [], target_language="de") == text


def test_sentences_are_packed_while_they_fit() -> None:
    text = "One two. Three four. Five six.  Seven eight."
    segmentation = split(text, language="en", fits=at_most(20))
    assert texts(segmentation) == ["One two. Three four.", "Five six.", "Seven eight."]
    assert [s.before for s in segmentation.segments] == ["", " ", "  "]


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
    segmentation = split("One two. Three, four five.", language="en", fits=at_most(18))
    assert texts(segmentation) == ["One two. Three,", "four five."]


def test_a_character_that_does_not_fit_stands_alone() -> None:
    segmentation = split("a bc", language="en", fits=lambda text: False)
    assert texts(segmentation) == ["a", "b", "c"]


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
    segmentation = split(source, language="en", fits=at_most(3))
    numbers = ["一", "二", "三"]
    joined = join(segmentation, numbers, target_language=target_language)
    assert joined == expected.translate(str.maketrans("123", "一二三"))


def test_latin_words_stay_apart_in_chinese() -> None:
    segmentation = split("Windows Eleven", language="en", fits=at_most(7))
    assert join(segmentation, ["Windows", "11"], target_language="zh") == "Windows 11"
    assert join(segmentation, ["视窗", "11"], target_language="zh") == "视窗11"


def test_join_wants_one_translation_per_segment() -> None:
    segmentation = split("a b", language="en", fits=at_most(1))
    with pytest.raises(ValueError, match="shorter"):
        join(segmentation, ["x"], target_language="de")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(TRICKY)).map("".join), st.integers(1, 30))
def test_join_keeps_lines(text: str, limit: int) -> None:
    segmentation = split(text, language="en", fits=at_most(limit))
    joined = join(segmentation, ["T"] * len(segmentation.segments), target_language="en")
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


@pytest.mark.parametrize("text", MEGABYTE.values(), ids=MEGABYTE.keys())
def test_a_megabyte_takes_time_in_proportion(text: str) -> None:
    asked = 0

    def fits(part: str) -> bool:
        nonlocal asked
        asked += len(part)
        return len(part) <= 200

    started = time.process_time()
    segmentation = split(text, language="en", fits=fits)
    # Each segment of 200 asks some 12 times about at most 400 characters.
    assert asked <= 30 * len(text)
    assert time.process_time() - started < 10  # about 1 on a slow core; quadratic would be minutes
    assert rebuild(segmentation) == text
