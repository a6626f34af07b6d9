"""Official clients with keys: each raises its own exception for a bad key and a used-up quota."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import deepl
import httpx
import pytest
from libretranslatepy import LibreTranslateAPI

from service.settings import Settings
from tests.service.api.conftest import running
from tests.service.conftest import AddKey
from tests.service.fakes import fake_registry


@contextmanager
def serving(keys_file: Path) -> Iterator[str]:
    """Where a service with these keys is."""
    settings = Settings(keys_file=keys_file)
    registry = fake_registry(settings, "en-de")
    with running(registry, settings) as address:
        while registry.loading:
            time.sleep(0.005)
        yield address


def test_deepl(add_key: AddKey, keys_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deepl.http_client, "max_network_retries", 0)
    key = add_key("website", characters_per_month=30, rate="3/hour")
    with (
        serving(keys_file) as address,
        closing(deepl.DeepLClient("dgm_wrong", server_url=address)) as stranger,
        closing(deepl.DeepLClient(key, server_url=address)) as client,
    ):
        with pytest.raises(deepl.AuthorizationException):
            stranger.translate_text("good morning", target_lang="DE")
        for _ in range(2):
            client.translate_text("good morning", target_lang="DE")
        usage = client.get_usage().character
        assert (usage.count, usage.limit) == (24, 30)
        with pytest.raises(deepl.QuotaExceededException):
            client.translate_text("good morning", target_lang="DE")
        client.translate_text("a", target_lang="DE")
        with pytest.raises(deepl.TooManyRequestsException):
            client.translate_text("a", target_lang="DE")


def test_libretranslatepy(add_key: AddKey, keys_file: Path) -> None:
    key = add_key("website")
    with serving(keys_file) as address:
        assert LibreTranslateAPI(address, key).translate("good", "en", "de") == "GOOD"
        assert LibreTranslateAPI(address).languages()
        for wrong in (None, "dgm_wrong"):
            with pytest.raises(OSError, match="403"):
                LibreTranslateAPI(address, wrong).translate("good", "en", "de")
        assert httpx.get(f"{address}/frontend/settings").json()["keyRequired"] is True
