"""Words of a translation: the confidence of each and the source words that it came from.

A word is a run without white space; in scripts without spaces it is one of the model's pieces.

- The confidence of a word is the product of its pieces' probabilities: by the chain rule, the
  probability of the word given the words before it. Ueffing and Ney (2007, Computational
  Linguistics 33(1)) call it confidence; Fomicheva et al. (2020, TACL 8) show that such
  probabilities agree with people's judgement of neural translations. It says how sure the model
  was, not whether it is right.
- The mean attention of a word's pieces says which source words it came from.

Pieces are those of the normalised text (ﬁ is two letters there), so words and pieces are matched by
counting letters of normalised words. Where the counts differ, both are scaled to the same length.
"""

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import regex  # type: ignore[import-untyped, unused-ignore]

from model.text.languages import UNSPACED_CHARACTER
from model.translation import SegmentTranslation

_GRAPHEME = regex.compile(r"\X")
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_NO_LETTERS = frozenset(map(chr, (*range(0x20), *range(0x7F, 0xA0)))) | {
    *"\u200b\u200e\u200f\u2581\ufeff"  # spaces to the tokenizer
}

_LEAST_WEIGHT = 0.01  # less of the attention is noise; many such would make answers megabytes


@dataclass(frozen=True)
class SourceWord:
    """A source word's position, in code points, and its share of a translated word's attention."""

    text: str
    start: int
    end: int
    weight: float


@dataclass(frozen=True)
class Word:
    """A word of the translation: position in code points, confidence, source words."""

    text: str
    start: int
    end: int
    confidence: float  # 0 to 1
    # Largest weight first; weights sum to 1. Empty if the attention was on the end of the source
    # alone; None if no attention was asked for.
    sources: tuple[SourceWord, ...] | None


@dataclass(frozen=True)
class _Place:
    text: str
    start: int
    end: int


# The words that one piece covers, by number, and its share in each; the shares sum to 1.
_Shares = dict[int, float]


def words_of(segment: SegmentTranslation) -> list[Word]:
    """The words of a segment's translation, in order; none if it was not translated."""
    if not segment.target_pieces:
        return []
    sources = split_words(segment.source, segment.source_pieces, segment.source_span.start)
    targets = split_words(segment.text, segment.target_pieces, segment.target_span.start)
    source_shares = shares(segment.source_pieces, sources)
    pieces_of: list[list[tuple[int, float]]] = [[] for _ in targets]
    for piece, parts in enumerate(shares(segment.target_pieces, targets)):
        for word, share in parts.items():
            pieces_of[word].append((piece, share))
    return [
        Word(
            target.text,
            target.start,
            target.end,
            _confidence(segment.token_log_probs, pieces),
            None
            if segment.alignment is None
            else _sources(segment.alignment, pieces, source_shares, sources),
        )
        for target, pieces in zip(targets, pieces_of, strict=True)
    ]


def _confidence(token_log_probs: Sequence[float], pieces: Sequence[tuple[int, float]]) -> float:
    # A piece that belongs to two words is divided by its letters.
    log_prob = math.fsum(share * token_log_probs[piece] for piece, share in pieces)
    return min(1.0, math.exp(log_prob))


def _sources(
    alignment: Sequence[Sequence[float]],
    pieces: Sequence[tuple[int, float]],
    source_shares: Sequence[_Shares],
    words: Sequence[_Place],
) -> tuple[SourceWord, ...]:
    weights = [0.0] * len(words)
    for piece, share in pieces:
        # Attention to the end of the source, the last column, is to no word.
        for weight, parts in zip(alignment[piece][:-1], source_shares, strict=True):
            for word, part in parts.items():
                weights[word] += share * float(weight) * part
    least = _LEAST_WEIGHT * sum(weights)
    kept = [(weight, word) for weight, word in zip(weights, words, strict=True) if weight > least]
    total = sum(weight for weight, _ in kept)
    kept.sort(key=lambda entry: -entry[0])
    return tuple(
        SourceWord(word.text, word.start, word.end, weight / total) for weight, word in kept
    )


def split_words(text: str, pieces: Sequence[str], offset: int) -> list[_Place]:
    """Positions of the words in a text that consists of these pieces, counted from `offset`.

    A run of invisible characters alone, such as U+200B, is not a word; numbers and punctuation are.
    """
    graphemes = [(match.start(), match.group()) for match in _GRAPHEME.finditer(text)]
    letter_ends = list(accumulate(num_letters(grapheme) for _, grapheme in graphemes))
    num_all = letter_ends[-1] if letter_ends else 0
    piece_ends = {round(end) for end in _ends(pieces, num_all)}
    starts, ends = [], []
    was_blank = True
    for number, (position, grapheme) in enumerate(graphemes):
        is_blank = grapheme.isspace()
        cut = is_blank != was_blank or (
            letter_ends[number - 1] in piece_ends
            and (
                UNSPACED_CHARACTER.match(grapheme)
                or UNSPACED_CHARACTER.match(graphemes[number - 1][1])
            )
        )
        if cut and not was_blank:
            ends.append(position)
        if cut and not is_blank:
            starts.append(position)
        was_blank = is_blank
    if not was_blank:
        ends.append(len(text))
    return [
        _Place(text[start:end], offset + start, offset + end)
        for start, end in zip(starts, ends, strict=True)
        if num_letters(text[start:end])
    ]


def shares(pieces: Sequence[str], words: Sequence[_Place]) -> list[_Shares]:
    """For each piece the words that its letters belong to; empty if there are no words."""
    if not words:
        return [{} for _ in pieces]
    word_ends = list(accumulate(num_letters(word.text) for word in words))
    found: list[_Shares] = []
    word = 0
    piece_ends = _ends(pieces, word_ends[-1])
    for piece, (start, end) in zip(pieces, pairwise([0.0, *piece_ends]), strict=True):
        while word < len(words) - 1 and word_ends[word] <= start + _ROUNDING:
            word += 1
        if end - start <= _ROUNDING:
            # A lone ▁ belongs to the word that follows, a later byte of a letter to the one before.
            before = _BYTE.fullmatch(piece) and word > 0 and word_ends[word - 1] >= end - _ROUNDING
            found.append({word - 1 if before else word: 1.0})
            continue
        parts: _Shares = {}
        for at in range(word, len(words)):
            begin = start if at == word else word_ends[at - 1]
            until = end if at == len(words) - 1 else min(end, word_ends[at])
            if until - begin > _ROUNDING:
                parts[at] = (until - begin) / (end - start)
            if until == end:
                break
        found.append(parts)
    return found


_ROUNDING = 1e-6  # of a letter, after stretching


def _ends(pieces: Sequence[str], total: int) -> list[float]:
    """The number of letters after which each piece ends, scaled to `total` letters."""
    ends = list(accumulate(map(piece_letters, pieces)))
    stretch = total / ends[-1] if ends and ends[-1] else 1.0
    return [end * stretch for end in ends]


def num_letters(text: str) -> int:
    """Number of code points after NFKC, without white space and invisible characters.

    Called letters in this module; digits and punctuation count too.
    """
    normalised = unicodedata.normalize("NFKC", text)
    return sum(not (each.isspace() or each in _NO_LETTERS) for each in normalised)


def piece_letters(piece: str) -> int:
    """Number of letters in a piece; of the bytes of one letter only the first counts."""
    byte = _BYTE.fullmatch(piece)
    if byte is not None:
        return 0 if int(byte[1], 16) & 0xC0 == 0x80 else 1
    return num_letters(piece.replace("\u2581", ""))
