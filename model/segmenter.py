"""A text, maybe of several lines, becomes segments that fit a limit; translations become a text.

Knows nothing of models: the caller's `fits` says what is short enough. Nothing is ever cut off:
segments and the white space between them rebuild the input exactly.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import regex  # type: ignore[import-untyped, unused-ignore]
import sentencex

# Written without spaces between sentences. Thai, Lao, Khmer and Burmese are not here: they leave
# out the spaces between words, but put one between sentences.
_UNSPACED_LANGUAGES = {"zh", "cmn", "yue", "wuu", "hak", "nan", "lzh", "ja"}

# The end of a clause: after a mark. A comma or colon inside "1,000" or "12:30" is none.
_CLAUSE_END = re.compile(r"[,;:–](?=\s)|[—、，；：،؛]")
_WORD_END = re.compile(r"\S(?=[^\S\u00a0\u2007\u202f])")  # a no-break space keeps words together
_BLANK = re.compile(r"\s*")
_GRAPHEME = regex.compile(r"\X")

_FIRST_GUESS = 256  # characters in the first segment tried; later ones start from their neighbour
_SMALLEST_GUESS = 16
_SENTENCE_WINDOW = 4000  # characters before the limit in which a sentence end is looked for
_LOOKAHEAD = 64  # characters after the limit that help to tell a full stop from an abbreviation

# sentencex (1.0.32) panics on some white space that is longer than one byte, and treats empty lines
# on its own; each such character is shown to it as a space, so that positions stay true.
_ODD_SPACE = re.compile(r"[^\S ]|[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Segment:
    """What is translated in one go; never blank, no white space at its ends."""

    text: str
    before: str  # the white space of the input between the previous segment and this one


@dataclass(frozen=True)
class Segmentation:
    """`"".join(s.before + s.text for s in segments) + after` is the input, exactly."""

    segments: tuple[Segment, ...]
    after: str  # the white space behind the last segment; all of a blank text


def split(text: str, *, language: str, fits: Callable[[str], bool]) -> Segmentation:
    """Lines stay apart; a line that fits is one segment; a longer one is split into some.

    Each of its segments is as long as fits and ends with a sentence; if no sentence ends there,
    with a clause, else with a word, else with a whole character as a reader sees it. A single code
    point becomes a segment even if `fits` refuses it. `language` is a BCP 47 code; an unknown one
    is treated like English.
    """
    segments = []
    done = 0
    for line_start, line_end in _lines(text):
        line = text[line_start:line_end]
        for start, end in _split_line(line, language=language, fits=fits):
            before = text[done : line_start + start]
            segments.append(Segment(text=line[start:end], before=before))
            done = line_start + end
    return Segmentation(segments=tuple(segments), after=text[done:])


def join(segmentation: Segmentation, translations: Sequence[str], *, target_language: str) -> str:
    """The translations, one per segment, with the white space of the source between them.

    Within a line, the space between two sentences follows the target language: Chinese and Japanese
    have none, others at least one.
    """
    unspaced = _primary_subtag(target_language) in _UNSPACED_LANGUAGES
    parts: list[str] = []
    previous = ""
    for segment, translation in zip(segmentation.segments, translations, strict=True):
        gap = segment.before
        if parts and not unspaced and gap == "":
            gap = " "
        elif parts and unspaced and gap == " ":
            # "Windows 11 Pro" stays three words in a Chinese text
            both_latin = previous[-1:].isascii() and translation[:1].isascii()
            gap = " " if both_latin else ""
        parts += (gap, translation)
        previous = translation
    return "".join(parts) + segmentation.after


def _lines(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of the text on each line that is not blank, without white space around it."""
    start = 0
    while start < len(text):
        newline = text.find("\n", start)
        end = len(text) if newline < 0 else newline
        line = text[start:end]
        content = line.strip()
        if content:
            indent = len(line) - len(line.lstrip())
            yield start + indent, start + indent + len(content)
        start = end + 1


def _split_line(
    line: str, *, language: str, fits: Callable[[str], bool]
) -> Iterator[tuple[int, int]]:
    """Start and end of each segment of a line that neither starts nor ends with white space."""
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
    """The last end with `fits(line[start:end])`, at least one character behind the start.

    Takes `fits` to be monotone. Asks it O(log) times about texts at most twice as long as the
    answer or the guess, so that a whole line costs n log n however long it is.
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
    """Where to end the segment that begins at `start` and may reach to `limit`."""
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
    end = max(start, limit - _SENTENCE_WINDOW)
    window = _ODD_SPACE.sub(" ", line[end : limit + _LOOKAHEAD])
    try:
        sentences = sentencex.segment(_primary_subtag(language), window)
    except BaseException as error:  # a panic in Rust is not an Exception; it must not end a thread
        if type(error).__name__ != "PanicException":
            raise
        return None
    last = None
    for sentence in sentences[:-1]:  # where the window ends, the last one does not
        content_end = end + len(sentence.rstrip())
        if content_end > limit:
            break
        if sentence.strip():
            last = content_end
        end += len(sentence)
    return last


def _skip_blank(line: str, position: int) -> int:
    blank = _BLANK.match(line, position)
    assert blank is not None  # the pattern matches the empty string
    return blank.end()


def _primary_subtag(language: str) -> str:
    """`zh` of `zh-Hans-CN`, as sentencex and our own tables know it."""
    return language.partition("-")[0].lower()
