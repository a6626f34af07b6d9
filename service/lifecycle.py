"""What the server tells the application about itself: the phase of its life, open connections."""

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """SERVING, then after SIGTERM LEAVING, then CLOSING; never back."""

    SERVING = "serving"
    # Readiness is red, so that load balancers choose other instances; requests are still answered.
    LEAVING = "leaving"
    # Accepted work is finished, new work is refused.
    CLOSING = "closing"


@dataclass
class Lifecycle:
    """Written by the server and its connections, read by the application; on one event loop."""

    phase: Phase = Phase.SERVING
    num_connections: int = 0
