"""Codes as clients write them find the right model; names are there without a network."""

import asyncio

import pytest

from service.errors import UnknownLanguagePair
from service.text import detection
from service.text.detection import Detector
from service.text.languages import ServedPairs, base_code, language_name, match_code


@pytest.mark.parametrize(
    ("asked", "codes", "found"),
    [
        ("EN", ["de", "en"], "en"),
        ("en-US", ["de", "en"], "en"),
        ("en_us", ["en", "en-US"], "en-US"),
        ("eng", ["en"], "en"),
        ("zh-CN", ["zh-Hant", "zh-Hans"], "zh-Hans"),
        ("zh_TW", ["zh-Hant", "zh-Hans"], "zh-Hant"),
        ("zh", ["zh-Hans"], "zh-Hans"),
        ("ZH-HANS", ["zh"], "zh"),
        ("pt-PT", ["pt-BR"], "pt-BR"),
        ("pt-PT", ["pt-BR", "pt"], "pt"),
        ("iw", ["he"], "he"),
        ("nb", ["no"], "no"),
        # never another script or a neighbour
        ("zh-TW", ["zh-Hans"], None),
        ("gsw", ["de"], None),
        ("uk", ["ru"], None),
        ("ca", ["es"], None),
        ("zz", ["en"], None),
        ("", ["en"], None),
        ("en de", ["en"], None),
        ("en", [], None),
    ],
)
def test_codes_match(asked: str, codes: list[str], found: str | None) -> None:
    assert match_code(asked, codes) == found


def test_names() -> None:
    assert language_name("de") == "German"
    assert language_name("zh-hans") == "Chinese (Simplified)"
    assert language_name("x1") == "x1"
    assert (base_code("zh_Hans"), base_code("EN")) == ("zh", "en")


def test_pairs_are_matched_one_after_the_other() -> None:
    served = ServedPairs((("en", "pt-BR"), ("en", "de"), ("de", "en")))
    assert served.match_target("pt", served.match_source("en-GB")) == "pt-BR"
    assert served.by_language == {"en": ("de", "pt-BR"), "de": ("en",), "pt-BR": ()}
    with pytest.raises(UnknownLanguagePair, match=r"from German is not supported"):
        served.match_target("pt", "de")
    with pytest.raises(UnknownLanguagePair, match=r"source .* there are: en, de"):
        served.match_source("pt")


def detect(text: str, *languages: str) -> dict[str, float]:
    (guesses,) = asyncio.run(Detector().detect([text], languages))
    confidences = [guess.confidence for guess in guesses]
    assert confidences == sorted(confidences, reverse=True)
    return {guess.language: guess.confidence for guess in guesses}


def test_only_served_languages_are_found_by_their_own_codes() -> None:
    guesses = detect("我想去火车站。", "en", "zh-Hans", "tlh")
    assert guesses.keys() == {"en", "zh-Hans"}
    assert guesses["zh-Hans"] > 0.9
    assert sum(guesses.values()) == pytest.approx(1)


@pytest.mark.parametrize("text", ["", " \n", "12:30", "?!"])
def test_a_text_without_letters_is_detected_with_confidence_zero(text: str) -> None:
    assert detect(text, "en", "de") == {"en": 0, "de": 0}


def test_languages_that_the_tables_do_not_know() -> None:
    assert detect("nuqneH", "tlh") == {"tlh": 0}


def test_tables_are_loaded_once_and_each_detector_has_its_own_languages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(detection, "_TABLES", detection._Tables())
    detection.load_tables().join()

    def load_again(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("py3langid.langid.LanguageIdentifier.from_model_file", load_again)
    text = ["Où est la gare, s'il vous plaît ?"]

    async def both() -> list[str]:
        french, german = Detector(), Detector()
        found = []
        for detector, codes in ((french, ["en", "fr"]), (german, ["en", "de"]), (french, ["fr"])):
            (guesses,) = await detector.detect(text, codes)
            found.append(sorted(guess.language for guess in guesses))
        return [",".join(codes) for codes in found]

    assert asyncio.run(both()) == ["en,fr", "de,en", "fr"]


def test_the_languages_served_may_change() -> None:
    async def twice() -> list[str]:
        detector = Detector()
        text = ["Où est la gare, s'il vous plaît ?"]
        (before,) = await detector.detect(text, ["en", "de"])
        (after,) = await detector.detect(text, ["en", "de", "fr"])
        return [before[0].language, after[0].language]

    before, after = asyncio.run(twice())
    assert (before != "fr", after) == (True, "fr")
