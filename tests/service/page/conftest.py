"""One browser and one service with fake models, for all tests of the page."""

from collections.abc import Iterator
from functools import partial

import pytest
from fastapi.responses import JSONResponse
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.support.select import Select

from service.api.v1 import NATIVE
from service.protocol.dialects import error_response
from service.serving.registry import Registry
from service.settings import Settings
from tests.service.fakes import FakeTranslator, fake_model
from tests.service.page.browser import Page, chromium
from tests.service.page.server import PageServer, echo, serve, word_by_word

SETTINGS = Settings(max_characters=500, max_texts=3)
PAIRS = ("en-de", "de-en", "en-sv", "zh-en")
LANGUAGES = '{"source": "en", "target": "de"}'  # chosen before, in most tests


@pytest.fixture(scope="session")
def window() -> Iterator[Page]:
    with chromium() as chrome:
        yield Page(chrome)


@pytest.fixture(scope="session")
def served() -> Iterator[PageServer]:
    translators = {
        pair: FakeTranslator(answer=echo if pair == "en-sv" else word_by_word) for pair in PAIRS
    }
    models = [fake_model(pair, SETTINGS, translator=translators[pair]) for pair in PAIRS]
    with serve(Registry(models), SETTINGS) as server:
        server.translators = translators
        yield server


@pytest.fixture
def page(window: Page, served: PageServer) -> Page:
    served.faults.response = None
    served.authentication.key = None
    window.command("Emulation.clearDeviceMetricsOverride")
    return window.open(served.url, languages=LANGUAGES)


def refused(error: Exception) -> JSONResponse:
    """The answer of our own API to a request that failed so."""
    return error_response(NATIVE, error)


def choose(page: Page, source: str, target: str) -> None:
    for end, language in (("source-language", source), ("target-language", target)):
        page.until(partial(_select, page, end, language))


def _select(page: Page, end: str, language: str) -> bool:
    """False while the page is just exchanging the options."""
    try:
        Select(page.by_id(end)).select_by_value(language)
    except StaleElementReferenceException:
        return False
    return True


def languages(page: Page) -> tuple[str, str]:
    ends = ("source-language", "target-language")
    source, target = (str(page.by_id(end).get_property("value")) for end in ends)
    return source, target


def press(page: Page, name: str) -> None:
    page.by_id(name).click()
