"""Back-pointers and pieces of a batch's hypotheses, kept as tensors, and how to read them.

A step writes one column; nothing is copied when beams are reordered. The pieces of a hypothesis are
read once, along its back-pointers, when its sentence has finished.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from model.decoding.beam_search import Choice, SearchState
from model.decoding.search_config import Hypothesis, SearchConfig, length_penalty
from model.errors import CheckpointError


class History:
    """Tensors of [step, slot, place in the beam]; a step overwrites the column of an old step."""

    def __init__(
        self,
        num_steps: int,
        num_slots: int,
        beam_size: int,
        device: torch.device,
        src_len: int | None,
    ) -> None:
        """num_steps: columns to keep; src_len: width of the attention rows to keep, None: none."""
        shape = (num_steps, num_slots, beam_size)
        self.token_ids = torch.zeros(shape, dtype=torch.long, device=device)
        self.parents = torch.zeros(shape, dtype=torch.long, device=device)
        self.token_log_probs = torch.zeros(shape, device=device)
        self.attention = None if src_len is None else torch.zeros((*shape, src_len), device=device)

    @property
    def num_steps(self) -> int:
        """Number of steps that are kept."""
        return self.token_ids.shape[0]

    def write(
        self, step: int, choice: Choice, attention_weights: Float[Tensor, "rows src_len"]
    ) -> None:
        """Writes the column of one step, for every slot; attention by the parent's place."""
        column = step % self.num_steps
        self.token_ids[column] = choice.token_ids
        self.parents[column] = choice.parents
        self.token_log_probs[column] = choice.token_log_probs
        if self.attention is not None:
            self.attention[column] = attention_weights.view(*choice.parents.shape, -1)

    def take(self, other: "History", old_slots: list[int], steps: range) -> None:
        """Copies these slots of another history of equal beam size to the front of this one."""
        num = len(old_slots)
        old = torch.tensor([step % other.num_steps for step in steps], dtype=torch.long)[:, None]
        new = torch.tensor([step % self.num_steps for step in steps], dtype=torch.long)[:, None]
        self.token_ids[new, torch.arange(num)] = other.token_ids[old, old_slots]
        self.parents[new, torch.arange(num)] = other.parents[old, old_slots]
        self.token_log_probs[new, torch.arange(num)] = other.token_log_probs[old, old_slots]
        if self.attention is not None and other.attention is not None:
            width = min(self.attention.shape[-1], other.attention.shape[-1])
            kept = other.attention[old, old_slots][..., :width]
            self.attention[new, torch.arange(num), :, :width] = kept

    def hypotheses(
        self,
        slot: int,
        steps: range,
        state: SearchState,
        config: SearchConfig,
        src_len: int | None,
    ) -> tuple[Hypothesis, ...]:
        """Returns the n_best hypotheses of one slot, finished ones first, each group best first.

        Fewer only where fewer exist. steps: the batch's steps since the request got its slot;
        src_len: source places of the returned attention, None: without attention.
        """
        reader = _Reader(self, slot, steps, config.length_penalty, src_len)
        best = slice(config.n_best)
        ended = zip(
            state.ended_log_probs[slot, best].tolist(),
            state.ended_final_log_probs[slot, best].tolist(),
            state.ended_lengths[slot, best].tolist(),
            state.ended_parents[slot, best].tolist(),
            strict=True,
        )
        live = enumerate(state.log_probs[slot, best].tolist())
        hypotheses = [
            reader.finished(*hypothesis) for hypothesis in ended if hypothesis[0] > -math.inf
        ]
        if len(hypotheses) < config.n_best:
            hypotheses += [
                reader.cut(place, log_prob) for place, log_prob in live if log_prob > -math.inf
            ]
        if not hypotheses:
            raise CheckpointError(
                "the network returned NaN: the checkpoint's weights are damaged; export it again"
            )
        hypotheses.sort(key=lambda hypothesis: (not hypothesis.finished, -hypothesis.score))
        return tuple(hypotheses[: config.n_best])


class _Reader:
    """Follows the back-pointers of one slot."""

    def __init__(
        self, history: History, slot: int, steps: range, alpha: float, src_len: int | None
    ) -> None:
        self.num_steps = len(steps)
        self.alpha = alpha
        columns = [step % history.num_steps for step in steps]
        self.token_ids = history.token_ids[columns, slot].tolist()
        self.parents = history.parents[columns, slot].tolist()
        self.token_log_probs = history.token_log_probs[columns, slot].tolist()
        self.attention = None
        if src_len is not None:
            assert history.attention is not None
            self.attention = history.attention[columns, slot, :, :src_len].tolist()

    def finished(
        self, log_prob: float, final_log_prob: float, length: int, parent: int
    ) -> Hypothesis:
        """Returns the hypothesis of `length` pieces whose last one, EOS, followed `parent`."""
        rows = self._rows(length - 1, parent)
        return self._hypothesis(rows, log_prob, end=(length - 1, parent, final_log_prob))

    def cut(self, place: int, log_prob: float) -> Hypothesis:
        """Returns the unfinished hypothesis at this place."""
        return self._hypothesis(self._rows(self.num_steps, place), log_prob, end=None)

    def _rows(self, length: int, place: int) -> list[tuple[int, int, int]]:
        """Returns (step, place, parent's place) of each piece of a hypothesis, in order."""
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
        attention_places = [
            (step, parent) for step, _, parent in rows
        ]  # attention is stored at the parent's place
        if end is not None:
            step, parent, final_log_prob = end
            token_log_probs.append(final_log_prob)
            attention_places.append((step, parent))
        return Hypothesis(
            token_ids=tuple(self.token_ids[step][place] for step, place, _ in rows),
            log_prob=log_prob,
            score=log_prob / length_penalty(len(token_log_probs), self.alpha),
            token_log_probs=tuple(token_log_probs),
            attention=None
            if self.attention is None
            else tuple(tuple(self.attention[step][parent]) for step, parent in attention_places),
            finished=end is not None,
        )
