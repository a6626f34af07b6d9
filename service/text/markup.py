"""HTML and XML: the text between tags is translated, the tags stay as they are.

Each run of text between two tags is translated separately, so a tag inside a sentence cuts it in
two. In return no tag is ever lost, moved or invented.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from html import escape, unescape
from itertools import islice

# Not html.parser: hostile input of 100,000 characters takes it a minute. No alternative of this
# expression looks far beyond the next "<", so the time grows with the length only.
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
    """The parts of a text to translate, and the markup around them."""

    texts: tuple[str, ...]
    frame: tuple[str, ...]  # markup before, between and after the texts: one more than `texts`
    escaped: bool  # &amp; stands for &

    def filled(self, translations: Sequence[str]) -> str:
        """The document with its texts replaced by these."""
        inside = map(_escape, translations) if self.escaped else translations
        pairs = zip(self.frame[:-1], inside, strict=True)
        return "".join(part for pair in pairs for part in pair) + self.frame[-1]


def plain_document(text: str, max_texts: int | None = None) -> Document:
    """A document of plain text, to be translated whole."""
    return Document((text,), ("", ""), escaped=False)


def tagged_document(
    text: str, max_texts: int | None = None, *, ignored_tags: Collection[str] = ()
) -> Document:
    """A document of HTML or XML, well formed or not; elements in `ignored_tags` stay as they are.

    Stops reading after `max_texts` + 1 texts.
    """
    found = _runs(text, _NEVER_TEXT | {tag.lower() for tag in ignored_tags})
    runs = list(found if max_texts is None else islice(found, max_texts + 1))
    edges = [0, *(edge for run in runs for edge in run), len(text)]
    frame = [text[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True)]
    texts = [unescape(text[start:end]) for start, end in runs]
    return Document(tuple(texts), tuple(frame), escaped=True)


def _runs(text: str, ignored_tags: Collection[str]) -> Iterator[tuple[int, int]]:
    """Start and end of each run of text that is not blank."""
    start, ignored = 0, ""  # the ignored element that is open
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
