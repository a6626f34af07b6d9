"""The official deepl client, unmodified, does its whole job against us."""

import io
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import deepl
import pytest

from service.serving.registry import Registry
from service.settings import Settings
from tests.service.api.conftest import Start, held_back
from tests.service.fakes import FakeTranslator, fake_model, fake_registry


@pytest.fixture
def client(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[deepl.DeepLClient]:
    with connected(address, monkeypatch) as client:
        yield client


@contextmanager
def connected(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[deepl.DeepLClient]:
    """A client that does not try again, which would take it a minute."""
    monkeypatch.setattr(deepl.http_client, "max_network_retries", 0)
    client = deepl.DeepLClient("any-key", server_url=address)
    yield client
    client.close()  # type: ignore[no-untyped-call]


def test_one_text(client: deepl.DeepLClient) -> None:
    result = client.translate_text("good morning", source_lang="EN", target_lang="DE")
    assert isinstance(result, deepl.TextResult)
    assert (result.text, result.detected_source_lang) == ("GOOD MORNING", "EN")
    assert result.billed_characters == 12


def test_a_batch_in_order_with_each_text_detected(client: deepl.DeepLClient) -> None:
    texts = ["Where is the train station, please?", "Où est la gare, s'il vous plaît ?", "12"]
    results = client.translate_text(texts, target_lang="DE")
    assert isinstance(results, list)
    assert [result.text for result in results] == [text.upper() for text in texts]
    assert [result.detected_source_lang for result in results][:2] == ["EN", "FR"]


def test_fifty_texts_in_order(client: deepl.DeepLClient) -> None:
    texts = [f"{'w ' * (index % 7)}{index}" for index in range(50)]
    results = client.translate_text(texts, source_lang="en", target_lang="de")
    assert isinstance(results, list)
    assert [result.text for result in results] == [text.upper() for text in texts]


@pytest.mark.parametrize("target", ["EN-US", "EN-GB"])
def test_variants_are_served_by_the_base_model(client: deepl.DeepLClient, target: str) -> None:
    result = client.translate_text("guten tag", source_lang="DE", target_lang=target)
    assert isinstance(result, deepl.TextResult)
    assert result.text == "GUTEN TAG"


def test_every_listed_pair_of_languages_translates(client: deepl.DeepLClient) -> None:
    sources = {str(language): language.name for language in client.get_source_languages()}
    targets = {str(language): language.name for language in client.get_target_languages()}
    assert sources == {"DE": "German", "EN": "English", "FR": "French"}
    assert targets == {
        "DE": "German",
        "EN-GB": "English (United Kingdom)",
        "EN-US": "English (United States)",
        "PT-BR": "Portuguese (Brazil)",
        "PT-PT": "Portuguese (Portugal)",
    }
    for target in targets:
        source = "DE" if target.startswith("EN") else "EN"
        assert client.translate_text("a", source_lang=source, target_lang=target)


def test_usage_counts_what_was_translated(client: deepl.DeepLClient) -> None:
    before = client.get_usage()
    client.translate_text(["abc", "de"], source_lang="EN", target_lang="DE")
    after = client.get_usage()
    assert before.character.count is not None
    assert after.character.count == before.character.count + 5
    assert not after.any_limit_reached


def test_options_that_ask_for_the_normal_behaviour_are_accepted(client: deepl.DeepLClient) -> None:
    result = client.translate_text(
        "a",
        source_lang="EN",
        target_lang="DE",
        formality="prefer_more",
        split_sentences="1",
        preserve_formatting=True,
        model_type="prefer_quality_optimized",
    )
    assert isinstance(result, deepl.TextResult)
    assert (result.text, result.model_type_used) == ("A", "latency_optimized")


def test_tags(client: deepl.DeepLClient) -> None:
    """As Weblate asks: placeholders as tags whose inside is to be left alone."""
    result = client.translate_text(
        'one <x id="7"></x> two <x>three</x> &lt;',
        source_lang="EN",
        target_lang="DE",
        tag_handling="xml",
        ignore_tags="x",
    )
    assert isinstance(result, deepl.TextResult)
    assert result.text == 'ONE <x id="7"></x> TWO <x>three</x> &lt;'


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("formality", "more"),
        ("split_sentences", "nonewlines"),
        ("context", "a letter to a friend"),
        ("splitting_tags", ["p"]),
        ("glossary", "0a1b"),
        ("ignore_tags", ["x"]),
        ("custom_instructions", ["be brief"]),
        ("model_type", "quality_optimized"),
        ("extra_body_parameters", {"colour": "red"}),
    ],
)
def test_options_that_are_not_supported_are_refused(
    client: deepl.DeepLClient, option: str, value: object
) -> None:
    name = {"glossary": "glossary_id", "extra_body_parameters": "colour"}.get(option, option)
    with pytest.raises(deepl.DeepLException, match=name) as caught:
        client.translate_text("a", source_lang="EN", target_lang="DE", **{option: value})  # type: ignore[arg-type]
    assert caught.value.http_status_code == 400
    assert "a letter" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("ZZ", "DE", "source language is not supported"),
        ("EN", "ZZ", "target language is not supported"),
        ("FR", "PT-PT", "translation from French is not supported"),
        (None, "ZZ", "target language is not supported"),
    ],
)
def test_unknown_languages(
    client: deepl.DeepLClient, source: str | None, target: str, words: str
) -> None:
    with pytest.raises(deepl.DeepLException, match=f"Bad request.*{words}") as caught:
        client.translate_text("Where is the station?", source_lang=source, target_lang=target)
    assert caught.value.http_status_code == 400


