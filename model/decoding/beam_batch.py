"""BeamBatch: all requests of one beam size that have a slot; their rows advance together."""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from model.decoding.beam_search import SearchState, advance
from model.decoding.history import History
from model.decoding.request import Finished, SegmentRequest
from model.inference.output_layer import Narrowing
from model.inference.packed_network import PackedStep
from model.inference.padding import SOURCE_BUCKET, padded_sentences
from model.network.batch import SourceBatch
from model.network.decoder import DecoderState
from model.text.tokenizer import BOS, EOS, PAD

_SHORTLIST_BUCKET = 64  # pieces; the tensors keep their shape while requests come and go
_FIRST_STEPS = 32  # steps that a new history holds; doubles when needed


@runtime_checkable
class StepwiseNetwork(Protocol):
    """The part of model.inference.packed_network.PackedNetwork that an engine uses."""

    @property
    def device(self) -> torch.device: ...

    def encode(self, source: SourceBatch) -> DecoderState: ...

    def step(
        self, previous_ids: Tensor, state: DecoderState, narrowing: Narrowing | None = None
    ) -> PackedStep: ...

    def narrowing(self, piece_ids: Tensor) -> Narrowing: ...


@dataclass(frozen=True)
class EncodedRequest:
    """A request whose source is encoded."""

    request: SegmentRequest
    state: DecoderState  # of all sources that were encoded together
    row: int  # of this source in `state`
    pieces: NDArray[np.int64] | None  # its shortlist


@dataclass(frozen=True)
class _Slot:
    """A request that has a slot."""

    request: SegmentRequest
    joined_at: int  # value of the batch's `_clock`


@dataclass(frozen=True)
class _Shape:
    """Sizes of a batch's tensors."""

    num_slots: int
    src_len: int
    history_steps: int
    attention: bool  # whether the history keeps attention weights
    columns: int  # shortlist pieces of one sentence; 0 without shortlists


