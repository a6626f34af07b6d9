"""One step of beam search over many sentences at once: what goes on, what ended, what is settled.

Pure functions on tensors; the network, the slots and the words themselves live in engine.py. Greedy
search is beam_size=1. The rules:

- A sentence's hypotheses compete for `beam_size` places at every step. One that ends within the
  best `beam_size` of all candidates is kept as finished and takes no place; the best `beam_size`
  that did not end go on.
- A sentence is settled when `beam_size` hypotheses have finished, when no live one can beat the
  worst of the `n_best` finished ones any more, or at its length limit.
- PAD, UNK and BOS are never put out; EOS not before the minimum length.
- Equal scores: ending comes before going on, then the better-ranked parent comes first.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from model.config import SearchDefaults
from model.errors import ConfigError
from model.tokenizer import BOS, EOS, PAD, UNK

_FIRST_PIECE = max(PAD, UNK, BOS, EOS) + 1  # the ids below stand for no text
_ROWS_IN_CACHE = 32  # of logits: one megabyte at 8,000 pieces
_DEFAULTS = SearchDefaults()


@dataclass(frozen=True)
class SearchConfig:
    """How one request is searched; requests with different settings share the engine's steps."""

    beam_size: int = _DEFAULTS.beam_size  # 1: greedy
    length_penalty: float = _DEFAULTS.length_penalty  # alpha of `length_penalty`
    n_best: int = 1  # hypotheses returned, at most beam_size
    min_length_ratio: float = 0.0  # shortest target, in source lengths
    max_length_ratio: float = 2.0  # longest target, in source lengths ...
    max_length_extra: int = 10  # ... plus this many pieces

    def __post_init__(self) -> None:
        if self.beam_size < 1:
            raise ConfigError(f"beam_size is {self.beam_size}; it must be at least 1")
        if not 1 <= self.n_best <= self.beam_size:
            raise ConfigError(
                f"n_best is {self.n_best} and beam_size {self.beam_size}; "
                f"n_best must be between 1 and beam_size"
            )
        for name in ("length_penalty", "min_length_ratio", "max_length_ratio", "max_length_extra"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name} is {value}; it must be a number that is not negative")
        if self.min_length_ratio > self.max_length_ratio:
            raise ConfigError(
                f"min_length_ratio is {self.min_length_ratio} and max_length_ratio "
                f"{self.max_length_ratio}; the minimum must not exceed the maximum"
            )

    def max_length(self, src_len: int) -> int:
        """Longest target of a source of this length; both lengths include EOS."""
        return max(1, int(self.max_length_ratio * src_len) + self.max_length_extra)

    def min_length(self, src_len: int) -> int:
        """Shortest target of a source of this length; both lengths include EOS."""
        return min(math.ceil(self.min_length_ratio * src_len), self.max_length(src_len))


@dataclass(frozen=True)
class Hypothesis:
    """One translation of one segment, in target ids."""

    token_ids: tuple[int, ...]  # neither BOS nor EOS
    log_prob: float  # of all pieces, EOS's included when finished
    score: float  # log_prob / length_penalty
    token_log_probs: tuple[float, ...]  # per piece; EOS's comes last when finished
    attention: tuple[tuple[float, ...], ...] | None  # [target place][source place], EOS's included
    finished: bool  # False: cut by the length limit


def length_penalty(length: int, alpha: float) -> float:
    """Divisor that stops beam search from favouring short output.

    ((5 + length) / 6) ** alpha: Wu et al. (2016), eq. 14.
    length counts EOS; alpha 0 turns the penalty off.
    """
    return float(((5 + length) / 6) ** alpha)


@dataclass(frozen=True)
class Choice:
    """The hypotheses that go on after one step, best first: a piece each, and whom it continues."""

    token_ids: Int[Tensor, "batch beam"]
    parents: Int[Tensor, "batch beam"]  # places within the sentence's former beam
    token_log_probs: Float[Tensor, "batch beam"]


@dataclass(frozen=True)
class SearchState:
    """The searches of several sentences of equal beam size; all tensors, one row per sentence.

    `ended_*` hold each sentence's best finished hypotheses, best first; empty places score -inf.
    """

    log_probs: Float[Tensor, "batch beam"]  # of the live hypotheses, best first; -inf: none
    lengths: Int[Tensor, " batch"]  # steps taken
    min_lengths: Int[Tensor, " batch"]
    max_lengths: Int[Tensor, " batch"]
    alphas: Float[Tensor, " batch"]
    n_best: Int[Tensor, " batch"]
    num_ended: Int[Tensor, " batch"]
    ended_scores: Float[Tensor, "batch beam"]
    ended_log_probs: Float[Tensor, "batch beam"]
    ended_final_log_probs: Float[Tensor, "batch beam"]  # of the EOS alone
    ended_lengths: Int[Tensor, "batch beam"]  # EOS included
    ended_parents: Int[Tensor, "batch beam"]  # the place in the beam that EOS followed

    @classmethod
    def start(
        cls,
        searches: Sequence[SearchConfig],
        source_lengths: Sequence[int],
        device: torch.device | str = "cpu",
    ) -> "SearchState":
        """Before the first piece: one live hypothesis per sentence; beam sizes must be equal."""
        batch, beam = len(searches), searches[0].beam_size
        assert all(search.beam_size == beam for search in searches)

        def whole(numbers: list[int]) -> Tensor:
            return torch.tensor(numbers, device=device)

        pairs = list(zip(searches, source_lengths, strict=True))
        log_probs = torch.full((batch, beam), -math.inf, device=device)
        nothing = log_probs.clone()
        log_probs[:, 0] = 0.0
        return cls(
            log_probs=log_probs,
            lengths=whole([0] * batch),
            min_lengths=whole([search.min_length(src_len) for search, src_len in pairs]),
            max_lengths=whole([search.max_length(src_len) for search, src_len in pairs]),
            alphas=torch.tensor(
                [float(search.length_penalty) for search in searches], device=device
            ),
            n_best=whole([search.n_best for search in searches]),
            num_ended=whole([0] * batch),
            ended_scores=nothing,
            ended_log_probs=nothing.clone(),
            ended_final_log_probs=nothing.clone(),
            ended_lengths=nothing.new_zeros((batch, beam), dtype=torch.long),
            ended_parents=nothing.new_zeros((batch, beam), dtype=torch.long),
        )

    def map(self, change: Callable[[Tensor], Tensor]) -> "SearchState":
        """The same change made to every tensor."""
        return SearchState(*(change(getattr(self, field.name)) for field in fields(self)))

    def write(self, sentences: Int[Tensor, " few"], other: "SearchState") -> None:
        """Overwrites these sentences' searches, in place."""
        for field in fields(self):
            getattr(self, field.name)[sentences] = getattr(other, field.name)

    def settled(self) -> Bool[Tensor, " batch"]:
        """Sentences whose result is final."""
        best_live = self.log_probs[:, 0]
        # log_probs only fall and the penalty only grows: no live hypothesis can score above this.
        bound = best_live / _penalties(self.max_lengths, self.alphas)
        worst_wanted = self.ended_scores.gather(1, self.n_best[:, None] - 1)[:, 0]
        return (
            (self.num_ended >= self.log_probs.shape[1])
            | (self.lengths >= self.max_lengths)
            | ~(bound > worst_wanted)
        )


