"""The one piece that turns source ids into hypotheses: files and live requests go through it alike.

A source is encoded, takes a slot, and every step advances all busy slots by one piece. A finished
sentence leaves at once and the next one joins at the next step: no waiting for a batch to fill or
to drain. Requests of equal beam size lie side by side in one lane, a dense block of
(sentences x beam) rows, so that a greedy request costs a greedy request; all other settings are
data of the slot.

The same sentence gives the same result alone and in any company, in fp32 to the last bit. What
that rests on was measured with torch 2.13 (MKL, oneDNN) on an AMD EPYC with AVX-512, all cells and
attentions, 1 to 16 threads:

- A row of a matrix product does not depend on the other rows or on where it stands, as long as the
  product has at least 4 rows (1, 2 and 3 take other kernels). With several threads the rows are
  shared out and a thread's part can become that small: 5, 6, 7, 9, 10 and 11 rows differ with 2
  and 8 threads, 17 and 25 too with 16; multiples of 4 never did. `padded_sentences` therefore
  gives at least 4 rows to one thread, and a multiple of 8 to several.
- The fused LSTM, GRU and tanh layers of the encoder follow the same rule in the number of
  sentences, and do not depend on the padded length.
- The sums of attention over source places change with the padded length unless it is a multiple of
  16. Padding has weight 0 exactly. (Batched products of fewer than 400 multiplications take
  another kernel: attention heads narrower than 32 numbers can differ in the last bit.)
- The beam size chooses kernels as well (one query per source or several), which is why a lane has
  one beam size.

Not thread-safe: one thread owns an engine.
"""

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from model.batch import SourceBatch
from model.beam_search import Hypothesis, SearchConfig, SearchState, advance
from model.decoder import DecoderState
from model.errors import InputError
from model.history import History
from model.output_layer import Narrowing
from model.packed import PackedStep
from model.shortlist import Shortlist
from model.tokenizer import BOS, EOS, PAD

SOURCE_BUCKET = 16  # source places; see above
_SHORTLIST_BUCKET = 64  # pieces; a lane's tensors keep their shape while requests come and go
# Read together, padding included; bounds how long a newcomer's encoding holds up the others.
_ENCODED_SENTENCES = 32
_ENCODED_PLACES = 1024
# While others are under way, newcomers are read together: a source alone costs nearly as much as
# four. They wait for company no longer than so many steps.
_ENCODED_WORTHWHILE = 4
_LONGEST_HOLD = 3
_FIRST_STEPS = 32  # room for pieces in a new lane; doubles when needed


@runtime_checkable
class StepwiseNetwork(Protocol):
    """What an engine needs of model.packed.PackedNetwork."""

    @property
    def device(self) -> torch.device: ...

    def encode(self, source: SourceBatch) -> DecoderState: ...

    def step(
        self, previous_ids: Tensor, state: DecoderState, narrowing: Narrowing | None = None
    ) -> PackedStep: ...

    def narrowing(self, piece_ids: Tensor) -> Narrowing: ...


@dataclass(frozen=True)
class Request:
    """One segment to translate."""

    request_id: int  # chosen by the caller; unique among those under way
    source_ids: Sequence[int]  # neither BOS nor EOS
    search: SearchConfig
    attention: bool = False  # return where the decoder looked
    prefix_ids: Sequence[int] = ()  # what the target has to begin with

    @property
    def src_len(self) -> int:
        """Source places, EOS included."""
        return len(self.source_ids) + 1


@dataclass(frozen=True)
class Finished:
    """A request's result: its n_best hypotheses (at least one), best first."""

    request_id: int
    hypotheses: tuple[Hypothesis, ...]


