"""The official azure-ai-translation-text 2.x, unmodified, does its whole job against us."""

from collections.abc import Iterator
from typing import Any

import pytest
from azure.ai.translation.text import TextTranslationClient
from azure.ai.translation.text.models import (
    InputTextItem,
    ReferenceTextPair,
    TranslateInputItem,
    TranslationTarget,
)
from azure.core import MatchConditions
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceModifiedError,
    ResourceNotFoundError,
    ResourceNotModifiedError,
)

from service.settings import Settings
from tests.service.api.conftest import Start
from tests.service.fakes import fake_registry
from tests.service.running import wait_until_ready


def connected(address: str, **options: Any) -> TextTranslationClient:
    """A client that does not try again."""
    return TextTranslationClient(address, retry_total=0, **options)


@pytest.fixture(params=["", "/translator/text/v2026-06-06"])
def client(address: str, request: pytest.FixtureRequest) -> Iterator[TextTranslationClient]:
    credential = AzureKeyCredential("any-key")
    with connected(address + request.param, credential=credential, region="here") as client:
        yield client


@pytest.fixture
def keyless(address: str) -> Iterator[TextTranslationClient]:
    with connected(address) as client:
        yield client


def test_one_text(client: TextTranslationClient) -> None:
    (item,) = client.translate(["good morning"], to_language=["de"], from_language="en")
    (translation,) = item.translations
    assert (translation.text, translation.language) == ("GOOD MORNING", "de")
    assert translation.source_characters == 12
    assert item.detected_language is None


def test_a_batch_in_order_with_each_text_detected(client: TextTranslationClient) -> None:
    texts = ["Where is the train station, please?", "Où est la gare, s'il vous plaît ?", "12"]
    items = client.translate(texts, to_language=["de"])
    assert [item.translations[0].text for item in items] == [text.upper() for text in texts]
    detected = [item.detected_language for item in items]
    assert [guess.language for guess in detected if guess][:2] == ["en", "fr"]
    assert detected[0] is not None
    assert detected[0].score > 0.9
    assert detected[2] is not None
    assert detected[2].score == 0


def test_fifty_texts_in_order(client: TextTranslationClient) -> None:
    texts = [f"{'w ' * (index % 7)}{index}" for index in range(50)]
    items = client.translate(texts, to_language=["DE"], from_language="en-US")
    assert [item.translations[0].text for item in items] == [text.upper() for text in texts]


def test_texts_with_different_languages_and_formats(client: TextTranslationClient) -> None:
    german, portuguese = TranslationTarget(language="de"), TranslationTarget(language="pt-BR")
    english = TranslationTarget(language="en")
    items = client.translate(
        [
            TranslateInputItem(text="a <b", language="en", targets=[portuguese, german]),
            TranslateInputItem(text="der", language="de", targets=[english]),
            TranslateInputItem(
                text="<b id='x'>one</b> two", language="en", text_type="Html", targets=[german]
            ),
            TranslateInputItem(text="a <b", language="en", targets=[german, german]),
        ]
    )
    answers = [[(one.language, one.text) for one in item.translations] for item in items]
    assert answers == [
        [("pt-BR", "A <B"), ("de", "A <B")],
        [("en", "DER")],
        [("de", "<b id='x'>ONE</b> TWO")],
        [("de", "A <B"), ("de", "A <B")],
    ]


def test_a_text_in_the_target_language_stays(client: TextTranslationClient) -> None:
    (item,) = client.translate(["Where is the train station, please?"], to_language=["en", "de"])
    assert [one.text for one in item.translations] == [
        "Where is the train station, please?",
        "WHERE IS THE TRAIN STATION, PLEASE?",
    ]


def test_languages(client: TextTranslationClient) -> None:
    listed = client.get_supported_languages()
    assert listed.translation is not None
    assert list(listed.translation) == ["en", "fr", "de", "pt"]
    german = listed.translation["de"]
    assert (german.name, german.native_name, german.dir) == ("German", "Deutsch", "ltr")
    assert german.models == ["general"]
    assert (listed.transliteration, listed.models) == ({}, ["general"])
    for code in ("de", "pt"):
        assert client.translate(["a"], to_language=[code], from_language="en")


