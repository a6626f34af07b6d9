"""What an engine is asked, and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass

from model.decoding.beam_search import Hypothesis, SearchConfig
from model.errors import InputError


@dataclass(frozen=True)
class Request:
    """One segment to translate."""

    request_id: int  # chosen by the caller; unique among those under way
    source_ids: Sequence[int]  # neither BOS nor EOS
    search: SearchConfig
    attention: bool = False  # return where the decoder looked
    prefix_ids: Sequence[int] = ()  # what the target has to begin with
    bulk: bool = False  # one of a great many of one text: lets those of other texts pass

    @property
    def src_len(self) -> int:
        """Source places, EOS included."""
        return len(self.source_ids) + 1


@dataclass(frozen=True)
class Usage:
    """How busy engines are, and what their steps took so far."""

    num_slots: int
    num_busy: int  # slots taken
    num_steps: int
    step_s: float


@dataclass(frozen=True)
class Finished:
    """A request's result: its n_best hypotheses (at least one), best first."""

    request_id: int
    hypotheses: tuple[Hypothesis, ...]


def check_length(request: Request, max_source_tokens: int) -> None:
    """InputError when a source is empty or above the limit."""
    num_tokens = len(request.source_ids)
    if num_tokens == 0:
        raise InputError("source has no tokens; leave blank texts out")
    if num_tokens > max_source_tokens:
        raise InputError(
            f"source has {num_tokens} tokens, the limit is {max_source_tokens}; "
            f"split the text or raise max_source_tokens"
        )
