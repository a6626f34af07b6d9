"""Requests to an engine and its results: plain data, without torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from model.decoding.search_config import Hypothesis, SearchConfig
from model.errors import InputError


@dataclass(frozen=True)
class SegmentRequest:
    """One segment to translate."""

    request_id: int  # chosen by the caller: unique, and higher for later requests
    source_ids: Sequence[int]  # neither BOS nor EOS
    search: SearchConfig
    attention: bool = False  # return the attention weights
    prefix_ids: Sequence[int] = ()  # the target must begin with these
    bulk: bool = False  # part of a large job: requests of other texts go first

    @property
    def src_len(self) -> int:
        """Number of source tokens, EOS included."""
        return len(self.source_ids) + 1


@dataclass(frozen=True)
class EngineUsage:
    """How busy engines are, and the steps they have taken so far."""

    num_slots: int
    num_busy: int  # slots taken
    num_steps: int
    step_s: float  # time that the steps took


@dataclass(frozen=True)
class Finished:
    """Result of one request: its n_best hypotheses (at least one), best first."""

    request_id: int
    hypotheses: tuple[Hypothesis, ...]


def check_length(request: SegmentRequest, max_source_tokens: int) -> None:
    """Raises InputError when a source is empty or above the limit."""
    num_tokens = len(request.source_ids)
    if num_tokens == 0:
        raise InputError("source has no tokens; leave blank texts out")
    if num_tokens > max_source_tokens:
        raise InputError(
            f"source has {num_tokens} tokens, the limit is {max_source_tokens}; "
            f"split the text or raise max_source_tokens"
        )