def test_languages_of_one_kind_with_names_in_another_language(
    client: TextTranslationClient,
) -> None:
    listed = client.get_supported_languages(scope="translation", accept_language="fr-FR")
    assert listed.translation is not None
    assert listed.translation["de"].name == "allemand"
    assert (listed.transliteration, listed.models) == (None, None)
    plain = client.get_supported_languages(scope="translation", accept_language="*")
    assert plain.translation is not None
    assert plain.translation["de"].name == "German"
    with pytest.raises(HttpResponseError, match="scope has an unknown value") as caught:
        client.get_supported_languages(scope="dictionary")
    assert code_of(caught.value) == "400001"


def test_a_client_with_the_same_list_gets_304(client: TextTranslationClient) -> None:
    etags: list[str] = []
    client.get_supported_languages(
        cls=lambda response, _result, _headers: etags.append(response.http_response.headers["etag"])
    )
    with pytest.raises(ResourceNotModifiedError):
        client.get_supported_languages(etag=etags[0], match_condition=MatchConditions.IfModified)
    unmodified = MatchConditions.IfNotModified
    assert client.get_supported_languages(etag=etags[0], match_condition=unmodified)
    with pytest.raises(ResourceModifiedError):
        client.get_supported_languages(etag='"other"', match_condition=unmodified)


def test_each_answer_has_the_usage_header(client: TextTranslationClient) -> None:
    usages: list[str] = []
    client.translate(
        ["abc", "de"],
        to_language=["de", "pt"],
        from_language="en",
        raw_response_hook=lambda response: usages.append(
            response.http_response.headers["x-metered-usage"]
        ),
    )
    assert usages == ["10"]


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ({"tone": "formal"}, "tone"),
        ({"gender": "female"}, "gender"),
        ({"script": "Latn"}, "script"),
        ({"profanity_action": "Marked"}, "profanityAction"),
        ({"deployment_name": "gpt-4o"}, "deploymentName"),
        ({"adaptive_dataset_id": "x"}, "adaptiveDatasetId"),
        (
            {"reference_text_pairs": [ReferenceTextPair(source="secret", target="b")]},
            "referenceTextPairs",
        ),
    ],
)
def test_options_that_are_not_supported_are_refused(
    keyless: TextTranslationClient, target: dict[str, Any], name: str
) -> None:
    wanted = TranslationTarget(language="de", **target)
    with pytest.raises(HttpResponseError, match=name) as caught:
        keyless.translate([TranslateInputItem(text="a", language="en", targets=[wanted])])
    assert (caught.value.status_code, code_of(caught.value)) == (400, "400000")
    assert "secret" not in str(caught.value)


def test_options_that_ask_for_the_normal_behaviour_are_accepted(
    keyless: TextTranslationClient,
) -> None:
    wanted = TranslationTarget(
        language="de",
        profanity_action="NoAction",
        profanity_marker="Tag",
        deployment_name="general",
        allow_fallback=True,
        reference_text_pairs=[],
    )
    given = TranslateInputItem(text="a", language="en", text_type="Plain", targets=[wanted])
    (item,) = keyless.translate([given], client_trace_id="0a1b")
    assert item.translations[0].text == "A"
    with pytest.raises(HttpResponseError, match=r"inputs\[0\].script|script is not supported"):
        keyless.translate([TranslateInputItem(text="a", script="Latn", targets=[wanted])])


@pytest.mark.parametrize(
    ("source", "target", "words", "code"),
    [
        ("zz", "de", "source language is not supported; there are: en, fr, de", "400035"),
        ("en", "zz", "target language is not supported; there are: en, de, pt", "400036"),
        ("fr", "pt", "translation from French is not supported", "400036"),
        (None, "zz", "target language is not supported", "400036"),
    ],
)
def test_unknown_languages(
    client: TextTranslationClient, source: str | None, target: str, words: str, code: str
) -> None:
    with pytest.raises(HttpResponseError, match=words) as caught:
        client.translate(["Where is it?"], to_language=[target], from_language=source)
    assert (caught.value.status_code, code_of(caught.value)) == (400, code)


