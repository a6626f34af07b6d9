"""Matches clients' language codes to the served language pairs, and names languages.

Clients write `EN-US`, `pt_BR`, `zh-CN` or `deu`; a model says `en`, `pt`, `zh-Hans` or `de`. The
matching rules are those of CLDR, which `langcodes` reads from its own files, never the network.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from langcodes import Language, closest_match
from langcodes.tag_parser import LanguageTagError

from model.text.languages import UNSPACED_WORDS, primary_subtag
from service.errors import UnknownLanguagePair

# CLDR's distance: at most 5 between regions of one language, at least 19 between scripts.
_MAX_DISTANCE = 5

_RIGHT_TO_LEFT = frozenset({"Adlm", "Arab", "Hebr", "Mand", "Nkoo", "Rohg", "Samr", "Syrc", "Thaa"})


def match_code(asked: str, codes: Iterable[str]) -> str | None:
    """The code in `codes` that matches `asked`, ignoring case; None if there is none.

    In this order: the same code, a wider one (en-US: en), a narrower one (zh: zh-Hans), another
    region (pt-PT: pt-BR). Never another script, never a related language.
    """
    return _match(asked, tuple(codes))


@lru_cache(maxsize=1024)
def _match(asked: str, codes: tuple[str, ...]) -> str | None:
    by_lookup = {wider_codes(code)[0]: code for code in codes}
    for wider in wider_codes(asked):
        if wider in by_lookup:
            return by_lookup[wider]
    if not codes:
        return None
    try:
        code, distance = closest_match(asked, codes, max_distance=_MAX_DISTANCE)
    except LanguageTagError:
        return None
    return code if distance <= _MAX_DISTANCE else None


@lru_cache(maxsize=1024)
def language_name(code: str, in_language: str = "en") -> str:
    """The English name of a language, such as `Chinese (Simplified)`; the code if it has none."""
    try:
        language = Language.get(code)
        return language.display_name(in_language) if language.is_valid() else code
    except LanguageTagError:
        return code


def has_spaced_words(code: str) -> bool:
    """False for a language that is written without spaces between words, such as Thai."""
    return primary_subtag(code) not in UNSPACED_WORDS


@lru_cache(maxsize=1024)
def is_right_to_left(code: str) -> bool:
    """True for a language whose usual script runs from right to left, such as Arabic."""
    try:
        return Language.get(code).maximize().script in _RIGHT_TO_LEFT
    except LanguageTagError:
        return False


def wider_codes(code: str) -> list[str]:
    """A language code and its fallbacks: ['zh-hans-cn', 'zh-hans', 'zh'] (RFC 4647, lookup)."""
    subtags = code.replace("_", "-").lower().split("-")
    return ["-".join(subtags[:length]) for length in range(len(subtags), 0, -1)]


def base_code(code: str) -> str:
    """The language code without script and region: zh for zh-Hans."""
    return primary_subtag(code)


def wider_pairs(source: str, target: str) -> Iterator[tuple[str, str]]:
    """The pair and its fallbacks, nearest first: the target widened, then the source."""
    for wider_source in wider_codes(source):
        for wider_target in wider_codes(target):
            yield wider_source, wider_target


def same_language(one: str, other: str) -> bool:
    """True when both codes mean the same language, in any script and spelling."""
    return match_code(base_code(one), [base_code(other)]) is not None


@dataclass(frozen=True)
class ServedPairs:
    """The language pairs that are served at one moment."""

    pairs: tuple[tuple[str, str], ...]
    pivoted: frozenset[tuple[str, str]] = frozenset()  # pairs that need two models

    @property
    def sources(self) -> tuple[str, ...]:
        """Source languages, sorted by name."""
        return _in_order(source for source, _ in self.pairs)

    @property
    def targets(self) -> tuple[str, ...]:
        """Target languages, sorted by name."""
        return _in_order(target for _, target in self.pairs)

    @property
    def by_language(self) -> dict[str, tuple[str, ...]]:
        """Every language, sorted by name, with its target languages, which may be none."""
        return {
            code: self.targets_of(code)
            for code in _in_order(code for pair in self.pairs for code in pair)
        }

    def targets_of(self, source: str) -> tuple[str, ...]:
        """Target languages of a source language, sorted by name."""
        return _in_order(target for served, target in self.pairs if served == source)

    def match_source(self, asked: str) -> str:
        """The served source language that matches a client's code; raises UnknownLanguagePair."""
        code = match_code(asked, self.sources)
        if code is None:
            raise _not_supported("source", self.sources)
        return code

    def unknown_target(self) -> UnknownLanguagePair:
        """The error for a target language that no model has."""
        return _not_supported("target", self.targets)

    def match_target(self, asked: str, source: str) -> str:
        """The served target that matches a client's code; raises UnknownLanguagePair."""
        targets = self.targets_of(source)
        # A less exact code with one model is better than an exact one with two models.
        direct = [target for target in targets if (source, target) not in self.pivoted]
        code = match_code(asked, direct) or match_code(asked, targets)
        if code is None and match_code(asked, self.targets) is None:
            raise self.unknown_target()
        if code is None:
            raise UnknownLanguagePair(
                f"this translation from {language_name(source)} is not supported; "
                f"there are: {', '.join(f'{one} to {other}' for one, other in self.pairs)}",
                field="target",
            )
        return code


def _in_order(codes: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(codes), key=lambda code: (language_name(code), code)))


def _not_supported(role: str, codes: Iterable[str]) -> UnknownLanguagePair:
    return UnknownLanguagePair(
        f"the {role} language is not supported; there are: {', '.join(codes) or 'none'}",
        field=role,
    )
