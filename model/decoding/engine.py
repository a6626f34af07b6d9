"""The engine: continuous batching of segments, from source ids to hypotheses.

Files and live requests go through the same engine. A source is encoded and takes a slot, and every
step advances all busy slots by one piece. A finished sentence frees its slot at once and the next
one takes it at the next step: nothing waits for a batch to fill or to drain. Requests of equal beam
size share one BeamBatch, a dense block of (sentences x beam) rows, so a greedy request costs no
more than greedy search. All other settings are data of the slot.

A sentence gets the same result alone and in any batch; packed_network.py says why. Not thread-safe:
one thread owns an engine.
"""

import heapq
import time
from collections import deque

import torch

from model.decoding.beam_batch import BeamBatch, EncodedRequest, StepwiseNetwork
from model.decoding.request import EngineUsage, Finished, SegmentRequest, check_length
from model.inference.padding import padded_batch
from model.inference.shortlist import Shortlist

# The most that is encoded together, padding included: encoding delays the sentences in slots.
_MAX_ENCODED_SENTENCES = 32
_MAX_ENCODED_PLACES = 1024
# While sentences are in slots, new ones wait to be encoded together: a source alone costs nearly as
# much as four. They wait until there are so many, or this part of the busy slots, but at most so
# many steps.
_ENOUGH_TO_ENCODE = 4
_ENOUGH_PART_OF_BUSY = 4
_MAX_STEPS_HELD_BACK = 6
# Steps for which bulk requests let all others pass: a minute and more.
_BULK_DELAY_STEPS = 10_000


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
        """max_slots: sentences translated at the same time; no shortlist: all pieces are scored."""
        assert max_slots >= 1
        self.max_slots = max_slots
        self.max_source_tokens = max_source_tokens
        self._network = network
        self._shortlist = shortlist
        self.num_steps = 0
        self.step_s = 0.0  # time that the steps took
        self._waiting_since = 0  # the step at which the first waiting request was submitted
        self._waiting: dict[int, SegmentRequest] = {}  # by request id; not encoded yet
        self._queue: list[tuple[int, int]] = []  # heap: step when due, request id
        self._encoded: deque[EncodedRequest] = deque()  # waiting for a slot
        self._batches: dict[int, BeamBatch] = {}  # by beam size

    @property
    def num_waiting(self) -> int:
        """Number of requests without a slot."""
        return len(self._waiting) + len(self._encoded)

    @property
    def num_busy(self) -> int:
        """Number of slots taken."""
        return sum(batch.num_busy for batch in self._batches.values())

    @property
    def usage(self) -> EngineUsage:
        """How busy the engine is."""
        return EngineUsage(self.max_slots, self.num_busy, self.num_steps, self.step_s)

    @property
    def idle(self) -> bool:
        """True when every request is finished or cancelled."""
        return not self._batches and self.num_waiting == 0

    def submit(self, request: SegmentRequest) -> None:
        """Queues a request; InputError when its source is empty or above the limit."""
        check_length(request, self.max_source_tokens)
        assert request.request_id not in self._waiting
        if not self._waiting:
            self._waiting_since = self.num_steps
        self._waiting[request.request_id] = request
        # First come, first served, but a short sentence may overtake a longer one that is at most
        # their difference in length older, in steps. So no request waits for ever.
        due = self.num_steps + request.src_len + (_BULK_DELAY_STEPS if request.bulk else 0)
        heapq.heappush(self._queue, (due, request.request_id))

    def cancel(self, request_id: int) -> None:
        """Drops a request; unknown and finished ones are ignored."""
        if self._waiting.pop(request_id, None) is None:
            self._encoded = deque(e for e in self._encoded if e.request.request_id != request_id)
            for batch in self._batches.values():
                batch.cancel(request_id)

    @torch.inference_mode()
    def step(self) -> list[Finished]:
        """Fills free slots, then advances every busy slot by one piece; never waits."""
        started = time.perf_counter()
        self.num_steps += 1
        to_add = self._take_encoded()
        for beam_size in to_add:
            self._batches.setdefault(beam_size, BeamBatch(self._network, beam_size))
        finished: list[Finished] = []
        for beam_size, batch in list(self._batches.items()):
            batch.resize_and_add(to_add.get(beam_size, []))
            if batch.num_busy:
                finished += batch.step()
            if not batch.num_busy:
                del self._batches[beam_size]
        self.step_s += time.perf_counter() - started
        return finished

    def _take_encoded(self) -> dict[int, list[EncodedRequest]]:
        """Returns encoded requests for the free slots, by beam size."""
        taken: dict[int, list[EncodedRequest]] = {}
        for _ in range(self.max_slots - self.num_busy):
            if not self._encoded and self._waiting and not self._hold_back():
                self._encode_next()
            if not self._encoded:
                break
            encoded = self._encoded.popleft()
            taken.setdefault(encoded.request.search.beam_size, []).append(encoded)
        return taken

    def _hold_back(self) -> bool:
        """Whether to wait for more requests before the waiting ones are encoded."""
        return (
            len(self._waiting) < max(_ENOUGH_TO_ENCODE, self.num_busy // _ENOUGH_PART_OF_BUSY)
            and bool(self._batches)
            and self.num_steps - self._waiting_since < _MAX_STEPS_HELD_BACK
        )

    def _encode_next(self) -> None:
        """Encodes the next requests, even more than have a slot: a few alone cost as much."""
        requests: list[SegmentRequest] = []
        longest = 0
        while self._queue and len(requests) < _MAX_ENCODED_SENTENCES:
            request = self._waiting.get(self._queue[0][1])
            if request is not None:  # None: cancelled
                longest = max(longest, request.src_len)
                if requests and longest * (len(requests) + 1) > _MAX_ENCODED_PLACES:
                    break
                requests.append(self._waiting.pop(request.request_id))
            heapq.heappop(self._queue)
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
            self._encoded.append(EncodedRequest(request, state, row, pieces))
