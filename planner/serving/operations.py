"""What may happen to a fleet while it serves, as it is decided beforehand: no clock, no state.

**What a failure takes along.** Ranks of a replica share every step, so a replica stops when one
of its devices, nodes or links is dead: requests and cache are gone.  It serves again when the
part is repaired, or as soon as a spare node takes the part's place, and the weights are loaded
anew (``restart_s``).  A spare does not fail before the part it stands in for is back, which is
when it is spare again.  A degraded part slows every step of its replica.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from planner.errors import InputError
from planner.serving.autoscale import AutoscalePolicy
from planner.serving.faults import Failing

OnFailure = Literal["retry", "lose"]
"""What becomes of a failed replica's requests: they begin anew elsewhere with what was produced
as part of the prompt, or they are lost."""

Signal = Literal["slots", "queue", "requests_per_s"]
"""What a policy looks at: requests in the pool against slots, requests without a slot, or
requests that came since the last look."""


@dataclass(frozen=True, slots=True)
class Components:
    """Parts that fail alike, and the replicas of the pool that each of them takes along."""

    failing: Failing
    replicas: tuple[tuple[int, ...], ...]
    """By component: numbers of its replicas in the pool."""

    def __post_init__(self) -> None:
        if len(self.replicas) != self.failing.count:
            raise InputError("", "failures", "needs the replicas of every component")


def parts_of(
    failing: Failing, devices_each: int, devices_per_replica: int, replicas: int
) -> Components:
    """Parts of ``devices_each`` devices under replicas laid out one after the other.

    >>> node = Failing("node", 2, 1e6, 1e3)
    >>> parts_of(node, devices_each=8, devices_per_replica=4, replicas=3).replicas
    ((0, 1), (2,))
    >>> parts_of(node, devices_each=8, devices_per_replica=16, replicas=1).replicas
    ((0,), (0,))
    """

    def touched(part: int) -> tuple[int, ...]:
        first = part * devices_each // devices_per_replica
        last = ((part + 1) * devices_each - 1) // devices_per_replica
        return tuple(range(first, min(last + 1, replicas)))

    return Components(failing, tuple(touched(part) for part in range(failing.count)))


@dataclass(frozen=True, slots=True)
class Autoscaling:
    """A policy in the loop: what it looks at, and how often."""

    policy: AutoscalePolicy
    signal: Signal
    capacity: float
    """Of one replica, in the signal's unit."""
    interval_s: float

    def __post_init__(self) -> None:
        for name, value in (("capacity", self.capacity), ("interval_s", self.interval_s)):
            if not value > 0:
                raise InputError("", f"autoscale.{name}", f"must be > 0, got {value}")


@dataclass(frozen=True, slots=True)
class Schedule:
    """Replicas by time: those that are added begin to start early enough to serve on time."""

    times_s: tuple[float, ...]
    """From 0, rising. [s]"""
    replicas: tuple[int, ...]
    start_up_s: float = 0.0

    def __post_init__(self) -> None:
        rising = list(self.times_s) == sorted(set(self.times_s))
        if not self.times_s or self.times_s[0] != 0 or not rising:
            raise InputError("", "schedule", f"times must start at 0 and rise: {self.times_s}")
        if len(self.replicas) != len(self.times_s) or min(self.replicas) < 1:
            raise InputError("", "schedule.replicas", f"need one >= 1 a time: {self.replicas}")


@dataclass(frozen=True, slots=True)
class Maintenance:
    """Replicas are taken out one after the other: drained, away, started again."""

    begin_s: float
    duration_s: float
    """Of each replica, from when its last request is answered. [s]"""
    replicas: tuple[int, ...] = ()
    """Numbers in the pool; empty: all of them."""

    def __post_init__(self) -> None:
        if self.begin_s < 0 or not self.duration_s > 0:
            raise InputError("", "maintenance", "needs begin_s >= 0 and duration_s > 0")


@dataclass(frozen=True, slots=True)
class PoolOperations:
    """What may happen to one pool."""

    failures: tuple[Components, ...] = ()
    spares: int = 0
    """Nodes that stand by without weights."""
    restart_s: float = 0.0
    """From a repair, or a spare's turn, until the replica serves. [s]"""
    initial: int | None = None
    """Replicas that serve at the start, the first ones; None: all."""
    scaling: Autoscaling | Schedule | None = None
    maintenance: tuple[Maintenance, ...] = ()

    def check(self, replicas: int) -> None:
        """Raise where it does not go with a pool of so many replicas."""
        most = self.initial or 1
        if isinstance(self.scaling, Schedule):
            most = max(self.scaling.replicas)
        elif self.scaling is not None:
            most = max(most, self.scaling.policy.most)
        if most > replicas:
            raise InputError("", "operations", f"wants {most} replicas of a pool of {replicas}")
        touched = [n for parts in self.failures for part in parts.replicas for n in part]
        touched += [n for work in self.maintenance for n in work.replicas]
        if touched and not 0 <= min(touched) <= max(touched) < replicas:
            raise InputError(
                "", "operations", f"names replica {max(touched)} of a pool of {replicas}"
            )
        if self.restart_s < 0 or self.spares < 0:
            raise InputError("", "operations", "restart_s and spares must not be negative")


@dataclass(frozen=True, slots=True)
class Operations:
    """What may happen to every pool, and what becomes of requests then."""

    pools: tuple[PoolOperations, ...]
    on_failure: OnFailure = "retry"
    max_retries: int = 3
    """Times a request begins anew before it counts as lost."""
    queue_when_down: bool = True
    """Arrivals wait at the router while no replica is up; else they are turned away."""
    seed: int = 0
    """Of failures."""

    def check(self, replicas: Sequence[int]) -> None:
        """Raise where it does not go with pools of so many replicas."""
        if len(self.pools) != len(replicas):
            raise InputError("", "operations", f"needs an entry for each of {len(replicas)} pools")
        if self.max_retries < 0:
            raise InputError("", "max_retries", f"must not be negative, got {self.max_retries}")
        for pool, count in zip(self.pools, replicas, strict=True):
            pool.check(count)
