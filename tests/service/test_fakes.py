"""The fakes promise nothing that the real translator does not keep."""

import inspect
from dataclasses import fields
from typing import Any

import pytest

from model import translation, translator
from model.decoding import search_config
from service.serving.jobs import TranslatorFace
from tests.service import fakes


@pytest.mark.parametrize(
    ("fake", "real"),
    [
        (fakes.FakeSearch, search_config.SearchConfig),
        (fakes.FakeOther, translation.Alternative),
        (fakes.FakeSegment, translation.SegmentTranslation),
        (fakes.FakeTranslation, translation.Translation),
        (fakes.FakeScore, translation.ForcedScore),
    ],
)
def test_fields_exist(fake: Any, real: Any) -> None:
    assert {field.name for field in fields(fake)} <= {field.name for field in fields(real)}


@pytest.mark.parametrize(
    "name", ["add", "step", "wake", "close", "cancel", "score", "idle", "num_waiting"]
)
def test_methods_take_the_same_arguments(name: str) -> None:
    promised, real = getattr(TranslatorFace, name), getattr(translator.Translator, name)
    if not isinstance(promised, property):
        assert set(inspect.signature(promised).parameters) <= set(
            inspect.signature(real).parameters
        )
