"""Reads TMX (Translation Memory eXchange) as a stream, and refuses dangerous XML.

Expat is used directly, for three reasons: no tree is built, so memory holds one translation unit;
line numbers are right in files of any size; dangerous constructs can be refused where they occur.
Entity declarations (external files, billion laughs) are errors. No other file is opened: a DOCTYPE
may name tmx14.dtd, which is not read. Nesting and size are limited.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from xml.parsers import expat

from model.text.languages import primary_subtag
from training.errors import CorpusError

MAX_UNIT_CHARS = 16 << 20  # text of one unit, all its languages together
MAX_TAG_BYTES = 1 << 20  # of one tag or comment
MAX_DEPTH = 64  # real files stay below ten

_CHUNK_BYTES = 1 << 16
# The content of these elements is formatting code, not text (TMX 1.4b, "content markup"). <hi> is
# not among them: it contains text of the segment.
_CODE_ELEMENTS = frozenset({"bpt", "ept", "it", "ph", "ut"})


def read_tmx(
    stream: BinaryIO, path: Path, source_language: str, target_language: str
) -> Iterator[tuple[str, str]]:
    """Yields (source, target) of every unit with both languages; `path` is for messages.

    A language matches exactly or else by its primary subtag: en accepts en-US. Inline formatting
    codes are removed, the text of <hi> is kept. Raises CorpusError with file and line when the XML
    is malformed, incomplete or refused, and when no unit has both languages.
    """
    handler = _UnitHandler(path)
    num_units = num_pairs = 0
    languages: set[str] = set()
    while True:
        chunk = stream.read(_CHUNK_BYTES)
        handler.feed(chunk)
        for unit in handler.take_units():
            num_units += 1
            if len(languages) < 20:  # for the message below; a hostile file names millions
                languages.update(unit)
            pair = _pair_of(unit, source_language, target_language)
            if pair is not None:
                num_pairs += 1
                yield pair
        if not chunk:
            break
    if not num_pairs:
        in_file = ", ".join(sorted(languages)[:20]) or "none"
        raise CorpusError(
            f"{path}: none of its {num_units:,} units has both {source_language} and "
            f"{target_language}; languages in the file: {in_file}; correct source_language and "
            f"target_language"
        )


def _pair_of(
    unit: dict[str, str], source_language: str, target_language: str
) -> tuple[str, str] | None:
    source_key = _match(unit, source_language)
    target_key = _match(unit, target_language)
    if source_key is None or target_key is None or source_key == target_key:
        return None
    return unit[source_key], unit[target_key]


def _match(unit: dict[str, str], language: str) -> str | None:
    """Returns a unit's key for a language: itself, else the first with the same primary subtag."""
    wanted = language.lower()
    if wanted in unit:
        return wanted
    primary = primary_subtag(wanted)
    return next((key for key in unit if primary_subtag(key) == primary), None)


class _UnitHandler:
    """Collects complete units, as {language: text}, from expat's events."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._num_bytes = 0
        self._depth = 0
        self._root_seen = False
        self._units: list[dict[str, str]] = []
        self._unit: dict[str, str] | None = None
        self._unit_chars = 0
        self._language: str | None = None
        self._text: list[str] | None = None  # of the open <seg>
        self._code_depth = 0  # inside how many code elements
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.EntityDeclHandler = self._refuse_declaration
        self._parser.SkippedEntityHandler = self._refuse_reference

    def feed(self, chunk: bytes) -> None:
        """Parses the next chunk; an empty chunk is the end of the file."""
        try:
            self._parser.Parse(chunk, not chunk)
        except expat.ExpatError as error:
            reason = expat.ErrorString(error.code)
            raise CorpusError(
                f"{self._path}, line {error.lineno}: not well-formed XML ({reason}); "
                "the file is damaged or cut off"
            ) from None
        except (ValueError, LookupError) as error:  # an encoding that expat does not support
            raise CorpusError(f"{self._path}: cannot be read as XML ({error})") from None
        self._num_bytes += len(chunk)
        # Expat keeps an incomplete tag or comment in memory and parses it again with every chunk.
        if self._num_bytes - max(self._parser.CurrentByteIndex, 0) > MAX_TAG_BYTES:
            raise self._error(f"one tag or comment is longer than {MAX_TAG_BYTES >> 20} MiB")

    def take_units(self) -> list[dict[str, str]]:
        """Returns the units completed since the last call."""
        units, self._units = self._units, []
        return units

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._root_seen and name != "tmx":
            raise self._error(f"the root element is <{name[:40]}>, so this is not TMX")
        self._root_seen = True
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"elements nested more than {MAX_DEPTH} deep")
        if name == "tu":
            self._unit, self._unit_chars = {}, 0
        elif name == "tuv":
            language = attributes.get("xml:lang") or attributes.get("lang") or ""  # lang: TMX 1.1
            self._language = language.replace("_", "-").lower()
        elif name == "seg":
            self._text = []
        elif self._text is not None and (name in _CODE_ELEMENTS or self._code_depth):
            self._code_depth += 1  # also <sub>, which stands inside codes

    def _end(self, name: str) -> None:
        self._depth -= 1
        if name == "tu":
            if self._unit is not None:
                self._units.append(self._unit)
            self._unit = None
        elif name == "tuv":
            self._language = None
        elif name == "seg":
            if self._text is not None and self._unit is not None and self._language:
                self._unit.setdefault(self._language, "".join(self._text))
            self._text, self._code_depth = None, 0
        elif self._code_depth:
            self._code_depth -= 1

    def _characters(self, text: str) -> None:
        if self._text is None or self._code_depth:
            return
        self._unit_chars += len(text)
        if self._unit_chars > MAX_UNIT_CHARS:
            raise self._error(f"one unit has more than {MAX_UNIT_CHARS:,} characters")
        self._text.append(text)

    def _refuse_declaration(self, name: str, *_: object) -> None:
        raise self._error(
            f"declares the XML entity {name[:40]!r}, which is refused for safety; remove it"
        )

    def _refuse_reference(self, name: str, *_: object) -> None:
        raise self._error(
            f"uses the XML entity &{name[:40]};, which is not defined in the file; replace it"
        )

    def _error(self, what: str) -> CorpusError:
        return CorpusError(f"{self._path}, line {self._parser.CurrentLineNumber}: {what}")
