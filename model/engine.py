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

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional

from model.batch import SourceBatch
from model.beam_search import Hypothesis, SearchConfig, SearchState, advance
from model.decoder import DecoderState
from model.errors import InputError
from model.history import History
from model.seq2seq import Seq2Seq
from model.tokenizer import BOS, EOS

SOURCE_BUCKET = 16  # source places; see above
_ENCODED_TOGETHER = 32  # sentences; bounds how long a newcomer's encoding holds up the others
_FIRST_STEPS = 32  # room for pieces in a new lane; doubles when needed


@dataclass(frozen=True)
class Request:
    """One segment to translate."""

    request_id: int  # chosen by the caller; unique among those under way
    source_ids: Sequence[int]  # neither BOS nor EOS
    search: SearchConfig
    attention: bool = False  # return where the decoder looked


@dataclass(frozen=True)
class Finished:
    """A request's result: its n_best hypotheses (at least one), best first."""

    request_id: int
    hypotheses: tuple[Hypothesis, ...]


class Engine:
    """Continuous batching over a fixed number of slots, one sentence each."""

    def __init__(
        self, network: Seq2Seq, *, max_slots: int = 64, max_source_tokens: int = 512
    ) -> None:
        assert max_slots >= 1
        self.max_slots = max_slots
        self.max_source_tokens = max_source_tokens
        self._network = network
        self._waiting: dict[int, Request] = {}  # in order of arrival; plain ids, no tensors
        self._encoded: deque[_Encoded] = deque()  # next in line; at most _ENCODED_TOGETHER
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
        num_tokens = len(request.source_ids)
        if num_tokens == 0:
            raise InputError("source has no tokens; leave blank texts out")
        if num_tokens > self.max_source_tokens:
            raise InputError(
                f"source has {num_tokens} tokens, the limit is {self.max_source_tokens}; "
                f"split the text or raise max_source_tokens"
            )
        assert request.request_id not in self._waiting
        self._waiting[request.request_id] = request

    def cancel(self, request_id: int) -> None:
        """Frees what the request holds; one that is unknown or finished is no error."""
        if self._waiting.pop(request_id, None) is None:
            self._encoded = deque(e for e in self._encoded if e.request.request_id != request_id)
            for lane in self._lanes.values():
                lane.cancel(request_id)

    @torch.inference_mode()
    def step(self) -> list[Finished]:
        """Gives free slots to those waiting longest, then advances every busy slot by one piece."""
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
            if not self._encoded and self._waiting:
                self._encode_next()
            if not self._encoded:
                break
            encoded = self._encoded.popleft()
            newcomers.setdefault(encoded.request.search.beam_size, []).append(encoded)
        return newcomers

    def _encode_next(self) -> None:
        """Encodes those waiting longest, more than have a slot: a few alone would cost as much."""
        chosen = list(islice(self._waiting, _ENCODED_TOGETHER))
        requests = [self._waiting.pop(request_id) for request_id in chosen]
        state = encode(self._network, [request.source_ids for request in requests])
        self._encoded.extend(_Encoded(request, state, row) for row, request in enumerate(requests))


