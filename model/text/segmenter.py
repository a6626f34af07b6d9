"""Splits a text into segments that fit a limit, and joins their translations to a text.

The caller's function `fits` decides whether a segment is short enough. No text is lost: the
segments and the white space between them rebuild the input exactly.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import regex  # type: ignore[import-untyped, unused-ignore]
import sentencex

from model.text.languages import UNSPACED_SENTENCES, primary_subtag

# A segment that fits is a sentence, a line or the whole text, whose line breaks the network then
# sees as spaces.
Segmentation = Literal["sentence", "line", "none"]

# The end of a clause: after a mark. A comma or colon inside "1,000" or "12:30" is none.
_CLAUSE_END = re.compile(r"[,;:–](?=\s)|[—、，；：،؛]")
_LINE_BREAK = re.compile(r"[\n\v\f\r\x85\u2028\u2029]")  # mandatory breaks of UAX 14
_WORD_END = re.compile(r"\S(?=[^\S\u00a0\u2007\u202f])")  # a no-break space keeps words together
_BLANK = re.compile(r"\s*")
_OPENING = {"Ps", "Pi"}  # brackets and quotation marks, by Unicode category
_CLOSING = {"Pe", "Pf"}
_GRAPHEME = regex.compile(r"\X")

_FIRST_GUESS = 256  # characters in the first segment tried; later ones start from their neighbour
_SMALLEST_GUESS = 16
_SENTENCE_WINDOW = 4000  # characters in which sentence ends are looked for at once
_LOOKAHEAD = 64  # characters behind them that help to tell a full stop from an abbreviation

# sentencex (1.0.32) panics on some white space that is longer than one byte, and treats empty lines
# on its own; each such character is shown to it as a space, so that positions stay true.
_ODD_SPACE = re.compile(r"[^\S ]|[\x00-\x1f\x7f-\x9f]")
# Nor does it know these; they are shown to it as the Burmese one.
_KHMER_STOP = re.compile("[\u17d4\u17d5]")


@dataclass(frozen=True)
class Segment:
    """A part of a text that is translated at once; never blank, no white space at its ends."""

    text: str
    before: str  # the white space of the input between the previous segment and this one


@dataclass(frozen=True)
class Span:
    """The position of a part of a text: from `start` up to `end`, in code points."""

    start: int
    end: int


@dataclass(frozen=True)
class SplitText:
    """A text in segments: `"".join(s.before + s.text for s in segments) + after` is the input."""

    segments: tuple[Segment, ...]
    after: str  # the white space behind the last segment; all of a blank text

    @property
    def spans(self) -> list[Span]:
        """The position of each segment in the input."""
        return _spans((segment.before, segment.text) for segment in self.segments)


@dataclass(frozen=True)
class JoinedText:
    """A text made of translated segments, and the position of each in it."""

    text: str
    spans: list[Span]


def split(
    text: str, *, language: str, fits: Callable[[str], bool], segmentation: Segmentation = "line"
) -> SplitText:
    """Splits a text into sentences, into lines or not at all, and further where that does not fit.

    What does not fit is split into the longest segments that do. They end with a sentence; if no
    sentence ends there, with a clause, else with a word, else with a whole character as a reader
    sees it. A single code point becomes a segment even if `fits` refuses it. `language` is a BCP 47
    code; an unknown one is treated like English.
    """
    segments = []
    done = 0
    for stretch in _stretches(text, language, segmentation):
        content = text[stretch.start : stretch.end]
        for start, end in _split_stretch(content, language=language, fits=fits):
            before = text[done : stretch.start + start]
            segments.append(Segment(text=content[start:end], before=before))
            done = stretch.start + end
    return SplitText(segments=tuple(segments), after=text[done:])


def join(source: SplitText, translations: Sequence[str], *, target_language: str) -> JoinedText:
    """Joins the translations, one per segment, with the white space of the source between them.

    The space between two sentences follows the target language: a single one is left out in
    Chinese and Japanese, and where there is none, other languages get one. All other white space,
    and every line break that is not inside a segment, stays as it is.
    """
    unspaced = primary_subtag(target_language) in UNSPACED_SENTENCES
    parts: list[tuple[str, str]] = []
    for segment, translation in zip(source.segments, translations, strict=True):
        gap = segment.before
        if parts and not unspaced and gap == "":
            gap = " "
        elif parts and unspaced and gap == " ":
            # "Windows 11 Pro" stays three words in a Chinese text
            both_latin = parts[-1][1][-1:].isascii() and translation[:1].isascii()
            gap = " " if both_latin else ""
        parts.append((gap, translation))
    text = "".join(gap + translation for gap, translation in parts) + source.after
    return JoinedText(text, _spans(parts))


def _spans(parts: Iterable[tuple[str, str]]) -> list[Span]:
    """The position of the second part of each pair when all are joined."""
    spans = []
    end = 0
    for gap, content in parts:
        start = end + len(gap)
        end = start + len(content)
        spans.append(Span(start, end))
    return spans


def _stretches(text: str, language: str, segmentation: Segmentation) -> Iterator[Span]:
    """The segments that a text would have if all fitted, without white space around them."""
    if segmentation == "none":
        yield from _stripped(text, 0, len(text))
        return
    for line in _lines(text):
        if segmentation == "line":
            yield line
        else:
            for sentence in _sentences(text[line.start : line.end], language):
                yield Span(line.start + sentence.start, line.start + sentence.end)


def _lines(text: str) -> Iterator[Span]:
    """Each line that is not blank, without white space around it."""
    start = 0
    for line_break in _LINE_BREAK.finditer(text):
        yield from _stripped(text, start, line_break.start())
        start = line_break.end()
    yield from _stripped(text, start, len(text))


def _stripped(text: str, start: int, end: int) -> Iterator[Span]:
    """The part without the white space at its ends; nothing if it is blank."""
    part = text[start:end]
    content = part.lstrip()
    if content:
        start += len(part) - len(content)
        yield Span(start, start + len(content.rstrip()))


def _sentences(line: str, language: str) -> Iterator[Span]:
    """The sentences of a line.

    A part without a word ("1.", "M.", "...") means nothing by itself to the network: it is joined
    to the next sentence or, at the end of the line, to the one before.
    """
    fewest_letters = 1 if primary_subtag(language) in UNSPACED_SENTENCES else 2
    ends: list[int] = []
    begin = num_letters = 0
    for end in (*_sentence_ends(line, language), len(line)):
        num_letters += sum(map(str.isalpha, line[begin:end]))
        begin = end
        if num_letters >= fewest_letters:
            ends.append(end)
            num_letters = 0
    ends[-1:] = [len(line)]
    start = 0
    for end in ends:
        yield from _stripped(line, start, end)
        start = end


def _sentence_ends(line: str, language: str) -> Iterator[int]:
    """The ends of the sentences within a line, the white space after them included.

    The line is read in windows, because sentencex takes time with the square of its length. A
    sentence that fills half a window or more goes on in the next one.
    """
    begin = 0
    while True:
        limit = begin + _SENTENCE_WINDOW
        last = None
        for end in _ends_in_window(line, begin, limit + _LOOKAHEAD, language):
            if end > limit:
                break
            if _is_sentence_end(line, end, language):
                last = end
                yield end
        if limit >= len(line):
            return
        begin = limit if last is None else max(last, begin + _SENTENCE_WINDOW // 2)


def _is_sentence_end(line: str, end: int, language: str) -> bool:
    """Whether an end of a sentence that sentencex found is one, also without a space after it.

    It is none in `Node.js`, nor in 「はい。」と言った, where the quotation goes on.
    """
    last, following = line[end - 1], line[end]
    if last.isspace():
        return True
    if unicodedata.category(last) in _CLOSING:
        return unicodedata.category(following) in _OPENING
    unspaced = primary_subtag(language) in UNSPACED_SENTENCES
    return not last.isascii() or (unspaced and not following.isascii())


def _split_stretch(
    line: str, *, language: str, fits: Callable[[str], bool]
) -> Iterator[tuple[int, int]]:
    """Start and end of each segment of a text without white space at its ends."""
    if fits(line):
        yield 0, len(line)
        return
    start, guess = 0, _FIRST_GUESS
    while start < len(line):
        limit = _farthest_fit(line, start, guess=guess, fits=fits)
        end = _best_end(line, start, limit, language=language)
        # A piece of a text may have more tokens than the whole: "runnin", "running".
        while end > start + 1 and not fits(line[start:end]):
            limit = start + (end - start) // 2
            end = _best_end(line, start, limit, language=language)
        yield start, end
        guess = max(_SMALLEST_GUESS, limit - start)
        start = _skip_blank(line, end)


def _farthest_fit(line: str, start: int, *, guess: int, fits: Callable[[str], bool]) -> int:
    """The last end with `fits(line[start:end])`, at least one character after the start.

    Assumes that `fits` is monotone. Calls it O(log) times with texts at most twice as long as the
    result or the guess, so that a whole line costs n log n however long it is.
    """
    low, high = start + 1, min(start + guess, len(line))
    if high == low:
        return high
    while fits(line[start:high]):
        if high == len(line):
            return high
        low, high = high, min(high + (high - start), len(line))
    while high - low > 1:
        middle = (low + high) // 2
        if fits(line[start:middle]):
            low = middle
        else:
            high = middle
    return low


def _best_end(line: str, start: int, limit: int, *, language: str) -> int:
    """The best end of the segment that begins at `start` and may reach to `limit`."""
    if limit == len(line):
        return limit
    sentence_end = _last_sentence_end(line, start, limit, language=language)
    if sentence_end is not None:
        return sentence_end
    middle = start + (limit - start) // 2  # rather a long piece of words than a short clause
    for begin in (middle, start):
        for pattern in (_CLAUSE_END, _WORD_END):
            ends = [m.end() for m in pattern.finditer(line, begin, limit + 1) if m.end() <= limit]
            if ends:
                return ends[-1]
    graphemes = _GRAPHEME.finditer(line, start, limit + 1)
    end = max((m.end() for m in graphemes if m.end() <= limit), default=limit)
    return start + len(line[start:end].rstrip())


def _last_sentence_end(line: str, start: int, limit: int, *, language: str) -> int | None:
    """End, white space not counted, of the last sentence that is whole before the limit."""
    begin = max(start, limit - _SENTENCE_WINDOW)
    last = None
    for end in _ends_in_window(line, begin, limit + _LOOKAHEAD, language):
        content = line[begin:end].rstrip()
        content_end = begin + len(content)
        if content_end > limit:
            break
        if content:
            last = content_end
        begin = end
    return last


def _ends_in_window(line: str, begin: int, end: int, language: str) -> Iterator[int]:
    """The ends of sentences that sentencex finds in a part of a line.

    The last one is left out: the window ends there, maybe not the sentence.
    """
    end = min(end, len(line))
    window = _KHMER_STOP.sub("\u104b", _ODD_SPACE.sub(" ", line[begin:end]))
    try:
        sentences = sentencex.segment(primary_subtag(language), window)
    except BaseException as error:  # a panic in Rust is not an Exception; it must not end a thread
        if type(error).__name__ != "PanicException":
            raise
        return
    for sentence in filter(None, sentences[:-1]):
        begin += len(sentence)
        if begin == end:
            return
        yield begin


def _skip_blank(line: str, position: int) -> int:
    blank = _BLANK.match(line, position)
    assert blank is not None  # the pattern matches the empty string
    return blank.end()