def test_a_key_in_another_form_is_refused(client: deepl.DeepLClient) -> None:
    client.headers["Authorization"] = "Bearer abc"
    for ask in (client.get_usage, client.get_source_languages, client.get_target_languages):
        with pytest.raises(deepl.AuthorizationException, match="DeepL-Auth-Key"):
            ask()
    with pytest.raises(deepl.AuthorizationException):
        client.translate_text("a", target_lang="DE")


def test_what_is_not_there(client: deepl.DeepLClient) -> None:
    pairs = {"a": "b"}
    asked: list[tuple[str, Callable[[], object]]] = [
        ("glossaries are not supported", client.list_glossaries),
        ("glossaries are not supported", client.get_glossary_languages),
        ("glossaries are not supported", lambda: client.create_glossary("a", "EN", "DE", pairs)),
        ("glossaries are not supported", client.list_multilingual_glossaries),
        ("style rules are not supported", client.get_all_style_rules),
        ("does not improve texts", lambda: client.rephrase_text("a", target_lang="DE")),
        (
            "documents are not translated",
            lambda: client.translate_document_upload(
                io.BytesIO(b"text"), target_lang="DE", filename="a.txt"
            ),
        ),
    ]
    for words, ask in asked:
        with pytest.raises(deepl.DeepLException, match=f"Bad request, .*{words}") as caught:
            ask()
        assert caught.value.http_status_code == 400
        assert not caught.value.should_retry


def test_a_too_large_request_and_a_server_error(client: deepl.DeepLClient) -> None:
    with pytest.raises(deepl.DeepLException, match="max_texts") as caught:
        client.translate_text(["a"] * 61, source_lang="EN", target_lang="DE")
    assert caught.value.http_status_code == 413
    with pytest.raises(deepl.DeepLException, match="the model failed on text\\[0\\]") as caught:
        client.translate_text(["CRASH-ADD secret"], source_lang="EN", target_lang="DE")
    assert caught.value.http_status_code == 500
    assert "secret" not in str(caught.value)


def test_a_full_queue(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(max_texts=1, max_queue_texts=1)
    translator = FakeTranslator()
    registry = Registry([fake_model("en-de", settings, translator=translator)])
    with connected(start(registry, settings), monkeypatch) as client:
        wait_until_ready(registry)
        translator.running.clear()
        first = threading.Thread(
            target=client.translate_text, args=("a",), kwargs={"target_lang": "DE"}
        )
        first.start()
        while not translator.num_tickets > 1:  # the first was the model's own
            time.sleep(0.005)
        with pytest.raises(deepl.TooManyRequestsException, match="max_queue_texts"):
            client.translate_text("b", source_lang="EN", target_lang="DE")
        translator.running.set()
        first.join()


def test_while_loading(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, loaded = Settings(), threading.Event()
    registry = Registry([fake_model("en-de", settings, before=held_back(loaded))])
    with connected(start(registry, settings), monkeypatch) as client:
        try:
            with pytest.raises(deepl.DeepLException, match=r"Service unavailable.*loading"):
                client.translate_text("a", target_lang="DE")
        finally:
            loaded.set()
        wait_until_ready(registry)
        assert str(client.translate_text("a", target_lang="DE")) == "A"


def test_a_deadline(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(deadline_s=0.05)
    translator = FakeTranslator(delay_s=0.02)
    registry = Registry([fake_model("en-de", settings, translator=translator)])
    with connected(start(registry, settings), monkeypatch) as client:
        wait_until_ready(registry)
        with pytest.raises(deepl.DeepLException, match="deadline_s") as caught:
            client.translate_text("w " * 100, source_lang="EN", target_lang="DE")
    assert caught.value.http_status_code == 504


def wait_until_ready(registry: Registry) -> None:
    while registry.loading:
        time.sleep(0.005)


def test_one_variant_of_a_language_is_listed_as_it_is(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = fake_registry(Settings(), "zh-en")
    with connected(start(registry, Settings()), monkeypatch) as client:
        wait_until_ready(registry)
        (source,) = client.get_source_languages()
        result = client.translate_text("你好", target_lang="EN-GB")
    assert (source.code, source.name) == ("ZH", "Chinese")
    assert isinstance(result, deepl.TextResult)
    assert result.detected_source_lang == "ZH"


def test_the_command(address: str) -> None:
    """`deepl`, which speaks for itself: what it sends of its own accord has to be understood."""

    def asked(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "deepl", "--auth-key", "k", "--server-url", address]
        return subprocess.run(
            [*command, *arguments], capture_output=True, encoding="utf-8", timeout=60, **options
        )

    texts = asked(
        *("text", "--to", "DE", "--show-detected-source", "--show-billed-characters"),
        *("Where is the train station?", "Où est la gare ?"),
    )
    assert (texts.returncode, texts.stderr) == (0, "")
    assert texts.stdout.splitlines()[2::3] == ["WHERE IS THE TRAIN STATION?", "OÙ EST LA GARE ?"]
    typed = asked("text", "--from", "DE", "--to", "EN-US", "-", input="a b")
    assert (typed.returncode, typed.stdout, typed.stderr) == (0, "A B\n", "")
    assert "DE: German" in asked("languages").stdout
    assert " of 1000000000000" in asked("usage").stdout
    refused = asked("text", "--from", "EN", "--to", "DE", "--outline-detection-off", "a")
    assert refused.returncode != 0
    assert "outline_detection" in refused.stderr


def test_a_glossary_that_is_not_there(client: deepl.DeepLClient) -> None:
    for ask in (client.get_glossary, client.get_multilingual_glossary, client.delete_glossary):
        with pytest.raises(deepl.GlossaryNotFoundException, match="no glossary with this id"):
            ask("0a1b")
