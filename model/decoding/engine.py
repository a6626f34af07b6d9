"""The one piece that turns source ids into hypotheses: files and live requests go through it alike.

A source is encoded, takes a slot, and every step advances all busy slots by one piece. A finished
sentence leaves at once and the next one joins at the next step: no waiting for a batch to fill or
to drain. Requests of equal beam size lie side by side in one lane, a dense block of
(sentences x beam) rows, so that a greedy request costs a greedy request; all other settings are
data of the slot.

The same sentence gives the same result alone and in any batch; packed.py says what that rests
on. Not thread-safe: one thread owns an engine.
"""

import heapq
import time
from collections import deque

import torch

from model.decoding.beam_batch import Encoded, Lane, StepwiseNetwork
from model.decoding.padding import padded_batch
from model.decoding.request import Finished, Request, Usage, check_length
from model.inference.shortlist import Shortlist

# Read together, padding included; bounds how long a newcomer's encoding holds up the others.
_ENCODED_SENTENCES = 32
_ENCODED_PLACES = 1024
# While others are under way, newcomers are read together: a source alone costs nearly as much as
# four. They wait for so many, or for a part of those under way, but no more steps than this.
_ENCODED_WORTHWHILE = 4
_WORTHWHILE_PART = 4
_LONGEST_HOLD = 6
# Steps for which bulk requests let all others pass: a minute and more.
_BULK_PATIENCE = 10_000


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
        self.num_steps = 0
        self.step_s = 0.0  # time they took
        self._waiting_since = 0  # the step at which the first of those waiting came
        self._waiting: dict[int, Request] = {}  # plain ids, no tensors
        self._line: list[tuple[int, int]] = []  # a heap: when it is due, request id
        self._encoded: deque[Encoded] = deque()  # next in line
        self._lanes: dict[int, Lane] = {}  # by beam size

    @property
    def num_waiting(self) -> int:
        """Requests that have no slot yet."""
        return len(self._waiting) + len(self._encoded)

    @property
    def num_busy(self) -> int:
        """Slots taken."""
        return sum(lane.num_busy for lane in self._lanes.values())

    @property
    def usage(self) -> Usage:
        """How busy it is."""
        return Usage(self.max_slots, self.num_busy, self.num_steps, self.step_s)

    @property
    def num_under_way(self) -> int:
        """Requests neither finished nor cancelled."""
        return self.num_waiting + self.num_busy

    @property
    def idle(self) -> bool:
        """Nothing under way."""
        return not self._lanes and self.num_waiting == 0

    def admit(self, request: Request) -> None:
        """Queues a request; InputError when its source is empty or above the limit."""
        check_length(request, self.max_source_tokens)
        assert request.request_id not in self._waiting
        if not self._waiting:
            self._waiting_since = self.num_steps
        self._waiting[request.request_id] = request
        # In the order of arrival, but a short sentence may pass a long one that came no more than
        # their difference in length before it, in steps: nobody is passed for ever.
        due = self.num_steps + request.src_len + (_BULK_PATIENCE if request.bulk else 0)
        heapq.heappush(self._line, (due, request.request_id))

    def cancel(self, request_id: int) -> None:
        """Frees what the request holds; one that is unknown or finished is no error."""
        if self._waiting.pop(request_id, None) is None:
            self._encoded = deque(e for e in self._encoded if e.request.request_id != request_id)
            for lane in self._lanes.values():
                lane.cancel(request_id)

    @property
    def process_ids(self) -> tuple[int, ...]:
        """None: it computes where it is called."""
        return ()

    def start(self) -> None:
        """Nothing to do: it is ready."""

    def wake(self) -> None:
        """Nothing to do: `step` never waits."""

    def close(self) -> None:
        """Nothing to do: there is no process."""

    @torch.inference_mode()
    def step(self, timeout_s: float | None = None) -> list[Finished]:
        """Gives free slots to those next in line, then advances every busy slot by one piece.

        Never waits, whatever the timeout: that is for a team of engines.
        """
        started = time.perf_counter()
        self.num_steps += 1
        newcomers = self._newcomers()
        for beam_size in newcomers:
            self._lanes.setdefault(beam_size, Lane(self._network, beam_size))
        finished: list[Finished] = []
        for beam_size, lane in list(self._lanes.items()):
            lane.arrange(newcomers.get(beam_size, []))
            if lane.num_busy:
                finished += lane.step()
            if not lane.num_busy:
                del self._lanes[beam_size]
        self.step_s += time.perf_counter() - started
        return finished

    def _newcomers(self) -> dict[int, list[Encoded]]:
        """Encoded requests for the free slots, by beam size."""
        newcomers: dict[int, list[Encoded]] = {}
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
            len(self._waiting) < max(_ENCODED_WORTHWHILE, self.num_busy // _WORTHWHILE_PART)
            and bool(self._lanes)
            and self.num_steps - self._waiting_since < _LONGEST_HOLD
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
        self._waiting_since = self.num_steps
        state = self._network.encode(
            padded_batch([request.source_ids for request in requests], self._network.device)
        )
        for row, request in enumerate(requests):
            pieces = None
            if self._shortlist is not None:
                pieces = self._shortlist.choose(request.source_ids, request.prefix_ids)
            self._encoded.append(Encoded(request, state, row, pieces))
