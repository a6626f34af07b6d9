"""Translation requests that were accepted and are not in a model's queue yet.

The event loop reads dozens of requests before the first of them reaches its model's queue. If only
the queue were asked, all of them would find its last free place, and each that is refused later has
cost as much as one that is translated. Belongs to the event loop.
"""


class PendingRequests:
    """Counts pending requests and the bytes of their bodies."""

    def __init__(self) -> None:
        self.num_requests = 0
        self.num_bytes = 0

    def new(self) -> "PendingRequest":
        """A request that is not counted before its `start`."""
        return PendingRequest(self)


class PendingRequest:
    """One request, pending from `start` to `end`; both may be called more than once."""

    def __init__(self, counts: PendingRequests) -> None:
        self._counts = counts
        self._num_bytes: int | None = None  # None: not counted
        self._ended = False

    def start(self, num_bytes: int) -> None:
        """Counts the request: its body, of this size, has arrived."""
        if self._num_bytes is None and not self._ended:
            self._num_bytes = num_bytes
            self._counts.num_requests += 1
            self._counts.num_bytes += num_bytes

    def end(self) -> None:
        """The request is in a queue, or will never be."""
        self._ended = True
        if self._num_bytes is not None:
            self._counts.num_requests -= 1
            self._counts.num_bytes -= self._num_bytes
            self._num_bytes = None
