"""google-cloud-translate's client of version 2, unmodified, does its whole job against us."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import (
    BadRequest,
    Forbidden,
    GatewayTimeout,
    GoogleAPICallError,
    InternalServerError,
    NotFound,
    ServiceUnavailable,
    TooManyRequests,
)
from google.auth.credentials import AnonymousCredentials, Credentials
from google.cloud.translate_v2 import Client
from google.oauth2.credentials import Credentials as Token


@contextmanager
def connected(address: str, credentials: Credentials | None = None) -> Iterator[Client]:
    client = Client(
        credentials=credentials or AnonymousCredentials(),
        client_options=ClientOptions(api_endpoint=address),
    )
    yield client
    client._http.close()


@pytest.fixture(params=["without a key", "with a key"])
def client(address: str, request: pytest.FixtureRequest) -> Iterator[Client]:
    credentials = Token(token="any-key") if request.param == "with a key" else None
    with connected(address, credentials) as client:
        yield client


def test_one_text(client: Client) -> None:
    result = client.translate("good morning", target_language="de", source_language="en")
    assert result == {"translatedText": "GOOD MORNING", "input": "good morning"}


def test_a_batch_in_order_with_each_text_detected(client: Client) -> None:
    texts = ["Where is the train station, please?", "Où est la gare, s'il vous plaît ?"]
    results = client.translate(texts, target_language="de")
    assert [result["translatedText"] for result in results] == [text.upper() for text in texts]
    assert [result["detectedSourceLanguage"] for result in results] == ["en", "fr"]


def test_fifty_texts_in_order(client: Client) -> None:
    texts = [f"{'w ' * (index % 7)}{index}" for index in range(50)]
    results = client.translate(texts, target_language="de", source_language="en-US")
    assert [result["translatedText"] for result in results] == [text.upper() for text in texts]


def test_texts_are_html_unless_format_is_text(client: Client) -> None:
    html = client.translate("<b>one</b> &lt;", target_language="de", source_language="en")
    text = client.translate(
        "a <b", target_language="de", source_language="en", format_="text", model="nmt"
    )
    assert html["translatedText"] == "<b>ONE</b> &lt;"
    assert (text["translatedText"], text["model"]) == ("A <B", "nmt")


def test_every_listed_language_translates(client: Client) -> None:
    listed = client.get_languages()
    assert listed == [
        {"language": "en", "name": "English"},
        {"language": "fr", "name": "French"},
        {"language": "de", "name": "German"},
        {"language": "pt", "name": "Portuguese"},
    ]
    assert client.get_languages("de")[2]["name"] == "Deutsch"
    for target, source in (("de", "fr"), ("en", "de"), ("pt", "en")):
        assert client.translate("a", target_language=target, source_language=source)


def test_detection(client: Client) -> None:
    one = client.detect_language("Où est la gare, s'il vous plaît ?")
    assert one["language"] == "fr"
    assert one["confidence"] > 0.9
    many = client.detect_language(["Where is the train station?", "12"])
    assert many[0]["language"] == "en"
    assert many[1]["confidence"] == 0


@pytest.mark.parametrize(
    ("text", "source", "target", "kind", "words"),
    [
        ("a", "zz", "de", BadRequest, "source language is not supported; there are: en, fr, de"),
        ("a", "en", "zz", BadRequest, "target language is not supported; there are: en, de, pt"),
        ("a", "fr", "pt", BadRequest, "translation from French is not supported"),
        ("REFUSE secret", "en", "de", BadRequest, r"q\[0\]: this cannot be cut"),
        ("CRASH-ADD secret", "en", "de", InternalServerError, r"the model failed on q\[0\]"),
    ],
)
def test_errors(
    client: Client,
    text: str,
    source: str,
    target: str,
    kind: type[GoogleAPICallError],
    words: str,
) -> None:
    with pytest.raises(kind, match=words) as caught:
        client.translate(text, target_language=target, source_language=source)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("texts", [["a"] * 61, ["secret" * 400]])
def test_too_much(client: Client, texts: list[str]) -> None:
    with pytest.raises(GoogleAPICallError, match=r"max_texts|max_characters") as caught:
        client.translate(texts, target_language="de", source_language="en")
    assert caught.value.code == 413
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "value", "name"),
    [
        ("customization_ids", "x", "cid"),
        ("model", "advanced", "model"),
        ("format_", "markdown", "format"),
    ],
)
def test_options_that_are_not_supported_are_refused(
    client: Client, option: str, value: str, name: str
) -> None:
    with pytest.raises(BadRequest, match=name):
        client.translate("a", target_language="de", source_language="en", **{option: value})


def test_what_is_not_there(address: str) -> None:
    with connected(f"{address}/nowhere") as client, pytest.raises(NotFound, match="no such path"):
        client.translate("a", target_language="de")


def test_a_full_queue(full: str) -> None:
    with connected(full) as client, pytest.raises(TooManyRequests, match="max_queue_texts"):
        client.translate("b", target_language="de", source_language="en")


def test_while_loading(loading: str) -> None:
    with connected(loading) as client, pytest.raises(ServiceUnavailable, match="loading"):
        client.translate("a", target_language="de")


def test_a_deadline(slow: str) -> None:
    with connected(slow) as client, pytest.raises(GatewayTimeout, match="deadline_s"):
        client.translate("w " * 100, target_language="de", source_language="en")


def test_a_bad_key_and_a_used_up_quota_and_rate(limited: tuple[str, str]) -> None:
    address, key = limited

    def translate(client: Client, text: str) -> None:
        client.translate(text, target_language="de", source_language="en")

    with connected(address) as keyless, pytest.raises(Forbidden, match="needs an API key"):
        translate(keyless, "a")
    with (
        connected(address, Token(token="dgm_wrong")) as stranger,
        pytest.raises(Forbidden, match="is not valid") as refused,
    ):
        translate(stranger, "a")
    assert refused.value.errors[0]["reason"] == "key_refused"
    with connected(address, Token(token=key)) as client:
        for _ in range(2):
            translate(client, "good morning")
        with pytest.raises(Forbidden, match="30 characters") as used_up:
            translate(client, "good morning")
        assert used_up.value.errors[0]["reason"] == "quota_exceeded"
        translate(client, "a")
        with pytest.raises(TooManyRequests, match="hour") as too_fast:
            translate(client, "a")
        assert int(too_fast.value.response.headers["Retry-After"]) > 1
