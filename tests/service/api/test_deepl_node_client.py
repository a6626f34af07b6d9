"""The official deepl-node, unmodified, does its whole job against us; fetched by npm."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

VERSION = "1.28.0"
SCRIPT = Path(__file__).with_name("deepl_node.js")
TIMEOUT_S = 120

Replies = list[dict[str, Any]]
Tell = Callable[..., Replies]


@pytest.fixture(scope="module")
def tell(tmp_path_factory: pytest.TempPathFactory) -> Tell:
    """Calls methods of the client; tells of each what it returned, or the error it threw."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("needs node and npm, to fetch deepl-node")
    folder = tmp_path_factory.mktemp("deepl-node")
    quietly = ("--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=0")
    try:
        subprocess.run(
            [npm, "install", *quietly, "--prefix", str(folder), f"deepl-node@{VERSION}"],
            cwd=folder, check=True, capture_output=True, timeout=TIMEOUT_S,
        )  # fmt: skip
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip("deepl-node could not be fetched")

    def call(address: str, *calls: tuple[str, list[Any]], key: str = "any-key") -> Replies:
        done = subprocess.run(
            [node, str(SCRIPT), str(folder), address, key, json.dumps(calls)],
            check=True, capture_output=True, timeout=TIMEOUT_S, encoding="utf-8",
        )  # fmt: skip
        return [json.loads(line) for line in done.stdout.splitlines()]

    return call


def test_one_text_and_a_batch(tell: Tell, address: str) -> None:
    texts = [f"{'w ' * (index % 7)}{index}" for index in range(50)]
    asked = ["Where is the train station, please?", "Où est la gare, s'il vous plaît ?"]
    one, batch, detected = tell(
        address,
        ("translateText", ["good morning", "en", "de"]),
        ("translateText", [texts, "en", "de"]),
        ("translateText", [asked, None, "de"]),
    )
    assert one["result"] == {
        "text": "GOOD MORNING",
        "detectedSourceLang": "en",
        "billedCharacters": 12,
    }
    assert [result["text"] for result in batch["result"]] == [text.upper() for text in texts]
    assert [result["text"] for result in detected["result"]] == [text.upper() for text in asked]
    assert [result["detectedSourceLang"] for result in detected["result"]] == ["en", "fr"]


def test_languages_and_usage(tell: Tell, address: str) -> None:
    sources, targets, before, _, after = tell(
        address,
        ("getSourceLanguages", []),
        ("getTargetLanguages", []),
        ("getUsage", []),
        ("translateText", [["abc", "de"], "en", "pt-BR"]),
        ("getUsage", []),
    )
    assert [language["code"] for language in sources["result"]] == ["en", "fr", "de"]
    assert sources["result"][2]["name"] == "German"
    codes = [language["code"] for language in targets["result"]]
    assert codes == ["en-GB", "en-US", "de", "pt-BR", "pt-PT"]
    counts = [usage["result"]["character"]["count"] for usage in (before, after)]
    assert counts[1] == counts[0] + 5
    for code in codes:
        (reply,) = tell(address, ("translateText", ["a", "de" if "en" in code else "en", code]))
        assert reply["result"]["text"] == "A"


def test_options(tell: Tell, address: str) -> None:
    def asked(**options: object) -> tuple[str, list[Any]]:
        return "translateText", ["one <x>two</x>", "en", "de", options]

    tags, plain, *refused = tell(
        address,
        asked(tagHandling="xml", ignoreTags=["x"]),
        asked(
            formality="prefer_less",
            preserveFormatting=True,
            splitSentences="on",
            modelType="prefer_quality_optimized",
        ),
        asked(formality="less"),
        asked(context="a letter to a friend"),
        asked(glossary="0a1b"),
        asked(splittingTags=["p"], tagHandling="xml"),
        asked(customInstructions=["be brief"]),
        asked(extraRequestParameters={"colour": "red"}),
    )
    assert tags["result"]["text"] == "ONE <x>two</x>"
    assert plain["result"]["text"] == "ONE <X>TWO</X>"
    names = (
        *("formality", "context", "glossary_id", "splitting_tags"),
        *("custom_instructions", "colour"),
    )
    for reply, name in zip(refused, names, strict=True):
        assert reply["error"] == "DeepLError", name
        assert name in reply["message"]
        assert "a letter" not in reply["message"]


def test_errors(tell: Tell, address: str) -> None:
    cases: list[tuple[tuple[str, list[Any]], str, str]] = [
        (("translateText", ["a", "zz", "de"]), "DeepLError", "source language is not supported"),
        (("translateText", ["a", "en", "zz"]), "DeepLError", "target language is not supported"),
        (("translateText", ["a", "fr", "pt-PT"]), "DeepLError", "translation from French"),
        (("translateText", [["a"] * 61, "en", "de"]), "DeepLError", "max_texts"),
        (("translateText", ["CRASH-ADD secret", "en", "de"]), "DeepLError", "failed on text[0]"),
        (("getGlossary", ["0a1b"]), "GlossaryNotFoundError", "no glossary with this id"),
    ]
    for reply, (_, kind, words) in zip(
        tell(address, *(call for call, _, _ in cases)), cases, strict=True
    ):
        assert reply["error"] == kind
        assert words in reply["message"]
        assert "secret" not in reply["message"]


def test_a_full_queue(tell: Tell, full: str) -> None:
    (reply,) = tell(full, ("translateText", ["b", "en", "de"]))
    assert reply["error"] == "TooManyRequestsError"
    assert "max_queue_texts" in reply["message"]


def test_a_bad_key_and_a_used_up_quota_and_rate(tell: Tell, limited: tuple[str, str]) -> None:
    address, key = limited
    (refused,) = tell(address, ("translateText", ["a", "en", "de"]), key="dgm_wrong")
    assert refused["error"] == "AuthorizationError"
    texts = ["good morning"] * 3 + ["a"] * 2
    replies = tell(address, *(("translateText", [text, "en", "de"]) for text in texts), key=key)
    assert [each.get("error") for each in replies] == [
        *(None, None, "QuotaExceededError"),
        *(None, "TooManyRequestsError"),
    ]
    assert "hour" in replies[4]["message"]


def test_while_loading(tell: Tell, loading: str) -> None:
    (reply,) = tell(loading, ("translateText", ["a", "en", "de"]))
    assert reply["error"] == "DeepLError"
    assert "Service unavailable" in reply["message"]
    assert "loading" in reply["message"]


def test_a_deadline(tell: Tell, slow: str) -> None:
    (reply,) = tell(slow, ("translateText", ["w " * 100, "en", "de"]))
    assert reply["error"] == "DeepLError"
    assert "deadline_s" in reply["message"]
