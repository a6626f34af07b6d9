"""Requests made up from the OpenAPI document, against a running server of fake models.

No answer is a fault, none but a documented one comes, and no refusal repeats what was sent.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.http.app import create_app
from service.protocol.strict_json import plain_name
from service.settings import Settings as ServiceSettings
from tests.service.fakes import fake_registry

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
_LEAST_ECHO = 6  # characters; shorter ones are in any sentence

# Theirs: it compiles patterns that a schema holds with flags that Python will drop.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning"),
]


def document() -> dict[str, Any]:
    app = create_app(fake_registry(ServiceSettings(), "en-de"), ServiceSettings())
    app.access.close()
    return app.asgi.openapi()


schema = schemathesis.openapi.from_dict(document())
DOCUMENTED = json.dumps(schema.raw_schema, ensure_ascii=False)


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    """Keeps its connection: some thousand requests are made."""
    with requests.Session() as session:
        session.trust_env = False  # no search for proxies
        yield session


@schema.parametrize()
@seed(20261121)
@settings(
    max_examples=25,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_made_up_requests(
    case: schemathesis.Case[Any], address: str, session: requests.Session
) -> None:
    answer = case.call(base_url=address, session=session, timeout=20)
    case.validate_response(answer, checks=CHECKS)
    if answer.status_code >= 400:
        error_text = answer.text
        for text in strings((case.query, case.body, case.headers)):
            if len(text) >= _LEAST_ECHO and text not in DOCUMENTED:
                assert text not in error_text


def strings(value: object) -> Iterator[str]:
    """All strings in what was sent that no refusal may repeat."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, each in value.items():
            if plain_name(name) is None:  # errors may quote names that look like a field's
                yield str(name)
            yield from strings(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from strings(each)
