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
from model.inference.output_layer import COLUMN_GROUP
from model.text.tokenizer import BOS, EOS, PAD, UNK

_FIRST_PIECE = max(PAD, UNK, BOS, EOS) + 1  # the ids below stand for no text
_ROWS_IN_CACHE = 32  # of logits: one megabyte at 8,000 pieces
_NARROW = 1024  # columns; so few are ordered at once
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
        prefix_lengths: Sequence[int] | None = None,
    ) -> "SearchState":
        """Before the first piece: one live hypothesis per sentence; beam sizes must be equal.

        A target may be longer by its prefix.
        """
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
            max_lengths=whole(
                [
                    search.max_length(src_len) + prefix
                    for (search, src_len), prefix in zip(
                        pairs, prefix_lengths or [0] * batch, strict=True
                    )
                ]
            ),
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


def advance(
    logits: Float[Tensor, "rows columns"],
    state: SearchState,
    piece_ids: Int[Tensor, "batch columns"] | None = None,
    forced_ids: Int[Tensor, " batch"] | None = None,
) -> tuple[SearchState, Choice]:
    """One step of pruning for every sentence; rows are its live hypotheses, in order.

    `piece_ids` says what the columns of a narrowed output layer stand for: EOS first, then pieces
    of text; None: every column is the piece of that id. `forced_ids`: the one piece that may
    follow in a sentence, PAD where any may. Writes over `logits`.
    """
    batch, beam = state.log_probs.shape
    end, first = (EOS, _FIRST_PIECE) if piece_ids is None else (0, 1)
    logits = logits.view(batch, beam, -1)
    normalisers = _log_sum_exp(logits)
    final_log_probs = logits[:, :, end] - normalisers
    logits[:, :, :first] = -math.inf
    if forced_ids is not None:
        forced = (forced_ids != PAD)[:, None]
        columns = torch.arange(logits.shape[2], device=logits.device)
        allowed = (columns if piece_ids is None else piece_ids) == forced_ids[:, None]
        logits.masked_fill_((forced & ~allowed)[:, None, :], -math.inf)
        final_log_probs = final_log_probs.masked_fill(forced, -math.inf)
    places = _best_places(logits, state.log_probs - normalisers, beam)
    parents, columns = places // logits.shape[2], places % logits.shape[2]
    token_log_probs = logits.flatten(1).gather(1, places) - normalisers.gather(1, parents)
    choice = Choice(
        token_ids=columns if piece_ids is None else piece_ids.gather(1, columns),
        parents=parents,
        token_log_probs=token_log_probs,
    )
    lengths = state.lengths + 1
    live_log_probs = state.log_probs.gather(1, parents) + token_log_probs
    ended_log_probs = (state.log_probs + final_log_probs).masked_fill(
        (lengths < state.min_lengths)[:, None], -math.inf
    )
    least = torch.cat([live_log_probs, ended_log_probs], dim=1).topk(beam).values[:, -1:]
    ended_log_probs.masked_fill_(ended_log_probs < least, -math.inf)
    state = replace(state, log_probs=live_log_probs, lengths=lengths)
    return _keep_ended(state, ended_log_probs, final_log_probs), choice


def _log_sum_exp(logits: Float[Tensor, "batch beam columns"]) -> Float[Tensor, "batch beam"]:
    """What turns scores into log_probs, by subtraction."""
    # On a CPU a few sentences at a time: their numbers stay in the cache between the passes.
    rows = logits.flatten(0, 1)
    chunks = torch.split(rows, _ROWS_IN_CACHE) if rows.device.type == "cpu" else (rows,)
    sums = []
    for chunk in chunks:
        largest = chunk.amax(dim=1, keepdim=True)
        sums.append((chunk - largest).exp_().sum(dim=1).log_().add_(largest[:, 0]))
    return torch.cat(sums).view(logits.shape[:2])


def _best_places(
    logits: Float[Tensor, "batch beam columns"], offsets: Float[Tensor, "batch beam"], count: int
) -> Int[Tensor, "batch count"]:
    """Where the `count` largest of logits + offsets are in [beam x columns], best first.

    Wide rows are looked at in two rounds: the `count` best are among the `count` groups of columns
    with the largest maxima. A maximum is found much faster than an order.
    """
    batch, beam, columns = logits.shape
    if columns % COLUMN_GROUP or columns <= _NARROW:
        totals = (logits + offsets[:, :, None]).flatten(1)
        return totals.topk(count).indices
    groups = logits.view(batch, beam, -1, COLUMN_GROUP)
    maxima = (groups.amax(dim=3) + offsets[:, :, None]).flatten(1)
    best_groups = maxima.topk(count).indices  # of (beam x groups)
    inside = best_groups[:, :, None].expand(-1, -1, COLUMN_GROUP)
    found = groups.flatten(1, 2).gather(1, inside)
    parents = best_groups // groups.shape[2]
    totals = (found + offsets.gather(1, parents)[:, :, None]).flatten(1)
    order = totals.topk(count).indices
    return best_groups.gather(1, order // COLUMN_GROUP) * COLUMN_GROUP + order % COLUMN_GROUP


def _keep_ended(
    state: SearchState,
    ended_log_probs: Float[Tensor, "batch beam"],
    final_log_probs: Float[Tensor, "batch beam"],
) -> SearchState:
    """Takes hypotheses that ended at this step (-inf: did not) among the best finished ones."""
    if ended_log_probs.device.type == "cpu" and not bool((ended_log_probs > -math.inf).any()):
        return state  # as most steps of a single sentence; a GPU would have to wait for the answer
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
