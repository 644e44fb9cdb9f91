"""Where a replica works, and what the router needs of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from planner.serving.clock import Clock, Ledger
from planner.serving.config import ReplicaConfig
from planner.serving.meter import Meter
from planner.serving.timing import Timing


class ReplicaEngine(Protocol):
    """What the router needs of a replica: the jumping one and the plain one have it."""

    meter: Meter
    now_s: float

    def submit(self, request: int, now_s: float) -> None:
        """Take a request that arrives now."""
        ...

    def match(self, request: int, now_s: float) -> int:
        """Prompt tokens of a request that its prefix cache holds now."""
        ...

    def stop(self, now_s: float) -> None:
        """End the step in progress and do no other."""
        ...

    def fail(self, now_s: float) -> list[int]:
        """Break off the step in progress and forget everything.  Return its requests."""
        ...

    def slow(self, now_s: float, factor: float) -> None:
        """From the next step on, let every step take ``factor`` times as long."""
        ...

    def remaining(self) -> dict[int, int]:
        """Tokens still to produce of each request that is decoding now."""
        ...


@dataclass(frozen=True, slots=True)
class Site:
    """Where a replica works: clock, requests, timing, limits, and whom it tells of an answer."""

    clock: Clock
    ledger: Ledger
    timing: Timing
    config: ReplicaConfig
    done: Callable[[int, int, float], None]
    """Called with the replica's number, the request and the time [s] when it is done with one."""
