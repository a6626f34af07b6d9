"""In which part of its life the service is: the server sets it, health and requests read it."""

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """SERVING, then on SIGTERM LEAVING, then CLOSING; never back."""

    SERVING = "serving"
    # Readiness is red so that balancers look elsewhere, but what still comes is answered.
    LEAVING = "leaving"
    # Accepted work is finished, new work is refused.
    CLOSING = "closing"


@dataclass
class Lifecycle:
    """The one mutable mark that says whether the service is on its way out."""

    phase: Phase = Phase.SERVING
