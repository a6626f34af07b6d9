"""azure-ai-translation-text 1.x, unmodified, does its whole job against us; fetched by pip."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

VERSION = "1.0.1"
SCRIPT = Path(__file__).with_name("azure_1.py")
TIMEOUT_S = 120

Call = tuple[str, list[Any], dict[str, Any]]
Replies = list[dict[str, Any]]
Tell = Callable[..., Replies]


@pytest.fixture(scope="module")
def tell(tmp_path_factory: pytest.TempPathFactory) -> Tell:
    """Calls methods of the client; tells of each what it returned, or the error it raised."""
    folder = tmp_path_factory.mktemp("azure")
    # What it depends on is here already, for its successor.
    options = ("--quiet", "--disable-pip-version-check", "--retries=1", "--no-deps")
    package = ("--target", str(folder), f"azure-ai-translation-text=={VERSION}")
    try:
        subprocess.run(
            [sys.executable, "-m", "pip", "install", *options, *package],
            check=True, capture_output=True, timeout=TIMEOUT_S,
        )  # fmt: skip
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip("azure-ai-translation-text 1.x could not be fetched")

    def call(address: str, *calls: Call) -> Replies:
        done = subprocess.run(
            [sys.executable, str(SCRIPT), address, json.dumps(calls)],
            env={**os.environ, "PYTHONPATH": str(folder)},
            check=True, capture_output=True, timeout=TIMEOUT_S, encoding="utf-8",
        )  # fmt: skip
        return [json.loads(line) for line in done.stdout.splitlines()]

    return call


def translate(texts: list[str], to: list[str], source: str | None = "en", **named: Any) -> Call:
    return "translate", [texts], {"to_language": to, "from_language": source, **named}


def test_one_text_and_a_batch(tell: Tell, address: str) -> None:
    texts = [f"{'w ' * (index % 7)}{index}" for index in range(30)]
    asked = ["Where is the train station, please?", "Où est la gare, s'il vous plaît ?"]
    one, batch, detected, html, suggested, long = tell(
        address,
        translate(["good morning"], ["de"]),
        translate(texts, ["de", "pt"]),
        translate(asked, ["de"], source=None),
        translate(["<b>one</b>"], ["de"], text_type="Html"),
        translate(["12"], ["de"], source=None, suggested_from="fr"),
        translate(["x"], ["de"], client_trace_id="0a1b"),
    )
    assert one["result"] == [{"translations": [{"text": "GOOD MORNING", "to": "de"}]}]
    assert batch["result"] == [
        {
            "translations": [
                {"text": text.upper(), "to": "de"},
                {"text": text.upper(), "to": "pt"},
            ]
        }
        for text in texts
    ]
    assert [item["translations"][0]["text"] for item in detected["result"]] == [
        text.upper() for text in asked
    ]
    guesses = [item["detectedLanguage"] for item in detected["result"]]
    assert [guess["language"] for guess in guesses] == ["en", "fr"]
    assert min(guess["score"] for guess in guesses) > 0.9
    assert html["result"][0]["translations"][0]["text"] == "<b>ONE</b>"
    assert suggested["result"][0]["detectedLanguage"] == {"language": "fr", "score": 0}
    assert long["result"][0]["translations"][0]["text"] == "X"


def test_languages(tell: Tell, address: str) -> None:
    every, german, unknown = tell(
        address,
        ("get_supported_languages", [], {}),
        ("get_supported_languages", [], {"scope": "translation", "accept_language": "de"}),
        ("get_supported_languages", [], {"scope": "models"}),
    )
    assert every["result"].keys() == {"translation", "transliteration", "dictionary"}
    assert every["result"]["translation"]["pt"] == {
        "name": "Portuguese",
        "nativeName": "português",
        "dir": "ltr",
    }
    assert german["result"].keys() == {"translation"}
    assert german["result"]["translation"]["fr"]["name"] == "Französisch"
    assert (unknown["status"], unknown["code"]) == (400, 400001)


def test_options(tell: Tell, address: str) -> None:
    options: list[tuple[dict[str, Any], str]] = [
        ({"category": "my-own"}, "category"),
        ({"profanity_action": "Deleted"}, "profanityAction"),
        ({"include_alignment": True}, "includeAlignment"),
        ({"include_sentence_length": True}, "includeSentenceLength"),
        ({"from_script": "Latn"}, "fromScript"),
        ({"to_script": "Latn"}, "toScript"),
        ({"text_type": "markdown"}, "textType"),
        ({"params": {"colour": "red"}}, "colour"),
    ]
    plain, *refused = tell(
        address,
        translate(
            ["a"],
            ["de"],
            category="general",
            profanity_action="NoAction",
            profanity_marker="Tag",
            allow_fallback=False,
            include_alignment=False,
            include_sentence_length=False,
        ),
        *(translate(["a"], ["de"], **option) for option, _ in options),
    )
    assert plain["result"][0]["translations"][0]["text"] == "A"
    for reply, (_, name) in zip(refused, options, strict=True):
        assert (reply["error"], reply["status"]) == ("HttpResponseError", 400), name
        assert name in reply["message"]


def test_errors(tell: Tell, address: str) -> None:
    cases = [
        (translate(["a"], ["de"], source="zz"), 400, 400035, "source language is not supported"),
        (translate(["a"], ["zz"]), 400, 400036, "target language is not supported"),
        (translate(["a"], ["pt"], source="fr"), 400, 400036, "translation from French"),
        (translate(["a"], []), 400, 400036, "to is missing"),
        (translate([], ["de"]), 400, 400000, "at least 1 item"),
        (translate(["a"] * 31, ["de", "pt"]), 413, 413000, "body holds 62 items"),
        (translate(["CRASH-ADD secret"], ["de"]), 500, 500000, "the model failed on body[0]"),
        (("lookup_dictionary_entries", [["a"]], {"from_language": "en", "to_language": "de"}),
         404, 404000, "no such path"),
        (("find_sentence_boundaries", [["a"]], {}), 404, 404000, "no such path"),
        (("transliterate", [["a"]], {"language": "ja", "from_script": "a", "to_script": "b"}),
         404, 404000, "no such path"),
    ]  # fmt: skip
    replies = tell(address, *(call for call, *_ in cases))
    for answer, (_, status, code, words) in zip(replies, cases, strict=True):
        assert (answer["status"], answer["code"]) == (status, code)
        assert words in answer["message"]
        assert "secret" not in answer["message"]
        assert answer["error"] == (
            "ResourceNotFoundError" if status == 404 else "HttpResponseError"
        )


def test_a_full_queue(tell: Tell, full: str) -> None:
    (reply,) = tell(full, translate(["b"], ["de"]))
    assert (reply["status"], reply["code"]) == (429, 429000)


def test_while_loading(tell: Tell, loading: str) -> None:
    (reply,) = tell(loading, translate(["a"], ["de"]))
    assert (reply["status"], reply["code"]) == (503, 503000)
    assert "loading" in reply["message"]


def test_a_deadline(tell: Tell, slow: str) -> None:
    (reply,) = tell(slow, translate(["w " * 100], ["de"]))
    assert (reply["status"], reply["code"]) == (504, 504000)
