"""Many texts through a translator, in the order that suits it, and back in their own."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from model.errors import InputError
from model.text.segmenter import Segmentation

if TYPE_CHECKING:  # whoever only wants to know the face need not import torch
    from model.decoding.beam_search import SearchConfig
    from model.translation import Translation

_FEED_AHEAD = 64  # segments kept waiting for an engine


@runtime_checkable
class IncrementalTranslator(Protocol):
    """The face of model.translator.Translator that takes texts one by one."""

    def add(
        self,
        text: str,
        search: "SearchConfig | None" = None,
        *,
        alignments: bool = False,
        segmentation: Segmentation = "line",
    ) -> int: ...

    def step(self, timeout_s: float | None = None) -> "list[tuple[int, Translation]]": ...

    def cancel(self, ticket: int) -> None: ...

    @property
    def num_waiting(self) -> int: ...


def translate_in_order(
    translator: IncrementalTranslator,
    texts: Sequence[str],
    search: "SearchConfig | None" = None,
    *,
    alignments: bool = False,
    segmentation: Segmentation = "line",
    name_of: Callable[[int], str] = lambda index: f"text {index + 1}",
    progress: Callable[[int], None] = lambda num_done: None,
) -> "list[Translation]":
    """One Translation a text; the InputError of one that is refused begins with its name.

    Longest first: sentences of similar length share steps, and no long one is left for last. Only
    while nothing else is under way, whose results would be lost here.
    """
    longest_first = deque(sorted(range(len(texts)), key=lambda index: -len(texts[index])))
    tickets: dict[int, int] = {}
    found: dict[int, Translation] = {}
    try:
        while longest_first or tickets:
            # A few at a time, because the engine lets short ones pass.
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
            found.update((tickets.pop(ticket), translation) for ticket, translation in finished)
            if finished:
                progress(len(found))
    except BaseException:  # Ctrl-C too: what is left must not meet the next texts
        for ticket in tickets:
            translator.cancel(ticket)
        raise
    return [found[index] for index in range(len(texts))]