class BeamBatch:
    """The slots of all requests of one beam size.

    A request keeps its slot until it is finished. Free slots keep computing unused values until a
    new request takes them or the batch is resized.
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
        """Number of slots taken."""
        return sum(slot is not None for slot in self._slots)

    def cancel(self, request_id: int) -> None:
        """Frees the slot of this request, if it has one."""
        for index, slot in enumerate(self._slots):
            if slot is not None and slot.request.request_id == request_id:
                self._slots[index] = None

    def resize_and_add(self, added: list[EncodedRequest]) -> None:
        """Makes the tensors as large as needed and gives slots to these requests."""
        busy = [index for index, slot in enumerate(self._slots) if slot is not None]
        if not busy and not added:
            return
        needed = self._needed_shape(added)
        current = self._shape if busy else None
        shape = needed if current is None else _without_small_changes(current, needed)
        if shape != current:
            self._resize(busy, shape, added)
        if added:
            self._insert(added)

    @property
    def _shape(self) -> _Shape:
        return _Shape(
            num_slots=len(self._slots),
            src_len=self._state.source.mask.shape[1],
            history_steps=self._history.num_steps,
            attention=self._history.attention is not None,
            columns=self._num_columns,
        )

    def _needed_shape(self, added: list[EncodedRequest]) -> _Shape:
        """Returns the smallest shape that holds the busy slots and these requests."""
        slots = [slot for slot in self._slots if slot is not None]
        requests = [slot.request for slot in slots] + [each.request for each in added]
        longest = max(request.src_len for request in requests)
        oldest = max((self._clock - slot.joined_at for slot in slots), default=0)
        history_steps = _FIRST_STEPS
        while history_steps <= oldest:
            history_steps *= 2
        shortlists = [each.pieces for each in added if each.pieces is not None]
        columns = max(map(len, shortlists), default=0)
        return _Shape(
            num_slots=padded_sentences(len(requests), self._beam),
            src_len=_rounded_up(longest, SOURCE_BUCKET),
            history_steps=history_steps,
            attention=any(request.attention for request in requests),
            columns=_rounded_up(columns, _SHORTLIST_BUCKET),
        )

    def step(self) -> list[Finished]:
        """Advances every slot by one piece; returns the finished requests and frees their slots."""
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
            self._finish(index) for index, slot in enumerate(self._slots) if slot and settled[index]
        ]

    def _forced_ids(self) -> Int[Tensor, " batch"] | None:
        """Returns the next piece of each sentence's unfinished prefix, or PAD; None without any."""
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

    def _finish(self, index: int) -> Finished:
        """Frees the slot and returns the result of its request."""
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

    def _resize(self, busy: list[int], shape: _Shape, added: list[EncodedRequest]) -> None:
        """Moves the busy slots to the front of new tensors; free slots repeat any sentence."""
        size = shape.num_slots
        history = History(
            shape.history_steps,
            size,
            self._beam,
            self._device,
            shape.src_len if shape.attention else None,
        )
        if busy:
            oldest = min(slot.joined_at for slot in self._slots if slot is not None)
            history.take(self._history, busy, range(oldest, self._clock))
        self._history = history
        self._grow_shortlist(busy, size, shape.columns)
        if busy:
            kept = busy + busy[:1] * (size - len(busy))
            index = torch.tensor(kept, device=self._device)
            rows = index[:, None] * self._beam + torch.arange(self._beam, device=self._device)
            state, rows = self._state, rows.flatten()
            self._search = self._search.map(lambda tensor: tensor[index])
            self._previous_ids = self._previous_ids[index]
        else:
            index = torch.full((size,), added[0].row, device=self._device)
            state, rows = added[0].state, index.repeat_interleave(self._beam)
            self._search = SearchState.start(
                [added[0].request.search] * size,
                [added[0].request.src_len] * size,
                self._device,
            )
            self._previous_ids = torch.full((size, self._beam), BOS, device=self._device)
        state = state.select_sentences(index).select(rows)
        self._state = replace(state, source=state.source.resized(shape.src_len))
        self._slots = [self._slots[slot] for slot in busy] + [None] * (size - len(busy))
        self._first_rows = torch.arange(size, device=self._device)[:, None] * self._beam

    def _grow_shortlist(self, busy: list[int], size: int, columns: int) -> None:
        """Moves the busy slots' shortlists to the front of a table of `columns` pieces."""
        if columns == 0:
            return
        piece_ids = torch.full((size, columns), PAD, device=self._device)
        piece_ids[:, 0] = EOS
        if self._piece_ids is not None:
            kept = min(columns, self._num_columns)
            piece_ids[: len(busy), :kept] = self._piece_ids[busy, :kept]
        self._piece_ids = piece_ids
        self._narrowing = None

    def _insert(self, added: list[EncodedRequest]) -> None:
        """Writes these requests into free slots, in place."""
        free = [index for index, slot in enumerate(self._slots) if slot is None]
        taken = free[: len(added)]
        for index, each in zip(taken, added, strict=True):
            self._slots[index] = _Slot(each.request, self._clock)
            if self._piece_ids is not None and each.pieces is not None:
                pieces = torch.from_numpy(each.pieces)
                self._piece_ids[index, : len(pieces)] = pieces
                self._piece_ids[index, len(pieces) :] = PAD
        self._narrowing = None
        where = torch.tensor(taken, device=self._device)
        search = SearchState.start(
            [each.request.search for each in added],
            [each.request.src_len for each in added],
            self._device,
            [len(each.request.prefix_ids) for each in added],
        )
        self._search.write(where, search)
        self._previous_ids[where] = BOS
        # Requests that were encoded together are copied together.
        states = {id(each.state): each.state for each in added}
        for key, state in states.items():
            pairs = [
                (slot, each.row)
                for slot, each in zip(taken, added, strict=True)
                if id(each.state) == key
            ]
            slots, rows = torch.tensor(pairs, device=self._device).unbind(dim=1)
            _write_state(self._state, slots, state, rows, self._beam)


def _without_small_changes(current: _Shape, needed: _Shape) -> _Shape:
    """Keeps larger current sizes where shrinking would gain little.

    Larger than needed does no harm, while every change copies the whole batch. So a batch grows at
    once, but loses slots only when a quarter of them is free, and source places only when half of
    them are.
    """
    return _Shape(
        num_slots=current.num_slots
        if 3 * current.num_slots < 4 * needed.num_slots < 4 * current.num_slots
        else needed.num_slots,
        src_len=current.src_len
        if needed.src_len < current.src_len < 2 * needed.src_len
        else needed.src_len,
        history_steps=max(current.history_steps, needed.history_steps),
        attention=needed.attention,
        columns=max(current.columns, needed.columns),
    )


def _rounded_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


def _write_state(
    state: DecoderState, slots: Tensor, added: DecoderState, rows: Tensor, beam: int
) -> None:
    """Copies rows of `added` into slots of `state`, in place; recurrent states to every beam."""
    pairs = [*zip(state.hidden, added.hidden, strict=True)]
    pairs += zip(state.cell, added.cell, strict=True)
    if state.context is not None and added.context is not None:
        pairs.append((state.context, added.context))
    for old, new in pairs:
        old.view(-1, beam, old.shape[-1])[slots] = new[rows].unsqueeze(1)
    width = min(state.source.mask.shape[1], added.source.mask.shape[1])
    for name in ("keys", "values", "mask"):
        old, new = getattr(state.source, name), getattr(added.source, name)
        old[slots, :width] = new[rows, :width]
        old[slots, width:] = 0
    state.source.summary[slots] = added.source.summary[rows]