class Engine:
    """Continuous batching over a fixed number of slots, one sentence each."""

    def __init__(
        self,
        network: StepwiseNetwork,
        *,
        shortlist: Shortlist | None = None,
        max_slots: int = 64,
        max_source_tokens: int = 512,
    ) -> None:
        """Without a shortlist every target piece is looked at."""
        assert max_slots >= 1
        self.max_slots = max_slots
        self.max_source_tokens = max_source_tokens
        self._network = network
        self._shortlist = shortlist
        self._num_steps = 0
        self._waiting_since = 0  # the step at which the first of those waiting came
        self._waiting: dict[int, Request] = {}  # plain ids, no tensors
        self._line: list[tuple[int, int]] = []  # a heap: when it is due, request id
        self._encoded: deque[_Encoded] = deque()  # next in line
        self._lanes: dict[int, _Lane] = {}  # by beam size

    @property
    def num_waiting(self) -> int:
        """Requests that have no slot yet."""
        return len(self._waiting) + len(self._encoded)

    @property
    def num_busy(self) -> int:
        """Slots taken."""
        return sum(lane.num_busy for lane in self._lanes.values())

    @property
    def idle(self) -> bool:
        """Nothing under way."""
        return not self._lanes and self.num_waiting == 0

    def admit(self, request: Request) -> None:
        """Queues a request; InputError when its source is empty or above the limit."""
        check_length(request, self.max_source_tokens)
        assert request.request_id not in self._waiting
        if not self._waiting:
            self._waiting_since = self._num_steps
        self._waiting[request.request_id] = request
        # In the order of arrival, but a short sentence may pass a long one that came no more than
        # their difference in length before it, in steps: nobody is passed for ever.
        heapq.heappush(self._line, (self._num_steps + request.src_len, request.request_id))

    def cancel(self, request_id: int) -> None:
        """Frees what the request holds; one that is unknown or finished is no error."""
        if self._waiting.pop(request_id, None) is None:
            self._encoded = deque(e for e in self._encoded if e.request.request_id != request_id)
            for lane in self._lanes.values():
                lane.cancel(request_id)

    def wake(self) -> None:
        """Nothing to do: `step` never waits."""

    def close(self) -> None:
        """Nothing to do: there is no thread."""

    @torch.inference_mode()
    def step(self, timeout_s: float | None = None) -> list[Finished]:
        """Gives free slots to those next in line, then advances every busy slot by one piece.

        Never waits, whatever the timeout: that is for a team of engines.
        """
        self._num_steps += 1
        newcomers = self._newcomers()
        for beam_size in newcomers:
            self._lanes.setdefault(beam_size, _Lane(self._network, beam_size))
        finished: list[Finished] = []
        for beam_size, lane in list(self._lanes.items()):
            lane.arrange(newcomers.get(beam_size, []))
            if lane.num_busy:
                finished += lane.step()
            if not lane.num_busy:
                del self._lanes[beam_size]
        return finished

    def _newcomers(self) -> dict[int, list["_Encoded"]]:
        """Encoded requests for the free slots, by beam size."""
        newcomers: dict[int, list[_Encoded]] = {}
        for _ in range(self.max_slots - self.num_busy):
            if not self._encoded and self._waiting and not self._holds_back():
                self._encode_next()
            if not self._encoded:
                break
            encoded = self._encoded.popleft()
            newcomers.setdefault(encoded.request.search.beam_size, []).append(encoded)
        return newcomers

    def _holds_back(self) -> bool:
        """Whether those waiting are too few, and came too lately, to be encoded now."""
        return (
            len(self._waiting) < _ENCODED_WORTHWHILE
            and bool(self._lanes)
            and self._num_steps - self._waiting_since < _LONGEST_HOLD
        )

    def _encode_next(self) -> None:
        """Encodes those next in line, more than have a slot: a few alone would cost as much."""
        requests: list[Request] = []
        longest = 0
        while self._line and len(requests) < _ENCODED_SENTENCES:
            request = self._waiting.get(self._line[0][1])
            if request is not None:  # None: cancelled
                longest = max(longest, request.src_len)
                if requests and longest * (len(requests) + 1) > _ENCODED_PLACES:
                    break
                requests.append(self._waiting.pop(request.request_id))
            heapq.heappop(self._line)
        if not requests:
            return
        self._waiting_since = self._num_steps
        state = encode(self._network, [request.source_ids for request in requests])
        for row, request in enumerate(requests):
            pieces = None
            if self._shortlist is not None:
                pieces = self._shortlist.choose(request.source_ids, request.prefix_ids)
            self._encoded.append(_Encoded(request, state, row, pieces))


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


def padded_sentences(count: int, beam_size: int) -> int:
    """The fewest sentences, `count` or more, whose rows meet the kernels that all others meet."""
    smallest = 8 if torch.get_num_threads() > 1 else 4
    for num in (1, 2, 4):
        rows = num * beam_size
        if num >= count and rows >= smallest and (smallest == 4 or rows % 8 == 0):
            return num
    return -(-count // 8) * 8


def padded_batch(sources: Sequence[Sequence[int]], device: torch.device) -> SourceBatch:
    """Sources (EOS is appended) in padded company; the first rows are the sources' own."""
    missing = padded_sentences(len(sources), 1) - len(sources)
    return SourceBatch.from_ids(
        [[*source, EOS] for source in sources] + [[EOS]] * missing,
        device=device,
        pad_to_multiple=SOURCE_BUCKET,
    )


def encode(network: StepwiseNetwork, sources: Sequence[Sequence[int]]) -> DecoderState:
    """The states from which these sources are decoded; the first rows are the sources' own."""
    return network.encode(padded_batch(sources, network.device))


@dataclass(frozen=True)
class _Encoded:
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


class _Lane:
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

    def arrange(self, newcomers: list[_Encoded]) -> None:
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

    def _resize(self, busy: list[int], size: int, src_len: int, newcomers: list[_Encoded]) -> None:
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
        self._state = _with_source_length(state.select_sentences(index).select(rows), src_len)
        self._slots = [self._slots[slot] for slot in busy] + [None] * (size - len(busy))
        self._first_rows = torch.arange(size, device=self._device)[:, None] * self._beam

    def _place(self, newcomers: list[_Encoded]) -> None:
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


def _with_source_length(state: DecoderState, src_len: int) -> DecoderState:
    """The state with sources cut or padded to `src_len` places, which hold all real tokens."""
    missing = src_len - state.source.mask.shape[1]  # negative: pad cuts
    source = replace(
        state.source,
        keys=functional.pad(state.source.keys, (0, 0, 0, missing)),
        values=functional.pad(state.source.values, (0, 0, 0, missing)),
        mask=functional.pad(state.source.mask, (0, missing)),
    )
    return replace(state, source=source)