def advance(logits: Float[Tensor, "rows vocab"], state: SearchState) -> tuple[SearchState, Choice]:
    """One step of pruning for every sentence; rows are its live hypotheses, in order."""
    batch, beam = state.log_probs.shape
    lengths = state.lengths + 1
    best = _best_continuations(logits, beam)
    per_parent = best.token_ids.shape[1]
    totals = (state.log_probs.reshape(-1, 1) + best.token_log_probs).view(batch, -1)
    ranked = totals.sort(dim=1, descending=True, stable=True)
    live_log_probs, order = ranked.values[:, :beam], ranked.indices[:, :beam]
    choice = Choice(
        token_ids=best.token_ids.view(batch, -1).gather(1, order),
        parents=order // per_parent,
        token_log_probs=best.token_log_probs.view(batch, -1).gather(1, order),
    )

    final_log_probs = best.end_log_probs.view(batch, beam)
    ended_log_probs = (state.log_probs + final_log_probs).masked_fill(
        (lengths < state.min_lengths)[:, None], -math.inf
    )
    least = torch.cat([live_log_probs, ended_log_probs], dim=1).topk(beam).values[:, -1:]
    ended_log_probs = ended_log_probs.masked_fill(ended_log_probs < least, -math.inf)
    state = replace(state, log_probs=live_log_probs, lengths=lengths)
    return _keep_ended(state, ended_log_probs, final_log_probs), choice


@dataclass(frozen=True)
class _Continuations:
    """What may follow each row: its best pieces, and the end."""

    token_log_probs: Float[Tensor, "rows best"]
    token_ids: Int[Tensor, "rows best"]
    end_log_probs: Float[Tensor, " rows"]


def _best_continuations(logits: Float[Tensor, "rows vocab"], beam: int) -> _Continuations:
    """Nobody needs more than `beam` continuations of one hypothesis, so none gets more."""
    num_best = min(beam, logits.shape[1] - _FIRST_PIECE)
    # On a CPU a few rows at a time: their log_probs stay in the cache between the two passes, and
    # the memory is used again at once (a fresh block of this size costs more than the arithmetic).
    chunks = torch.split(logits, _ROWS_IN_CACHE) if logits.device.type == "cpu" else (logits,)
    best, ends = [], []
    for chunk in chunks:
        log_probs = chunk.log_softmax(-1, dtype=torch.float32)
        best.append(log_probs[:, _FIRST_PIECE:].topk(num_best))
        ends.append(log_probs[:, EOS].clone())
    return _Continuations(
        token_log_probs=torch.cat([chunk.values for chunk in best]),
        token_ids=torch.cat([chunk.indices for chunk in best]) + _FIRST_PIECE,
        end_log_probs=torch.cat(ends),
    )


def _keep_ended(
    state: SearchState,
    ended_log_probs: Float[Tensor, "batch beam"],
    final_log_probs: Float[Tensor, "batch beam"],
) -> SearchState:
    """Takes hypotheses that ended at this step (-inf: did not) among the best finished ones."""
    beam = ended_log_probs.shape[1]
    scores = ended_log_probs / _penalties(state.lengths, state.alphas)[:, None]
    ranked = torch.cat([state.ended_scores, scores], dim=1).sort(
        dim=1, descending=True, stable=True
    )
    order = ranked.indices[:, :beam]

    def best(old: Tensor, new: Tensor) -> Tensor:
        return torch.cat([old, new], dim=1).gather(1, order)

    places = torch.arange(beam, device=order.device)
    return replace(
        state,
        num_ended=state.num_ended + (ended_log_probs > -math.inf).sum(dim=1),
        ended_scores=ranked.values[:, :beam],
        ended_log_probs=best(state.ended_log_probs, ended_log_probs),
        ended_final_log_probs=best(state.ended_final_log_probs, final_log_probs),
        ended_lengths=best(state.ended_lengths, state.lengths[:, None].expand_as(order)),
        ended_parents=best(state.ended_parents, places.expand_as(order)),
    )


def _penalties(
    lengths: Int[Tensor, " batch"], alphas: Float[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """`length_penalty` of many."""
    penalties: Tensor = ((lengths + 5) / 6) ** alphas
    return penalties
