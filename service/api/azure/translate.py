"""Translates many texts into many languages in one request, for both versions of Azure's API."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from service.api.multilingual import Interpretation, MultilingualTranslator, Order
from service.text.markup import plain_document, tagged_document

USAGE = "X-Metered-Usage"  # response header; its value is computed by `usage`


@dataclass(frozen=True)
class Kind:
    """The options of texts that can be translated together."""

    source: str | None
    target: str
    html: bool
    suggested: str | None = None


async def interpret(
    multilingual: MultilingualTranslator,
    request: Request,
    texts: Sequence[str],
    kinds: Sequence[Sequence[Kind]],
    name_of: Callable[[int], str],
) -> list[list[Interpretation]]:
    """Translates each text once for each of its kinds; results in the same order."""
    multilingual.translation_service.limits.check_answer(usage(texts, kinds))
    wanted: dict[Kind, dict[int, None]] = {}  # as sets that keep their order
    for index, of_text in enumerate(kinds):
        for kind in of_text:
            wanted.setdefault(kind, {})[index] = None
    orders = [_order(kind, texts, list(indices), name_of) for kind, indices in wanted.items()]
    answers = await multilingual.translate_all(request, orders)
    by_kind_and_text = {
        (kind, index): result
        for (kind, indices), results in zip(wanted.items(), answers, strict=True)
        for index, result in zip(indices, results, strict=True)
    }
    return [
        [by_kind_and_text[kind, index] for kind in of_text] for index, of_text in enumerate(kinds)
    ]


def usage(texts: Sequence[str], kinds: Sequence[Sequence[Kind]]) -> int:
    """The number of characters; each text counts once for each of its target languages."""
    return sum(len(text) * len(of_text) for text, of_text in zip(texts, kinds, strict=True))


def _order(
    kind: Kind, texts: Sequence[str], indices: Sequence[int], name_of: Callable[[int], str]
) -> Order:
    return Order(
        [texts[index] for index in indices],
        kind.source,
        kind.target,
        name_of=lambda position: name_of(indices[position]),
        suggested=kind.suggested,
        read=tagged_document if kind.html else plain_document,
    )


def translated(
    results: Sequence[Interpretation], kinds: Sequence[Kind], name: str
) -> dict[str, Any]:
    """The answer for one text; `name` is the field for the target language in this version."""
    translations = [
        {"text": result.text, name: kind.target}
        for result, kind in zip(results, kinds, strict=True)
    ]
    answer: dict[str, Any] = {"translations": translations}
    if results[0].confidence is not None:
        detected = {"language": results[0].source, "score": results[0].confidence}
        answer["detectedLanguage"] = detected
    return answer
