"""Translations that were made before, so that the same text costs nothing the second time.

What the network answers depends on nothing but text, settings and weights, so the version of the
model is a part of the key, and nothing ever has to be thrown out but for room.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cachetools import LRUCache

if TYPE_CHECKING:
    from model.decoding.beam_search import SearchConfig
    from model.text.segmenter import Segmentation
    from model.translation import Translation

_OWN_SIZE = 100  # characters that an entry costs by itself: numbers, pieces' objects


@dataclass(frozen=True)
class CacheKey:
    """All that a translation depends on."""

    version: str  # of the checkpoint
    precision: str  # another one may choose another word
    search: "SearchConfig"
    segmentation: "Segmentation"
    text: str


class ResultCache:
    """The translations used last, as many as `max_characters` hold; shared by all models."""

    def __init__(self, max_characters: int) -> None:
        """0 remembers nothing."""
        self._entries: LRUCache[CacheKey, Translation] = LRUCache(max_characters, _size)

    @property
    def num_texts(self) -> int:
        """Translations that are remembered."""
        return len(self._entries)

    @property
    def num_characters(self) -> int:
        """Their size, as `max_characters` counts it."""
        return int(self._entries.currsize)

    def get(self, key: CacheKey) -> "Translation | None":
        """The translation of a text, if it is remembered."""
        return self._entries.get(key)

    def put(self, key: CacheKey, translation: "Translation") -> None:
        """Remembers a translation, unless it would take a good part of all the room."""
        if _size(translation) <= self._entries.maxsize // 4:
            self._entries[key] = translation


def _size(translation: "Translation") -> int:
    """Characters of the source, the translation, its pieces and the alternatives."""
    segments = sum(len(each.source) + len(each.text) for each in translation.segments)
    others = sum(len(other.text) for other in translation.alternatives)
    return _OWN_SIZE + len(translation.text) + 2 * segments + others
