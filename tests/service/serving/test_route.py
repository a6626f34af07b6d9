"""Routes from language to language: by one model if there is one, else by two if allowed."""

from dataclasses import replace
from typing import Any

import pytest

from model.errors import CheckpointError
from service.errors import ModelLoading, RequestError, UnknownLanguagePair, UnknownModel
from service.serving.registry import Registry
from service.serving.route import joined, pivoted_pairs
from service.serving.served_model import LoadedModel, ModelState, ServedModel
from service.settings import Settings
from service.text.languages import ServedPairs
from tests.service.fakes import FakeSearch, fake_info, translated

SETTINGS = Settings()


def model(pair: str, state: ModelState = ModelState.READY) -> ServedModel:
    """One that is in this state and has no thread; `pair` is `en:zh-Hans`."""
    source, target = pair.split(":")

    def load() -> LoadedModel:
        raise CheckpointError("never asked for")

    served_model = ServedModel(pair, load, SETTINGS)
    served_model.state = state
    if state is ModelState.READY:
        served_model._info = fake_info(source, target)
    return served_model


def route(pairs: str, source: str, target: str, *, pivot: bool = True) -> str:
    registry = Registry([model(pair) for pair in pairs.split()])
    return registry.route(model=None, source=source, target=target, pivot=pivot).name


@pytest.mark.parametrize(
    ("pairs", "source", "target", "expected"),
    [
        ("fr:en en:de", "fr", "de", "fr:en,en:de"),
        ("fr:en en:de fr:de", "fr", "de", "fr:de"),
        # codes widened, as without a pivot
        ("fr:en en:de", "FR-ca", "de_AT", "fr:en,en:de"),
        ("fr:en en:de fr:de", "fr-CA", "de-AT", "fr:de"),
        ("en-US:fr fr:zh-Hans", "en-US", "zh-Hans-CN", "en-US:fr,fr:zh-Hans"),
        ("fr-CA:en fr:en en:de", "fr-CA", "de", "fr-CA:en,en:de"),
        # English before all others, else in alphabetical order
        ("fr:cs cs:de fr:en en:de", "fr", "de", "fr:en,en:de"),
        ("fr:cs cs:de fr:en-GB en:de", "fr", "de", "fr:en-GB,en:de"),
        ("fr:nl nl:de fr:cs cs:de", "fr", "de", "fr:cs,cs:de"),
        # what one of them writes the other has to read
        ("fr:en-US en:de", "fr", "de", "fr:en-US,en:de"),
        ("fr:en-US en:de en-US:de", "fr", "de", "fr:en-US,en-US:de"),
        ("fr:zh-Hans zh:de", "fr", "de", "fr:zh-Hans,zh:de"),
    ],
)
def test_routes_between_languages(pairs: str, source: str, target: str, expected: str) -> None:
    assert route(pairs, source, target) == expected


@pytest.mark.parametrize(
    ("pairs", "source", "target"),
    [
        ("fr:en en-US:de", "fr", "de"),
        ("fr:zh-Hant zh-Hans:de", "fr", "de"),
        ("fr:en en:cs cs:de", "fr", "de"),  # three models are too many
        ("de:en en:de", "de", "de"),
        ("de:en en:de", "de-AT", "de-CH"),
        ("deu:en en:de", "deu", "de"),
        ("zh-Hans:en en:zh-Hant", "zh-Hans", "zh-Hant"),
        ("en:en-GB en-GB:de", "en", "de"),  # no third language
        ("fr:en en:zh-Hans", "fr", "zh"),  # the narrower is not what was asked for
    ],
)
def test_no_route_between_these_languages(pairs: str, source: str, target: str) -> None:
    with pytest.raises(UnknownLanguagePair):
        route(pairs, source, target)


def test_pivots_are_off_unless_set() -> None:
    assert Settings().pivot is False
    with pytest.raises(UnknownLanguagePair, match="served: en to de, fr to en"):
        route("fr:en en:de", "fr", "de", pivot=False)


@pytest.mark.parametrize("legs", ["fr:en", "en:de", "fr:en en:de"])
@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (ModelState.LOADING, ModelLoading),
        (ModelState.FAILED, UnknownLanguagePair),
        (ModelState.STOPPED, UnknownLanguagePair),
    ],
)
def test_legs_that_are_not_ready(legs: str, state: ModelState, kind: type[RequestError]) -> None:
    away = legs.split()
    models = [model(each, state) for each in away]
    models += [model(each) for each in ("fr:en", "en:de", "xx:yy") if each not in away]
    registry = Registry(models)
    with pytest.raises(kind):
        registry.route(model=None, source="fr", target="de", pivot=True)
    # another way that is ready is taken at once
    registry.put(model("fr:sv"))
    registry.put(model("sv:de"))
    found = registry.route(model=None, source="fr", target="de", pivot=True)
    assert (found.name, found.pivot) == ("fr:sv,sv:de", "sv")


def test_a_named_model_works_alone() -> None:
    registry = Registry([model("fr:en"), model("en:de")])
    assert registry.route(model="en:de", source=None, target=None, pivot=True).pivot is None
    with pytest.raises(UnknownLanguagePair, match="model en:de translates en to de"):
        registry.route(model="en:de", source="fr", target="de", pivot=True)
    with pytest.raises(UnknownModel):
        registry.route(model="fr:de", source=None, target=None, pivot=True)


def test_pairs_that_two_models_reach() -> None:
    direct = (("fr", "en"), ("en", "de"), ("de", "en"), ("en", "zh-Hans"), ("fr", "zh-Hans"))
    assert pivoted_pairs(direct) == (("de", "zh-Hans"), ("fr", "de"))
    assert pivoted_pairs(()) == ()


def test_a_near_code_by_one_model_comes_before_the_same_by_two() -> None:
    direct = (("fr", "pt-BR"), ("fr", "en"), ("en", "pt"))
    served = ServedPairs((*direct, ("fr", "pt")), frozenset(pivoted_pairs(direct)))
    assert served.pivoted == {("fr", "pt")}
    assert served.match_target("pt", "fr") == "pt-BR"
    assert served.match_target("pt", "en") == "pt"


def test_results_of_both_models_of_a_pivot_are_joined() -> None:
    first: Any = translated("a b c", FakeSearch(), False)
    last: Any = translated("d e", FakeSearch(n_best=2), False)
    whole = joined(
        replace(first, log_prob=-0.5, score=-0.25, truncated=True, warnings=("cut", "unsure")),
        replace(last, log_prob=-1.5, score=-1.0, warnings=("loop", "unsure")),
    )
    assert (whole.text, whole.log_prob, whole.score) == ("D E", -2.0, -1.25)
    assert (whole.source_tokens, whole.target_tokens, whole.truncated) == (3, 2, True)
    assert whole.warnings == ("cut", "unsure", "loop")
    (other,) = whole.alternatives
    assert (other.text, other.log_prob, other.score) == ("D E 1", -4.5, -3.25)
