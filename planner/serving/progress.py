"""How far a run is, for whoever waits for it: read from outside, so that the loop pays nothing."""

from collections.abc import Callable
from dataclasses import dataclass

from planner.serving.arrivals import ClosedLoopStream, RequestStream, Stream


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
    total, ends_s = _end(stream)
    share = done / total if total else now_s / ends_s if ends_s else 0.0
    return Progress(done, arrived, total, min(1.0, share), now_s)


def _end(stream: Stream) -> tuple[int | None, float | None]:
    """Return the number of requests a stream sends in all, or the time [s] that ends it."""
    if isinstance(stream, RequestStream):
        return len(stream.arrival_s), None
    if isinstance(stream, ClosedLoopStream):
        return stream.requests, stream.duration_s
    if stream.duration_s is not None:
        return None, stream.duration_s
    return len(stream.turns.session), None