def padded_sentences(count: int, beam_size: int) -> int:
    """The fewest sentences, `count` or more, whose rows meet the kernels that all others meet."""
    smallest = 8 if torch.get_num_threads() > 1 else 4
    for num in (1, 2, 4):
        rows = num * beam_size
        if num >= count and rows >= smallest and (smallest == 4 or rows % 8 == 0):
            return num
    return -(-count // 8) * 8


def encode(network: Seq2Seq, sources: Sequence[Sequence[int]]) -> DecoderState:
    """Encodes sources (EOS is appended) in padded company; the first rows are the sources' own."""
    missing = padded_sentences(len(sources), 1) - len(sources)
    return network.encode(
        SourceBatch.from_ids(
            [[*source, EOS] for source in sources] + [[EOS]] * missing,
            device=next(network.parameters()).device,
            pad_to_multiple=SOURCE_BUCKET,
        )
    )


@dataclass(frozen=True)
class _Encoded:
    """A request whose source is read; `state` is shared with those encoded together."""

    request: Request
    state: DecoderState
    row: int

    @property
    def src_len(self) -> int:
        return len(self.request.source_ids) + 1


@dataclass(frozen=True)
class _Slot:
    """A request under way."""

    request: Request
    src_len: int
    joined_at: int  # the lane's clock


class _Lane:
    """All requests of one beam size: slots whose rows advance together.

    Slots stay where they are while others come and go; an idle slot computes on without meaning
    until a newcomer overwrites it or the lane is resized.
    """

    def __init__(self, network: Seq2Seq, beam_size: int) -> None:
        self._network = network
        self._beam = beam_size
        self._device = next(network.parameters()).device
        self._clock = 0
        self._slots: list[_Slot | None] = []
        self._state: DecoderState
        self._search: SearchState
        self._previous_ids: Int[Tensor, "batch beam"]
        self._history: History
        self._first_rows: Int[Tensor, "batch 1"]  # of each sentence

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
        size = padded_sentences(len(busy) + len(newcomers), self._beam)
        slots = [slot for slot in self._slots if slot is not None]
        longest = max([s.src_len for s in slots] + [n.src_len for n in newcomers])
        src_len = -(-longest // SOURCE_BUCKET) * SOURCE_BUCKET
        oldest = max((self._clock - slot.joined_at for slot in slots), default=0)
        attention = any(slot.request.attention for slot in slots) or any(
            newcomer.request.attention for newcomer in newcomers
        )
        if (
            size != len(self._slots)
            or src_len != self._state.source.mask.shape[1]
            or oldest >= self._history.num_steps
            or attention != (self._history.attention is not None)
        ):
            num_steps = _FIRST_STEPS
            while num_steps <= oldest:
                num_steps *= 2
            history = History(
                size, num_steps, self._beam, self._device, src_len if attention else None
            )
            self._resize(busy, size, src_len, history, newcomers)
        if newcomers:
            self._place(newcomers)

    def step(self) -> list[Finished]:
        """One piece for every slot; the requests that finished have left."""
        output = self._network.step(self._previous_ids.flatten(), self._state)
        steps = self._search.lengths
        self._search, choice = advance(output.logits, self._search)
        self._history.write(steps, choice, output.attention_weights)
        self._state = output.state.select((self._first_rows + choice.parents).flatten())
        self._previous_ids = choice.token_ids
        self._clock += 1
        settled = self._search.settled().tolist()
        return [
            self._leave(index) for index, slot in enumerate(self._slots) if slot and settled[index]
        ]

    def _leave(self, index: int) -> Finished:
        slot = self._slots[index]
        assert slot is not None
        self._slots[index] = None
        request = slot.request
        src_len = slot.src_len if request.attention else None
        hypotheses = self._history.hypotheses(index, self._search, request.search, src_len)
        return Finished(request.request_id, hypotheses)

    def _resize(
        self, busy: list[int], size: int, src_len: int, history: History, newcomers: list[_Encoded]
    ) -> None:
        """Moves the busy slots to the front of new tensors; idle ones repeat any sentence."""
        if busy:
            kept = busy + busy[:1] * (size - len(busy))
            index = torch.tensor(kept, device=self._device)
            rows = index[:, None] * self._beam + torch.arange(self._beam, device=self._device)
            state, rows = self._state, rows.flatten()
            self._search = self._search.map(lambda tensor: tensor[index])
            self._previous_ids = self._previous_ids[index]
            history.take(self._history, busy)
        else:
            index = torch.full((size,), newcomers[0].row, device=self._device)
            state, rows = newcomers[0].state, index.repeat_interleave(self._beam)
            self._search = SearchState.start(
                [newcomers[0].request.search] * size, [newcomers[0].src_len] * size, self._device
            )
            self._previous_ids = torch.full((size, self._beam), BOS, device=self._device)
        self._state = _with_source_length(state.select_sentences(index).select(rows), src_len)
        self._history = history
        self._slots = [self._slots[slot] for slot in busy] + [None] * (size - len(busy))
        self._first_rows = torch.arange(size, device=self._device)[:, None] * self._beam

    def _place(self, newcomers: list[_Encoded]) -> None:
        """Writes the newcomers into free slots, in place."""
        free = [index for index, slot in enumerate(self._slots) if slot is None]
        taken = free[: len(newcomers)]
        for index, newcomer in zip(taken, newcomers, strict=True):
            self._slots[index] = _Slot(newcomer.request, newcomer.src_len, self._clock)
        where = torch.tensor(taken, device=self._device)
        search = SearchState.start(
            [newcomer.request.search for newcomer in newcomers],
            [newcomer.src_len for newcomer in newcomers],
            self._device,
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
