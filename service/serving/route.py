"""Routes: the model for a text, or two models with a third language, the pivot, between them.

Each translation loses something, so a direct model is always preferred. A route never returns to
the source language.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from model.translation import Translation
from service.serving.served_model import ModelInfo, ServedModel
from service.text.languages import base_code, same_language, wider_codes, wider_pairs

Pair = tuple[str, str]  # source and target

_PREFERRED = "en"  # most parallel corpora, and so most models, have English on one side


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
    """A route of two models between these languages; None if there is none.

    The pivot is English if possible, else the first language in alphabetical order. Language codes
    fall back to wider ones.
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
    """Language pairs that two of these pairs reach together and none reaches alone, sorted."""
    found = {
        (first[0], second[1]) for first in direct for second in direct if _connect(first, second)
    }
    return tuple(sorted(found - set(direct)))


def joined(first: Translation, last: Translation) -> Translation:
    """The translation by two models: the text of the last one, with values from both.

    log_prob is the sum of both: the log-probability that the first model writes the intermediate
    text and the last one translates it so. (Not the log-probability of the translation given the
    source, which would sum over all intermediate texts.) Scores are summed likewise, also those of
    alternatives, which differ in the last step only. Warnings are those of both models.
    `segments` are the last model's; their positions do not belong to the text.
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
        source_tokens=first.source_tokens,
        truncated=first.truncated or last.truncated,
        warnings=tuple(dict.fromkeys((*first.warnings, *last.warnings))),
    )


def _connect(first: Pair, second: Pair) -> bool:
    """Whether the second model reads the first one's output, and three languages differ."""
    (source, pivot), (into, target) = first, second
    if wider_codes(into)[0] not in wider_codes(pivot):  # a model of en reads en-US, not vice versa
        return False
    return not (
        same_language(source, pivot)
        or same_language(pivot, target)
        or same_language(source, target)
    )


def _rank(route: Route) -> tuple[bool, str, int]:
    """Sort key of a route, best first; min() keeps the order of the models' names among equals."""
    (_, pivot), (into, _) = map(_pair, route.legs)
    codes = wider_codes(pivot)
    return base_code(pivot) != _PREFERRED, codes[0], codes.index(wider_codes(into)[0])


def _pair(served_model: ServedModel) -> Pair:
    info: ModelInfo | None = (
        served_model.known_info
    )  # also known for a model that was replaced meanwhile
    assert info is not None, "only models that were ready are on a route"
    return info.source_language, info.target_language
