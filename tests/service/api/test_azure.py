"""Azure's API beyond its Python clients: shared paths, plain HTTP and its OpenAPI document."""

from typing import Any

import httpx
import pytest

from service.api.azure.dialect import AZURE_3
from service.errors import KeyRefused
from service.protocol.dialects import error_response
from service.settings import Settings
from tests.service.conftest import Serving
from tests.service.fakes import fake_registry

pytestmark = pytest.mark.anyio
SETTINGS = Settings(max_texts=4)
V3 = "api-version=3.0"
V2026 = "api-version=2026-06-06"


async def ask(serving: Serving, method: str, url: str, body: object = None) -> httpx.Response:
    async with serving(fake_registry(SETTINGS, "en-de", "fr-de"), SETTINGS) as client:
        return await client.request(method, url, json=body) if body else await client.get(url)


async def test_the_api_version_selects_azure_on_shared_paths(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        libretranslate = {"q": "a", "source": "en", "target": "de"}
        plain = (await client.post("/translate", json=libretranslate)).json()
        apertium = (await client.get("/translate?q=a&langpair=en|de")).json()
        older = (await client.post(f"/translate?{V3}&to=de&from=en", json=[{"Text": "a"}])).json()
        given = {"text": "a", "language": "en", "targets": [{"language": "de"}]}
        newer = (await client.post(f"/translate?{V2026}", json={"inputs": [given]})).json()
        listed = (await client.get("/languages")).json()
        named = (await client.get(f"/languages?{V3}&scope=translation")).json()
    assert plain == {"translatedText": "A"}
    assert apertium["responseData"] == {"translatedText": "A"}
    assert older == [{"translations": [{"text": "A", "to": "de"}]}]
    assert newer == {
        "value": [{"translations": [{"text": "A", "language": "de", "sourceCharacters": 1}]}]
    }
    assert [language["code"] for language in listed] == ["en", "de"]
    assert list(named["translation"]) == ["en", "de"]


async def test_detection(serving: Serving) -> None:
    texts = [{"text": "Où est la gare, s'il vous plaît ?"}, {"text": "12"}]
    french, nothing = (await ask(serving, "POST", f"/detect?{V3}", texts)).json()
    assert (french["language"], french["isTranslationSupported"]) == ("fr", True)
    assert french["score"] > 0.9
    assert [guess["language"] for guess in french["alternatives"]] == ["en"]
    assert nothing["score"] == 0


@pytest.mark.parametrize(
    ("method", "url", "body", "status", "code", "words"),
    [
        ("POST", f"/translate?{V3}&to=de", [{"text": 1}], 400, 400000, "[0].text"),
        ("POST", f"/translate?{V3}&to=de", {"text": "a"}, 400, 400000, "list"),
        ("POST", f"/translate?{V3}&to=de&from=", [{"text": "a"}], 400, 400035, "from: "),
        ("POST", f"/translate?{V3}&to=de&from=en&from=fr", [{"text": "a"}], 400, 400035, "from: "),
        ("POST", "/translate?api-version=3.1&to=de", [1], 400, "400021", "supports 3.0"),
        ("GET", f"/translate?{V3}", None, 405, 405000, "method"),
        ("POST", f"/detect?{V2026}", [{"text": "a"}], 404, "404000", "no such path"),
        ("POST", f"/dictionary/lookup?{V3}", [{"text": "a"}], 404, 404000, "no such path"),
        ("GET", "/translator/text/v3.0/languages", None, 400, 400021, "api-version is missing"),
        ("GET", f"/translator/text/v3.0/languages?{V2026}", None, 400, 400021, "supports 3.0"),
        ("GET", "/translator/text/v2.0/languages", None, 404, "404000", "no such path"),
    ],
)
async def test_refusals(
    serving: Serving, method: str, url: str, body: Any, status: int, code: object, words: str
) -> None:
    answer = await ask(serving, method, url, body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert words in error["message"]


async def test_malformed_bodies_are_refused(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        broken = await client.post(
            f"/translate?{V3}&to=de", content=b"[", headers={"Content-Type": "application/json"}
        )
        form = await client.post(f"/translate?{V3}&to=de", data={"text": "a"})
    assert (broken.status_code, broken.json()["error"]["code"]) == (400, 400074)
    assert (form.status_code, form.json()["error"]["code"]) == (415, 415000)


def test_a_refused_key_is_unauthorized() -> None:
    assert error_response(AZURE_3, KeyRefused("no")).status_code == 401


async def test_the_documentation_has_both_versions(serving: Serving) -> None:
    document = (await ask(serving, "GET", "/openapi.json")).json()
    older = document["paths"]["/translator/text/v3.0/translate"]["post"]
    newer = document["paths"]["/translator/text/v2026-06-06/translate"]["post"]
    assert {"api-version", "to", "from"} <= {field["name"] for field in older["parameters"]}
    assert [field["name"] for field in newer["parameters"] if field["required"]] == ["api-version"]
    assert newer["responses"].keys() == {"200", "4XX", "5XX"}
    schema = newer["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    assert schema.rpartition("/")[2] in document["components"]["schemas"]
    assert document["paths"]["/translate"]["post"]["tags"] == ["as LibreTranslate"]
    assert document["paths"]["/languages"]["get"]["tags"] == ["as LibreTranslate"]


async def test_many_targets_count_before_they_are_read(serving: Serving) -> None:
    """A document of many tags is counted as it is read, not once for each of its targets."""
    targets = "&".join(["to=de", *(f"to=de-{region}" for region in ("AT", "CH", "LI"))])
    text = "<p>a</p>" * 2
    url = f"/translate?{V3}&{targets}&from=en&textType=html"
    answer = await ask(serving, "POST", url, [{"text": text}])
    assert answer.status_code == 413
    assert answer.json()["error"]["message"].startswith("body holds 6 items, the limit is 4")


async def test_tags_do_not_multiply_the_size_of_the_answer(serving: Serving) -> None:
    settings = Settings(max_body_bytes=4096)
    targets = "&".join(["to=de"] * 100)
    url = f"/translate?{V3}&{targets}&from=en&textType=html"
    async with serving(fake_registry(settings, "en-de"), settings) as client:
        answer = await client.post(url, json=[{"text": "<br>" * 20}])
    assert answer.status_code == 413
    assert "max_body_bytes" in answer.json()["error"]["message"]