@pytest.mark.parametrize(
    ("texts", "targets", "status", "words"),
    [
        (["a"] * 61, ["de"], 413, "inputs holds 61 items, the limit is 60"),
        (["a"] * 31, ["de", "pt"], 413, "inputs holds 62 items"),
        (["secret" * 200], ["de", "pt"], 413, "max_characters"),
        (["a", "CRASH-ADD secret"], ["de"], 500, r"the model failed on inputs\[1\].text"),
        (["REFUSE secret"], ["de"], 400, r"inputs\[0\].text: this cannot be cut"),
        (["a"], [], 400, r"inputs\[0\].targets: list should have at least 1 item"),
        ([], ["de"], 400, "inputs: list should have at least 1 item"),
    ],
)
def test_requests_that_fail_raise_the_clients_error(
    keyless: TextTranslationClient, texts: list[str], targets: list[str], status: int, words: str
) -> None:
    with pytest.raises(HttpResponseError, match=words) as caught:
        keyless.translate(texts, to_language=targets, from_language="en")
    assert caught.value.status_code == status
    assert code_of(caught.value)[:3] == str(status)
    assert "secret" not in str(caught.value)


def test_what_is_not_there(client: TextTranslationClient) -> None:
    with pytest.raises(ResourceNotFoundError, match="no such path") as caught:
        client.transliterate(
            [InputTextItem(text="a")], language="ja", from_script="Jpan", to_script="Latn"
        )
    assert code_of(caught.value) == "404000"


def test_another_version(address: str) -> None:
    with (
        connected(address, api_version="2025-10-01-preview") as client,
        pytest.raises(HttpResponseError, match="supports 3") as caught,
    ):
        client.translate(["a"], to_language=["de"])
    assert code_of(caught.value) == "400021"


def test_a_full_queue(full: str) -> None:
    with (
        connected(full) as client,
        pytest.raises(HttpResponseError, match="max_queue_texts") as caught,
    ):
        client.translate(["b"], to_language=["de"], from_language="en")
    assert (caught.value.status_code, code_of(caught.value)) == (429, "429000")


def test_a_bad_key_and_a_used_up_quota_and_rate(limited: tuple[str, str]) -> None:
    address, key = limited

    def translate(client: TextTranslationClient, text: str) -> None:
        client.translate([text], to_language=["de"], from_language="en")

    with connected(address) as keyless:
        with pytest.raises(ClientAuthenticationError, match="needs an API key") as missing:
            translate(keyless, "a")
        assert code_of(missing.value) == "401000"
    with (
        connected(address, credential=AzureKeyCredential("dgm_wrong")) as stranger,
        pytest.raises(ClientAuthenticationError, match="is not valid"),
    ):
        translate(stranger, "a")
    with connected(address, credential=AzureKeyCredential(key)) as client:
        for _ in range(2):
            translate(client, "good morning")
        with pytest.raises(HttpResponseError, match="30 characters") as used_up:
            translate(client, "good morning")
        assert (used_up.value.status_code, code_of(used_up.value)) == (403, "403000")
        translate(client, "a")
        with pytest.raises(HttpResponseError, match="hour") as too_fast:
            translate(client, "a")
        assert (too_fast.value.status_code, code_of(too_fast.value)) == (429, "429000")
        response: Any = too_fast.value.response
        assert int(response.headers["Retry-After"]) > 1


def test_while_loading(loading: str) -> None:
    with connected(loading) as client, pytest.raises(HttpResponseError, match="loading") as caught:
        client.translate(["a"], to_language=["de"])
    assert (caught.value.status_code, code_of(caught.value)) == (503, "503000")


def test_a_deadline(slow: str) -> None:
    with connected(slow) as client, pytest.raises(HttpResponseError, match="deadline_s") as caught:
        client.translate(["w " * 100], to_language=["de"], from_language="en")
    assert (caught.value.status_code, code_of(caught.value)) == (504, "504000")


def test_a_language_from_right_to_left(start: Start) -> None:
    registry = fake_registry(Settings(), "en-he")
    with connected(start(registry, Settings())) as client:
        wait_until_ready(registry)
        listed = client.get_supported_languages(scope="translation")
    assert listed.translation is not None
    assert [language.dir for language in listed.translation.values()] == ["ltr", "rtl"]


def code_of(error: HttpResponseError) -> str:
    """What the client reads as the error's code."""
    assert error.error is not None
    return str(error.error.code)
