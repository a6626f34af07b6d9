"""Texts with tags: what stands between the tags is translated, the tags stay as they are.

Each run of text between two tags is translated by itself, so a tag in the middle of a sentence
cuts it in two. In return nothing can lose, move or invent a tag.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from html import escape, unescape
from itertools import islice

# Not html.parser: hostile input of 100,000 characters keeps it busy for a minute. No alternative
# here looks far beyond the next "<", so the time is that of one reading.
_TAG = re.compile(
    r"""
    <!--(?:(?!<!--).)*?-->
    | <!\[CDATA\[(?:(?!<!\[CDATA\[).)*?\]\]>
    | <[!?][^<>]*>
    | <(?P<slash>/?)(?P<name>[A-Za-z][^\s<>/"']*+)
      (?>[^<>"']+ | "[^"]{0,4096}" | '[^']{0,4096}')*+ >
    """,
    re.VERBOSE | re.DOTALL,
)
_NEVER_TEXT = frozenset({"script", "style"})


@dataclass(frozen=True)
class Document:
    """What is to be translated of a text, and what stands around it."""

    texts: tuple[str, ...]
    frame: tuple[str, ...]  # before, between and after them: one more than `texts`
    escaped: bool  # &amp; stands for &

    def filled(self, translations: Sequence[str]) -> str:
        """The document with these in place of its texts."""
        inside = map(_escape, translations) if self.escaped else translations
        pairs = zip(self.frame[:-1], inside, strict=True)
        return "".join(part for pair in pairs for part in pair) + self.frame[-1]


def plain_document(text: str, max_texts: int | None = None) -> Document:
    """A text without tags: all of it is to be translated."""
    return Document((text,), ("", ""), escaped=False)


def tagged_document(
    text: str, max_texts: int | None = None, *, ignored_tags: Collection[str] = ()
) -> Document:
    """HTML or XML, well formed or not; what stands inside of `ignored_tags` stays as it is.

    Reads no further than to one text more than `max_texts`.
    """
    found = _runs(text, _NEVER_TEXT | {tag.lower() for tag in ignored_tags})
    runs = list(found if max_texts is None else islice(found, max_texts + 1))
    edges = [0, *(edge for run in runs for edge in run), len(text)]
    frame = [text[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True)]
    texts = [unescape(text[start:end]) for start, end in runs]
    return Document(tuple(texts), tuple(frame), escaped=True)


def _runs(text: str, ignored_tags: Collection[str]) -> Iterator[tuple[int, int]]:
    """Start and end of each run of text that is not blank."""
    start, ignored = 0, ""  # the tag whose inside is left alone
    for tag in _TAG.finditer(text):
        if not ignored and text[start : tag.start()].strip():
            yield start, tag.start()
        start = tag.end()
        name = (tag["name"] or "").lower()
        if ignored and tag["slash"] and name == ignored:
            ignored = ""
        elif not ignored and name in ignored_tags and not tag["slash"] and text[start - 2] != "/":
            ignored = name
    if not ignored and text[start:].strip():
        yield start, len(text)


def _escape(text: str) -> str:
    return escape(text, quote=False)
