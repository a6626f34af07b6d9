"""The requests of one beam size that are under way: slots whose rows advance together."""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from model.decoding.beam_search import SearchState, advance
from model.decoding.history import History
from model.decoding.padding import SOURCE_BUCKET, padded_sentences
from model.decoding.request import Finished, Request
from model.inference.output_layer import Narrowing
from model.inference.packed_network import PackedStep
from model.network.batch import SourceBatch
from model.network.decoder import DecoderState
from model.text.tokenizer import BOS, EOS, PAD

_SHORTLIST_BUCKET = 64  # pieces; a lane's tensors keep their shape while requests come and go
_FIRST_STEPS = 32  # room for pieces in a new lane; doubles when needed


@runtime_checkable
class StepwiseNetwork(Protocol):
    """What an engine needs of model.inference.packed_network.PackedNetwork."""

    @property
    def device(self) -> torch.device: ...

    def encode(self, source: SourceBatch) -> DecoderState: ...

    def step(
        self, previous_ids: Tensor, state: DecoderState, narrowing: Narrowing | None = None
    ) -> PackedStep: ...

    def narrowing(self, piece_ids: Tensor) -> Narrowing: ...


@dataclass(frozen=True)
class Encoded:
    """A request whose source is read; `state` is shared with those encoded together."""

    request: Request
    state: DecoderState
    row: int
    pieces: NDArray[np.int64] | None  # its shortlist


@dataclass(frozen=True)
class _Slot:
    """A request under way."""

    request: Request
    joined_at: int  # the lane's clock


