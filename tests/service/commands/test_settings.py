"""Settings from the environment and from flags, and the errors for wrong ones."""

from typing import get_args

import pytest

from model.errors import ConfigError
from model.inference.precision import Precision
from service.settings import Settings, load_settings


def test_flags_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAGOMAN_MAX_SLOTS", "8")
    monkeypatch.setenv("DRAGOMAN_DEADLINE_S", "2.5")
    settings = load_settings({"max_slots": 16, "device": None})
    assert (settings.max_slots, settings.deadline_s) == (16, 2.5)
    assert settings.device == Settings.model_fields["device"].default


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("DRAGOMAN_DEADLINE_S", "soon", "DRAGOMAN_DEADLINE_S: Input should be a valid number"),
        ("DRAGOMAN_DEADLINE_S", "nan", "DRAGOMAN_DEADLINE_S"),
        ("DRAGOMAN_DEADLINE_S", "inf", "DRAGOMAN_DEADLINE_S"),
        ("DRAGOMAN_MAX_SLOTS", "0", "DRAGOMAN_MAX_SLOTS: Input should be greater"),
        ("DRAGOMAN_MAX_QUEUE_TEXTS", "10", "max_queue_texts is 10, below max_texts 256"),
        ("DRAGOMAN_CORS_ORIGINS", "example.org", "DRAGOMAN_CORS_ORIGINS: not a list of origins"),
        ("DRAGOMAN_CORS_ORIGINS", "https://a.org, https://b.org/", "not a list of origins"),
        ("DRAGOMAN_CORS_ORIGINS", "https://*.example.org", "not a list of origins"),
        ("DRAGOMAN_CORS_ORIGINS", "", "not a list of origins"),
        ("DRAGOMAN_DEVICE", "gpu", "DRAGOMAN_DEVICE: not a device; use cpu, cuda"),
        ("DRAGOMAN_PRECISION", "fp16", "DRAGOMAN_PRECISION: Input should be 'auto', 'fp32'"),
        ("DRAGOMAN_THREADS_PER_MODEL", "100000", "THREADS_PER_MODEL: 100000 engines are too many"),
        (
            "DRAGOMAN_DEADLINE",
            "5",
            "DRAGOMAN_DEADLINE is not a setting.* did you mean DRAGOMAN_DEADLINE_S",
        ),
    ],
)
def test_wrong_environment_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=words):
        load_settings()


def test_engines_are_limited_to_four_per_core(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.settings.num_cores", lambda: 2)
    assert Settings(threads_per_model=8).threads_per_model == 8
    with pytest.raises(ValueError, match="too many for 2 cores, the limit is 8"):
        Settings(threads_per_model=9)


def test_the_setting_precision_accepts_the_models_precisions() -> None:
    assert get_args(Settings.model_fields["precision"].annotation) == get_args(Precision)


def test_variables_that_kubernetes_sets_are_not_read_as_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DRAGOMAN_PORT", "tcp://10.0.0.1:80")
    monkeypatch.setenv("DRAGOMAN_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("DRAGOMAN_PORT_80_TCP_ADDR", "10.0.0.1")
    assert load_settings() == Settings()
