"""What the hypotheses of one lane were made of: back-pointers and piece columns, kept as tensors.

A step writes one column; nothing is copied when beams are reordered. The words of a hypothesis are
read by following its back-pointers, once, when its sentence has finished.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from model.beam_search import Choice, Hypothesis, SearchConfig, SearchState, length_penalty
from model.errors import CheckpointError


class History:
    """Columns [slot, step, place in the beam]; a slot's columns start at its own step 0."""

    def __init__(
        self,
        num_slots: int,
        num_steps: int,
        beam_size: int,
        device: torch.device,
        src_len: int | None,
    ) -> None:
        """`src_len`: width of the attention rows to keep; None keeps none."""
        shape = (num_slots, num_steps, beam_size)
        self.token_ids = torch.zeros(shape, dtype=torch.long, device=device)
        self.parents = torch.zeros(shape, dtype=torch.long, device=device)
        self.token_log_probs = torch.zeros(shape, device=device)
        self.attention = None if src_len is None else torch.zeros((*shape, src_len), device=device)
        self._slots = torch.arange(num_slots, device=device)

    @property
    def num_steps(self) -> int:
        """Columns there is room for."""
        return self.token_ids.shape[1]

    def write(
        self,
        steps: Int[Tensor, " slots"],
        choice: Choice,
        attention_weights: Float[Tensor, "rows src_len"],
    ) -> None:
        """One column for every slot, each at its own step; attention by the parent's place."""
        # An idle slot counts on behind the end: it writes over its own dead columns.
        where = (self._slots, steps.clamp(max=self.num_steps - 1))
        self.token_ids[where] = choice.token_ids
        self.parents[where] = choice.parents
        self.token_log_probs[where] = choice.token_log_probs
        if self.attention is not None:
            self.attention[where] = attention_weights.view(*choice.parents.shape, -1).float()

    def take(self, other: "History", old_slots: list[int]) -> None:
        """Copies these slots of another history (of equal beam size) to the front of this one."""
        num, steps = len(old_slots), min(self.num_steps, other.num_steps)
        self.token_ids[:num, :steps] = other.token_ids[old_slots, :steps]
        self.parents[:num, :steps] = other.parents[old_slots, :steps]
        self.token_log_probs[:num, :steps] = other.token_log_probs[old_slots, :steps]
        if self.attention is not None and other.attention is not None:
            width = min(self.attention.shape[-1], other.attention.shape[-1])
            self.attention[:num, :steps, :, :width] = other.attention[old_slots, :steps, :, :width]

    def hypotheses(
        self, slot: int, state: SearchState, config: SearchConfig, src_len: int | None
    ) -> tuple[Hypothesis, ...]:
        """The `n_best` of one settled slot, finished ones first, each group best first.

        Fewer only where fewer exist. `src_len`: give attention over that many source places.
        """
        reader = _Reader(self, slot, int(state.lengths[slot]), config.length_penalty, src_len)
        best = slice(config.n_best)
        ended = zip(
            state.ended_log_probs[slot, best].tolist(),
            state.ended_final_log_probs[slot, best].tolist(),
            state.ended_lengths[slot, best].tolist(),
            state.ended_parents[slot, best].tolist(),
            strict=True,
        )
        live = enumerate(state.log_probs[slot, best].tolist())
        found = [reader.finished(*hypothesis) for hypothesis in ended if hypothesis[0] > -math.inf]
        if len(found) < config.n_best:
            found += [
                reader.cut(place, log_prob) for place, log_prob in live if log_prob > -math.inf
            ]
        if not found:
            raise CheckpointError(
                "the network's outputs are not numbers; the checkpoint's weights are damaged"
            )
        found.sort(key=lambda hypothesis: (not hypothesis.finished, -hypothesis.score))
        return tuple(found[: config.n_best])


class _Reader:
    """Follows the back-pointers of one slot."""

    def __init__(
        self, history: History, slot: int, num_steps: int, alpha: float, src_len: int | None
    ) -> None:
        self.num_steps = num_steps
        self.alpha = alpha
        self.token_ids = history.token_ids[slot, :num_steps].tolist()
        self.parents = history.parents[slot, :num_steps].tolist()
        self.token_log_probs = history.token_log_probs[slot, :num_steps].tolist()
        self.attention = None
        if src_len is not None:
            assert history.attention is not None
            self.attention = history.attention[slot, :num_steps, :, :src_len].tolist()

    def finished(
        self, log_prob: float, final_log_prob: float, length: int, parent: int
    ) -> Hypothesis:
        """The hypothesis that EOS ended as its `length`-th piece, behind `parent`."""
        rows = self._rows(length - 1, parent)
        return self._hypothesis(rows, log_prob, end=(length - 1, parent, final_log_prob))

    def cut(self, place: int, log_prob: float) -> Hypothesis:
        """The live hypothesis at this place, as long as it is."""
        return self._hypothesis(self._rows(self.num_steps, place), log_prob, end=None)

    def _rows(self, length: int, place: int) -> list[tuple[int, int, int]]:
        """(step, place, parent's place) of a hypothesis of `length` pieces, first step first."""
        rows = []
        for step in range(length - 1, -1, -1):
            parent = self.parents[step][place]
            rows.append((step, place, parent))
            place = parent
        return rows[::-1]

    def _hypothesis(
        self,
        rows: list[tuple[int, int, int]],
        log_prob: float,
        *,
        end: tuple[int, int, float] | None,
    ) -> Hypothesis:
        token_log_probs = [self.token_log_probs[step][place] for step, place, _ in rows]
        looked = [(step, parent) for step, _, parent in rows]  # attention stands at the parent
        if end is not None:
            step, parent, final_log_prob = end
            token_log_probs.append(final_log_prob)
            looked.append((step, parent))
        return Hypothesis(
            token_ids=tuple(self.token_ids[step][place] for step, place, _ in rows),
            log_prob=log_prob,
            score=log_prob / length_penalty(len(token_log_probs), self.alpha),
            token_log_probs=tuple(token_log_probs),
            attention=None
            if self.attention is None
            else tuple(tuple(self.attention[step][parent]) for step, parent in looked),
            finished=end is not None,
        )
