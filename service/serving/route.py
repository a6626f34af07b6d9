"""The models that a text goes through: one, or two with a third language, the pivot, between them.

Pivoting loses something twice, so a model that goes directly always comes first, and none goes back
to the language it came from.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from service.serving.served_model import ModelInfo, ServedModel
from service.text.languages import base_code, same_language, wider_codes, wider_pairs

if TYPE_CHECKING:
    from model.translation import Translation

Pair = tuple[str, str]  # source and target

_PREFERRED = "en"  # what most pairs of texts have on one side, and so most models


@dataclass(frozen=True)
class Route:
    """One or two models, in the order in which they work."""

    legs: tuple[ServedModel, ...]

    @property
    def last(self) -> ServedModel:
        """The model whose translation is the answer."""
        return self.legs[-1]

    @property
    def pivot(self) -> str | None:
        """The language between two models; None where there is one model."""
        return _pair(self.legs[0])[1] if len(self.legs) > 1 else None

    @contextlib.contextmanager
    def lease(self) -> Iterator[None]:
        """Keeps the route's models open while the block runs."""
        with contextlib.ExitStack() as leases:
            for leg in self.legs:
                leases.enter_context(leg.lease())
            yield

    @property
    def name(self) -> str:
        """The models' names, with commas."""
        return ",".join(leg.name for leg in self.legs)


def through_third(ready: Sequence[ServedModel], source: str, target: str) -> Route | None:
    """The route of two models between these languages, if there is one; codes are widened.

    Through English if possible, else through the first language in alphabetical order.
    """
    for wider_source, wider_target in wider_pairs(source, target):
        found = [
            Route((first, second))
            for first in ready
            if wider_codes(_pair(first)[0])[0] == wider_source
            for second in ready
            if wider_codes(_pair(second)[1])[0] == wider_target
            and _connect(_pair(first), _pair(second))
        ]
        if found:
            return min(found, key=_rank)
    return None


@lru_cache(maxsize=16)
def pivoted_pairs(direct: tuple[Pair, ...]) -> tuple[Pair, ...]:
    """What two of these pairs reach one after the other, and none of them alone; in order."""
    found = {
        (first[0], second[1]) for first in direct for second in direct if _connect(first, second)
    }
    return tuple(sorted(found - set(direct)))


def joined(first: "Translation", last: "Translation") -> "Translation":
    """The translation by two models: the last one's words, and what both say of them.

    The sum of log_probs is the log-probability of the whole way: that the first model writes the
    text in between, and the last one this translation of it. (Not of the translation given the
    source, for which all other ways would have to be summed up.) Scores are summed likewise, also
    those of alternatives, which differ in the last leg only. Of `segments` there are both models',
    to be searched for loops: they say nothing of where anything stands.
    """
    return replace(
        last,
        score=first.score + last.score,
        log_prob=first.log_prob + last.log_prob,
        alternatives=tuple(
            replace(
                other, score=first.score + other.score, log_prob=first.log_prob + other.log_prob
            )
            for other in last.alternatives
        ),
        segments=(*first.segments, *last.segments),
        source_tokens=first.source_tokens,
        truncated=first.truncated or last.truncated,
    )


def _connect(first: Pair, second: Pair) -> bool:
    """Whether a model reads what another writes, and it takes them through three languages."""
    (source, pivot), (into, target) = first, second
    if wider_codes(into)[0] not in wider_codes(pivot):  # one of en reads en-US, not conversely
        return False
    return not (
        same_language(source, pivot)
        or same_language(pivot, target)
        or same_language(source, target)
    )


def _rank(route: Route) -> tuple[bool, str, int]:
    """Lowest is best; among equals the models' names decide, which are in order."""
    (_, pivot), (into, _) = map(_pair, route.legs)
    codes = wider_codes(pivot)
    return base_code(pivot) != _PREFERRED, codes[0], codes.index(wider_codes(into)[0])


def _pair(served_model: ServedModel) -> Pair:
    info: ModelInfo | None = served_model.known_info  # also of one that was replaced since
    assert info is not None, "only models that were ready are on a route"
    return info.source_language, info.target_language
