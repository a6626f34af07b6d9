"""One step of beam search over many sentences at once.

Pure functions on tensors; beam_batch.py has the network and the slots, history.py the pieces.
Greedy search is beam_size=1. The rules:

- At every step, a sentence's hypotheses compete for `beam_size` places. A hypothesis that ends
  within the best `beam_size` of all candidates is kept as finished and takes no place. The best
  `beam_size` hypotheses that did not end continue.
- A sentence is settled, that is its result is final, when `beam_size` hypotheses have finished,
  when no live hypothesis can still beat the worst of the `n_best` finished ones, or at its length
  limit.
- PAD, UNK and BOS are never chosen; EOS not before the minimum length.
- Equal scores: ending ranks before continuing, then the better-ranked parent ranks first.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from model.decoding.search_config import SearchConfig
from model.inference.output_layer import COLUMN_GROUP
from model.text.tokenizer import BOS, EOS, PAD, UNK

_FIRST_PIECE = max(PAD, UNK, BOS, EOS) + 1  # lower ids are special tokens
_ROWS_IN_CACHE = 32  # rows of logits: one megabyte at 8,000 pieces
_NARROW = 1024  # columns; up to so many are sorted at once


@dataclass(frozen=True)
class Choice:
    """The hypotheses that continue after one step, best first: a piece each, and its parent."""

    token_ids: Int[Tensor, "batch beam"]
    parents: Int[Tensor, "batch beam"]  # places in the sentence's beam before the step
    token_log_probs: Float[Tensor, "batch beam"]


@dataclass(frozen=True)
class SearchState:
    """The searches of several sentences of equal beam size; all tensors, one row per sentence.

    `ended_*` hold the best finished hypotheses of each sentence, best first; empty places have the
    score -inf.
    """

    log_probs: Float[Tensor, "batch beam"]  # of live hypotheses, best first; -inf: empty
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
    ended_parents: Int[Tensor, "batch beam"]  # place in the beam of the hypothesis that EOS ended

    @classmethod
    def start(
        cls,
        searches: Sequence[SearchConfig],
        source_lengths: Sequence[int],
        device: torch.device | str = "cpu",
        prefix_lengths: Sequence[int] | None = None,
    ) -> "SearchState":
        """Returns the state before the first piece, with one live hypothesis per sentence.

        Beam sizes must be equal. prefix_lengths: added to each sentence's maximum length.
        """
        batch, beam = len(searches), searches[0].beam_size
        assert all(search.beam_size == beam for search in searches)

        def integers(numbers: list[int]) -> Tensor:
            return torch.tensor(numbers, device=device)

        pairs = list(zip(searches, source_lengths, strict=True))
        log_probs = torch.full((batch, beam), -math.inf, device=device)
        empty = log_probs.clone()
        log_probs[:, 0] = 0.0
        return cls(
            log_probs=log_probs,
            lengths=integers([0] * batch),
            min_lengths=integers([search.min_length(src_len) for search, src_len in pairs]),
            max_lengths=integers(
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
            n_best=integers([search.n_best for search in searches]),
            num_ended=integers([0] * batch),
            ended_scores=empty,
            ended_log_probs=empty.clone(),
            ended_final_log_probs=empty.clone(),
            ended_lengths=empty.new_zeros((batch, beam), dtype=torch.long),
            ended_parents=empty.new_zeros((batch, beam), dtype=torch.long),
        )

    def map(self, change: Callable[[Tensor], Tensor]) -> "SearchState":
        """Returns a state whose tensors are changed by `change`."""
        return SearchState(*(change(getattr(self, field.name)) for field in fields(self)))

    def write(self, sentences: Int[Tensor, " few"], other: "SearchState") -> None:
        """Overwrites the searches of these sentences, in place."""
        for field in fields(self):
            getattr(self, field.name)[sentences] = getattr(other, field.name)

    def settled(self) -> Bool[Tensor, " batch"]:
        """Returns True for the sentences whose result is final."""
        best_live = self.log_probs[:, 0]
        # No live hypothesis can score above this: log_probs only fall, the penalty only grows.
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
    """Chooses the hypotheses that continue and those that end; rows are live hypotheses, in order.

    piece_ids: the pieces that the columns of a narrowed output layer stand for, EOS first, then
    pieces of text; None: a column is the piece of that id. forced_ids: the only piece that may
    follow in a sentence; PAD: any may. Writes over `logits`.
    """
    batch, beam = state.log_probs.shape
    end, first = (EOS, _FIRST_PIECE) if piece_ids is None else (0, 1)
    logits = logits.view(batch, beam, -1)
    normalisers = log_sum_exp(logits)
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


def log_sum_exp(logits: Float[Tensor, "batch beam columns"]) -> Float[Tensor, "batch beam"]:
    """Returns log(sum(exp(logits))) of each row: logits minus this are log_probs."""
    # On a CPU a few rows at a time, which stay in the cache between the passes.
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
    """Returns where the `count` largest of logits + offsets are in [beam x columns], best first.

    Wide rows take two rounds: the `count` best are among the `count` groups of columns with the
    largest maxima. A maximum takes much less time than sorting.
    """
    batch, beam, columns = logits.shape
    if columns % COLUMN_GROUP or columns <= _NARROW:
        totals = (logits + offsets[:, :, None]).flatten(1)
        return totals.topk(count).indices
    groups = logits.view(batch, beam, -1, COLUMN_GROUP)
    maxima = (groups.amax(dim=3) + offsets[:, :, None]).flatten(1)
    best_groups = maxima.topk(count).indices  # of (beam x groups)
    inside = best_groups[:, :, None].expand(-1, -1, COLUMN_GROUP)
    candidates = groups.flatten(1, 2).gather(1, inside)
    parents = best_groups // groups.shape[2]
    totals = (candidates + offsets.gather(1, parents)[:, :, None]).flatten(1)
    order = totals.topk(count).indices
    return best_groups.gather(1, order // COLUMN_GROUP) * COLUMN_GROUP + order % COLUMN_GROUP


def _keep_ended(
    state: SearchState,
    ended_log_probs: Float[Tensor, "batch beam"],
    final_log_probs: Float[Tensor, "batch beam"],
) -> SearchState:
    """Merges hypotheses that ended at this step (-inf: did not end) into the finished ones."""
    if ended_log_probs.device.type == "cpu" and not bool((ended_log_probs > -math.inf).any()):
        return state  # most steps of a single sentence; asking a GPU would make the CPU wait
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
    """Returns the length penalty of every sentence: `search_config.length_penalty` on tensors."""
    penalties: Tensor = ((lengths + 5) / 6) ** alphas
    return penalties