class Lane:
    """All requests of one beam size: slots whose rows advance together.

    Slots stay where they are while others come and go; an idle slot computes on without meaning
    until a newcomer overwrites it or the lane is resized.
    """

    def __init__(self, network: StepwiseNetwork, beam_size: int) -> None:
        self._network = network
        self._beam = beam_size
        self._device = network.device
        self._clock = 0  # steps taken
        self._slots: list[_Slot | None] = []
        self._state: DecoderState
        self._search: SearchState
        self._previous_ids: Int[Tensor, "batch beam"]
        self._history: History
        self._first_rows: Int[Tensor, "batch 1"]  # of each sentence
        self._piece_ids: Int[Tensor, "batch columns"] | None = None  # shortlists
        self._narrowing: Narrowing | None = None

    @property
    def num_busy(self) -> int:
        return sum(slot is not None for slot in self._slots)

    def cancel(self, request_id: int) -> None:
        for index, slot in enumerate(self._slots):
            if slot is not None and slot.request.request_id == request_id:
                self._slots[index] = None

    def arrange(self, newcomers: list[Encoded]) -> None:
        """Makes the lane as large as needed now and places the newcomers."""
        busy = [index for index, slot in enumerate(self._slots) if slot is not None]
        if not busy and not newcomers:
            return
        slots = [slot for slot in self._slots if slot is not None]
        requests = [slot.request for slot in slots] + [each.request for each in newcomers]
        # Larger than needed does no harm, while every change copies the lane: it grows at once but
        # shrinks only when a good part of it lies idle.
        size = padded_sentences(len(requests), self._beam)
        if 3 * len(self._slots) < 4 * size < 4 * len(self._slots):
            size = len(self._slots)
        longest = max(request.src_len for request in requests)
        src_len = -(-longest // SOURCE_BUCKET) * SOURCE_BUCKET
        if busy and src_len < self._state.source.mask.shape[1] < 2 * src_len:
            src_len = self._state.source.mask.shape[1]
        oldest = max((self._clock - slot.joined_at for slot in slots), default=0)
        attention = any(request.attention for request in requests)
        shortlists = [each.pieces for each in newcomers if each.pieces is not None]
        columns = max(map(len, shortlists), default=0)
        if (
            size != len(self._slots)
            or src_len != self._state.source.mask.shape[1]
            or oldest >= self._history.num_steps
            or attention != (self._history.attention is not None)
            or columns > self._num_columns
        ):
            num_steps = _FIRST_STEPS
            while num_steps <= oldest:
                num_steps *= 2
            history = History(
                num_steps, size, self._beam, self._device, src_len if attention else None
            )
            if busy:
                history.take(self._history, busy, range(self._clock - oldest, self._clock))
            self._history = history
            self._resize(busy, size, src_len, newcomers)
            self._widen(busy, size, max(columns, self._num_columns))
        if newcomers:
            self._place(newcomers)

    def step(self) -> list[Finished]:
        """One piece for every slot; the requests that finished have left."""
        if self._piece_ids is not None and self._narrowing is None:
            self._narrowing = self._network.narrowing(self._piece_ids)
        output = self._network.step(self._previous_ids.flatten(), self._state, self._narrowing)
        self._search, choice = advance(
            output.logits, self._search, self._piece_ids, self._forced_ids()
        )
        self._history.write(self._clock, choice, output.attention_weights)
        self._state = output.state.select((self._first_rows + choice.parents).flatten())
        self._previous_ids = choice.token_ids
        self._clock += 1
        settled = self._search.settled().tolist()
        return [
            self._leave(index) for index, slot in enumerate(self._slots) if slot and settled[index]
        ]

    def _forced_ids(self) -> Int[Tensor, " batch"] | None:
        """The next piece of every prefix that is not yet written, else PAD; None without any."""
        forced = {}
        for index, slot in enumerate(self._slots):
            if slot is not None and (step := self._clock - slot.joined_at) < len(
                slot.request.prefix_ids
            ):
                forced[index] = slot.request.prefix_ids[step]
        if not forced:
            return None
        ids = [forced.get(index, PAD) for index in range(len(self._slots))]
        return torch.tensor(ids, device=self._device)

    def _leave(self, index: int) -> Finished:
        slot = self._slots[index]
        assert slot is not None
        self._slots[index] = None
        request = slot.request
        hypotheses = self._history.hypotheses(
            index,
            range(slot.joined_at, self._clock),
            self._search,
            request.search,
            request.src_len if request.attention else None,
        )
        return Finished(request.request_id, hypotheses)

    @property
    def _num_columns(self) -> int:
        return 0 if self._piece_ids is None else self._piece_ids.shape[1]

    def _widen(self, busy: list[int], size: int, columns: int) -> None:
        """Moves the busy slots' shortlists to the front of a table of at least so many columns."""
        if columns == 0:
            return
        width = -(-columns // _SHORTLIST_BUCKET) * _SHORTLIST_BUCKET
        piece_ids = torch.full((size, width), PAD, device=self._device)
        piece_ids[:, 0] = EOS
        if self._piece_ids is not None:
            kept = min(width, self._num_columns)
            piece_ids[: len(busy), :kept] = self._piece_ids[busy, :kept]
        self._piece_ids = piece_ids
        self._narrowing = None

    def _resize(self, busy: list[int], size: int, src_len: int, newcomers: list[Encoded]) -> None:
        """Moves the busy slots to the front of new tensors; idle ones repeat any sentence."""
        if busy:
            kept = busy + busy[:1] * (size - len(busy))
            index = torch.tensor(kept, device=self._device)
            rows = index[:, None] * self._beam + torch.arange(self._beam, device=self._device)
            state, rows = self._state, rows.flatten()
            self._search = self._search.map(lambda tensor: tensor[index])
            self._previous_ids = self._previous_ids[index]
        else:
            index = torch.full((size,), newcomers[0].row, device=self._device)
            state, rows = newcomers[0].state, index.repeat_interleave(self._beam)
            self._search = SearchState.start(
                [newcomers[0].request.search] * size,
                [newcomers[0].request.src_len] * size,
                self._device,
            )
            self._previous_ids = torch.full((size, self._beam), BOS, device=self._device)
        state = state.select_sentences(index).select(rows)
        self._state = replace(state, source=state.source.resized(src_len))
        self._slots = [self._slots[slot] for slot in busy] + [None] * (size - len(busy))
        self._first_rows = torch.arange(size, device=self._device)[:, None] * self._beam

    def _place(self, newcomers: list[Encoded]) -> None:
        """Writes the newcomers into free slots, in place."""
        free = [index for index, slot in enumerate(self._slots) if slot is None]
        taken = free[: len(newcomers)]
        for index, newcomer in zip(taken, newcomers, strict=True):
            self._slots[index] = _Slot(newcomer.request, self._clock)
            if self._piece_ids is not None and newcomer.pieces is not None:
                pieces = torch.from_numpy(newcomer.pieces)
                self._piece_ids[index, : len(pieces)] = pieces
                self._piece_ids[index, len(pieces) :] = PAD
        self._narrowing = None
        where = torch.tensor(taken, device=self._device)
        search = SearchState.start(
            [newcomer.request.search for newcomer in newcomers],
            [newcomer.request.src_len for newcomer in newcomers],
            self._device,
            [len(newcomer.request.prefix_ids) for newcomer in newcomers],
        )
        self._search.write(where, search)
        self._previous_ids[where] = BOS
        # Those encoded together are copied together.
        states = {id(newcomer.state): newcomer.state for newcomer in newcomers}
        for key, state in states.items():
            pairs = [
                (slot, newcomer.row)
                for slot, newcomer in zip(taken, newcomers, strict=True)
                if id(newcomer.state) == key
            ]
            slots, rows = torch.tensor(pairs, device=self._device).unbind(dim=1)
            _write_state(self._state, slots, state, rows, self._beam)


def _write_state(
    state: DecoderState, slots: Tensor, newcomers: DecoderState, rows: Tensor, beam: int
) -> None:
    """Copies the newcomers' rows into slots, in place, the recurrent ones to every beam."""
    pairs = [*zip(state.hidden, newcomers.hidden, strict=True)]
    pairs += zip(state.cell, newcomers.cell, strict=True)
    if state.context is not None and newcomers.context is not None:
        pairs.append((state.context, newcomers.context))
    for old, new in pairs:
        old.view(-1, beam, old.shape[-1])[slots] = new[rows].unsqueeze(1)
    width = min(state.source.mask.shape[1], newcomers.source.mask.shape[1])
    for name in ("keys", "values", "mask"):
        old, new = getattr(state.source, name), getattr(newcomers.source, name)
        old[slots, :width] = new[rows, :width]
        old[slots, width:] = 0
    state.source.summary[slots] = newcomers.source.summary[rows]
