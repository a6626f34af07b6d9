"""Translates many texts, longest first, and returns the translations in the order of the texts."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from model.decoding.search_config import SearchConfig
from model.errors import InputError
from model.text.segmenter import Segmentation
from model.translation import Translation

_FEED_AHEAD = 64  # segments kept waiting for an engine


@runtime_checkable
class IncrementalTranslator(Protocol):
    """The part of model.translator.Translator that takes texts one by one; imports no torch."""

    def add(
        self,
        text: str,
        search: SearchConfig | None = None,
        *,
        alignments: bool = False,
        segmentation: Segmentation = "line",
    ) -> int: ...

    def step(self, timeout_s: float | None = None) -> list[tuple[int, Translation]]: ...

    def cancel(self, ticket: int) -> None: ...

    @property
    def num_waiting(self) -> int: ...


def translate_in_order(
    translator: IncrementalTranslator,
    texts: Sequence[str],
    search: SearchConfig | None = None,
    *,
    alignments: bool = False,
    segmentation: Segmentation = "line",
    name_of: Callable[[int], str] = lambda index: f"text {index + 1}",
    progress: Callable[[int], None] = lambda num_done: None,
) -> list[Translation]:
    """Returns one Translation per text, in order.

    The longest texts go first: sentences of similar length share steps, and no long one is left for
    the end. Only while the translator is idle, because other results would be lost here.
    InputError when a text cannot be translated; its message begins with `name_of` the text's index.
    progress: called with the number of texts translated so far.
    """
    longest_first = deque(sorted(range(len(texts)), key=lambda index: -len(texts[index])))
    tickets: dict[int, int] = {}
    translations: dict[int, Translation] = {}
    try:
        while longest_first or tickets:
            # A few at a time, because in an engine short sentences overtake long ones.
            while longest_first and translator.num_waiting < _FEED_AHEAD:
                index = longest_first.popleft()
                try:
                    ticket = translator.add(
                        texts[index], search, alignments=alignments, segmentation=segmentation
                    )
                    tickets[ticket] = index
                except InputError as error:
                    raise InputError(f"{name_of(index)}: {error}") from None
            finished = translator.step()
            translations.update(
                (tickets.pop(ticket), translation) for ticket, translation in finished
            )
            if finished:
                progress(len(translations))
    except BaseException:  # Ctrl-C too: the next call must not receive these texts
        for ticket in tickets:
            translator.cancel(ticket)
        raise
    return [translations[index] for index in range(len(texts))]
