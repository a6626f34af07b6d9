"""Words of a translation, by hand arithmetic: their confidence, and the words they came from."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.quality import word_log_probs
from model.text.segmenter import Span
from model.translation import SegmentTranslation
from model.translator import Translator
from service.text.words import Word, num_letters, piece_letters, split_words, words_of


def segment(
    source: tuple[str, int, list[str]],
    target: tuple[str, int, list[str]],
    probabilities: list[float],
    alignment: list[list[float]] | None,
) -> SegmentTranslation:
    """Of source and target each the text, where it starts, and its pieces."""
    (source_text, source_start, source_pieces), (text, start, pieces) = source, target
    return SegmentTranslation(
        source_text,
        text,
        Span(source_start, source_start + len(source_text)),
        Span(start, start + len(text)),
        -1.0,
        tuple(source_pieces),
        tuple(pieces),
        tuple(map(math.log, probabilities)),
        None if alignment is None else tuple(map(tuple, alignment)),
    )


def sources_of(word: Word) -> list[tuple[Any, ...]]:
    assert word.sources is not None
    return [(each.text, each.start, each.end, round(each.weight, 6)) for each in word.sources]


def test_pieces_become_words() -> None:
    first, second = words_of(
        segment(
            ("the orange hat", 10, ["▁the", "▁or", "ange", "▁hat"]),
            ("roter Hut.", 20, ["▁rot", "er", "▁", "Hut", "."]),
            [0.5, 0.8, 0.9, 0.5, 1.0, 0.7],
            [
                [0.1, 0.5, 0.2, 0.2, 0.0],
                [0.1, 0.3, 0.4, 0.0, 0.2],
                [0.0, 0.0, 0.0, 1.0, 0.0],
                [0.0, 0.0, 0.5, 0.5, 0.0],
                [0.0, 0.0, 0.0, 0.0, 1.0],
                [0.0, 0.0, 0.0, 0.0, 1.0],
            ],
        )
    )
    assert (first.text, first.start, first.end) == ("roter", 20, 25)
    assert (second.text, second.start, second.end) == ("Hut.", 26, 30)
    assert first.confidence == pytest.approx(0.5 * 0.8)
    assert second.confidence == pytest.approx(0.9 * 0.5 * 1.0)
    # Both rows together: the 0.2, orange 0.5+0.2+0.3+0.4, hat 0.2; the end has 0.2.
    total = 0.2 + 1.4 + 0.2
    assert sources_of(first) == [
        ("orange", 14, 20, pytest.approx(1.4 / total, abs=1e-6)),
        ("the", 10, 13, pytest.approx(0.2 / total, abs=1e-6)),
        ("hat", 21, 24, pytest.approx(0.2 / total, abs=1e-6)),
    ]
    # Of the three rows that look at words: hat 1.0 + 0.5, orange 0.5.
    assert sources_of(second) == [("hat", 21, 24, 0.75), ("orange", 14, 20, 0.25)]


def test_a_piece_over_two_words_is_shared_by_letters() -> None:
    (first, second) = words_of(
        segment(("ab", 0, ["▁ab"]), ("x yyy", 0, ["▁x▁yyy"]), [0.0625, 1.0], [[1.0, 0.0]] * 2)
    )
    assert first.confidence == pytest.approx(0.5)  # 0.0625 ** (1 / 4): one letter of four
    assert second.confidence == pytest.approx(0.125)
    assert sources_of(first) == sources_of(second) == [("ab", 0, 2, 1.0)]


def test_weights_below_a_hundredth_are_left_out() -> None:
    (word,) = words_of(
        segment(
            ("a b c", 0, ["▁a", "▁b", "▁c"]), ("x", 0, ["▁x"]), [1.0], [[0.592, 0.4, 0.008, 0.0]]
        )
    )
    assert sources_of(word) == [
        ("a", 0, 1, pytest.approx(0.592 / 0.992, abs=1e-6)),
        ("b", 2, 3, pytest.approx(0.4 / 0.992, abs=1e-6)),
    ]


def test_a_word_with_attention_on_the_end_alone_has_no_sources() -> None:
    (word,) = words_of(segment(("a", 0, ["▁a"]), ("x", 0, ["▁x"]), [1.0], [[0.0, 1.0]]))
    assert word.sources == ()


def test_without_attention_there_are_no_sources() -> None:
    (word,) = words_of(segment(("a", 0, ["▁a"]), ("x", 0, ["▁x"]), [0.5], None))
    assert (word.sources, word.confidence) == (None, 0.5)


def test_a_segment_without_pieces_has_no_words() -> None:
    assert words_of(segment(("\u200b", 0, []), ("\u200b", 0, []), [], None)) == []


@pytest.mark.parametrize(
    ("text", "pieces", "words"),
    [
        ("we  are", ["▁we", "▁are"], ["we", "are"]),
        ("isn't it?", ["▁is", "n", "'", "t", "▁it", "?"], ["isn't", "it?"]),
        # without spaces the pieces are the words; a letter's bytes stay together
        ("我想去火车站。", ["▁我", "想去", "火车站", "。"], ["我", "想去", "火车站", "。"]),
        ("用Windows 11龘吗", [*"▁用", "Win", "dows", "▁11", "<0xE9>", "<0xBE>", "<0x98>", "吗"],
            ["用", "Windows", "11", "龘", "吗"]),
        ("ไทยดี", ["▁ไทย", "ดี"], ["ไทย", "ดี"]),
        # the normaliser made one letter two, and two one
        ("ﬁn Ａ", ["▁f", "in", "▁A"], ["ﬁn", "Ａ"]),
        ("e\u0301a b", ["▁é", "a", "▁b"], ["e\u0301a", "b"]),
        ("👍🏽 ok", ["▁", "<0xF0>", "<0x9F>", "<0x91>", "<0x8D>", "🏽", "▁ok"], ["👍🏽", "ok"]),
        ("\u200b a", ["▁a"], ["a"]),
        ("", [], []),
    ],
)  # fmt: skip
def test_words_of_a_text(text: str, pieces: list[str], words: list[str]) -> None:
    found = split_words(text, pieces, 100)
    assert [word.text for word in found] == words
    assert [text[word.start - 100 : word.end - 100] for word in found] == words


def test_letters() -> None:
    assert [num_letters(text) for text in ("", "a b", "ﬁ", "e\u0301", "\u200b\x07")] == [
        0,
        2,
        2,
        1,
        0,
    ]
    pieces = ("▁", "▁ab", "<0x41>", "<0xE9>", "<0xBE>")
    assert [piece_letters(piece) for piece in pieces] == [0, 2, 1, 1, 0]


@settings(max_examples=300, deadline=None)
@given(st.text(), st.text(), st.data())
def test_any_text_and_any_pieces(source: str, target: str, data: st.DataObject) -> None:
    """Also pieces that are not the text's: no word is lost, nothing is out of bounds."""
    pieces = st.lists(st.text(max_size=5) | st.sampled_from(["▁", "▁a", "<0xE9>", "<0xBE>"]))
    source_pieces, target_pieces = data.draw(pieces), data.draw(pieces)
    size = len(source_pieces) + 1
    row = st.lists(st.floats(0, 1), min_size=size, max_size=size)
    found = words_of(
        segment(
            (source, 3, source_pieces),
            (target, 5, target_pieces),
            [data.draw(st.floats(1e-9, 1)) for _ in target_pieces],
            [data.draw(row) for _ in target_pieces],
        )
    )
    end = 5
    for word in found:
        assert end <= word.start < word.end
        assert target[word.start - 5 : word.end - 5] == word.text == word.text.strip()
        assert 0 <= word.confidence <= 1
        assert word.sources is not None
        for each in word.sources:
            assert source[each.start - 3 : each.end - 3] == each.text
        total = math.fsum(each.weight for each in word.sources)
        assert not word.sources or total == pytest.approx(1)
        end = word.end
    if target_pieces:
        covered = {place - 5 for word in found for place in range(word.start, word.end)}
        letters = {place for place, letter in enumerate(target) if num_letters(letter)}
        assert letters <= covered


def test_of_a_real_tokenizer_and_network(tiny_checkpoint: Path) -> None:
    text = "Two  ﬁne apples, 日本 👍!\nTen."
    (found,) = Translator.load(tiny_checkpoint).translate([text], alignments=True)
    assert len(found.segments) == 2
    for each in found.segments:
        words = words_of(each)
        assert [word.text for word in words] == each.text.split()
        log_probs = word_log_probs(each.target_pieces, each.token_log_probs)
        assert [word.confidence for word in words] == pytest.approx([*map(math.exp, log_probs)])
        assert all(found.text[word.start : word.end] == word.text for word in words)
        all_but_end = each.token_log_probs[: len(each.target_pieces)]
        assert math.prod(word.confidence for word in words) == pytest.approx(
            math.exp(sum(all_but_end)), rel=1e-6
        )
        for word in words:
            assert word.sources
            assert math.fsum(source.weight for source in word.sources) == pytest.approx(1)
            for source in word.sources:
                assert text[source.start : source.end] == source.text
