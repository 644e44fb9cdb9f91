"""How far a run is, for whoever waits for it: read from outside, so that the loop pays nothing."""

from collections.abc import Callable
from dataclasses import dataclass

from planner.serving.arrivals import RequestStream, Stream


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a run."""

    done: int
    """Requests answered or turned away."""
    arrived: int
    total: int | None
    """Requests that will arrive; None where only a time ends them."""
    share: float
    """Of the run, 0 to 1: requests done, or time gone where their number is not known."""
    now_s: float
    """Time in the simulation. [s]"""


Ask = Callable[[], Progress]
Watch = Callable[[Ask], None]
"""Is given, before a run, what tells its progress."""


def progress(stream: Stream, arrived: int, done: int, now_s: float) -> Progress:
    """Set what was done beside what there is to do."""
    total = len(stream.arrival_s) if isinstance(stream, RequestStream) else stream.requests
    ends_s = None if isinstance(stream, RequestStream) else stream.duration_s
    share = done / total if total else now_s / ends_s if ends_s else 0.0
    return Progress(done, arrived, total, min(1.0, share), now_s)
