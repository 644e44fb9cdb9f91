"""How many replicas run: a policy of target utilisation, start-up time and cool-down.

Pure functions of what was seen: an event loop calls :func:`decide` at its decision times, and
:func:`follow` runs the same policy over a curve of load without any event (a day's node plan).
The rule is that of the horizontal pod autoscaler: wanted = ceil(load / (target x capacity)).

References
----------
.. [1] Kubernetes documentation, "Horizontal Pod Autoscaling": desired replicas from the ratio of
       metric to target, with a stabilisation window before scaling down.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.errors import InputError
from planner.specs.requests import Floats, Integers


@dataclass(frozen=True, slots=True)
class AutoscalePolicy:
    """When replicas are started and stopped."""

    target_utilisation_share: float
    """Load over capacity that is aimed at; 1 minus the headroom."""
    least: int
    most: int
    start_up_s: float
    """From the decision until a replica serves: provisioning, weights, warm-up. [s]"""
    up_cool_down_s: float = 0.0
    """Least time between two decisions to start replicas. [s]"""
    down_cool_down_s: float = 300.0
    """Replicas are stopped only when for this long none more were wanted. [s]"""

    def __post_init__(self) -> None:
        share = self.target_utilisation_share
        if not 0 < share <= 1:
            raise InputError("", "autoscale.target_utilisation_share", f"not in (0, 1]: {share}")
        if not 1 <= self.least <= self.most:
            raise InputError(
                "", "autoscale.least", f"needs 1 <= least <= most, got {self.least}, {self.most}"
            )
        if min(self.start_up_s, self.up_cool_down_s, self.down_cool_down_s) < 0:
            raise InputError("", "autoscale", "times must not be negative")

    def wanted(self, load: float, capacity: float) -> int:
        """Replicas for a load, both in the same unit; ``capacity`` is one replica's.

        >>> AutoscalePolicy(0.8, 1, 10, 60.0).wanted(load=20.0, capacity=5.0)
        5
        """
        needed = load / (self.target_utilisation_share * capacity)
        return min(self.most, max(self.least, math.ceil(needed - 1e-9)))


@dataclass(frozen=True, slots=True)
class Fleet:
    """Replicas that serve, replicas on their way, and what the policy remembers."""

    ready: int
    starting_s: tuple[float, ...] = ()
    """When each of those on their way will serve, soonest first. [s]"""
    last_up_s: float = -math.inf
    wishes: tuple[tuple[float, int], ...] = ()
    """(time, replicas wanted) of the last ``down_cool_down_s``: the most of them is kept."""

    @property
    def paid(self) -> int:
        """Replicas that cost money: serving or starting."""
        return self.ready + len(self.starting_s)


def decide(
    policy: AutoscalePolicy, fleet: Fleet, now_s: float, load: float, capacity: float
) -> Fleet:
    """Fleet after a decision; replicas whose start-up is over have joined.

    Parameters
    ----------
    now_s : time of the decision, never falling from call to call. [s]
    load, capacity : what is asked of the fleet, and what one replica can do; in the same unit
        (requests/s, tokens/s, requests in the system).

    Returns
    -------
    The fleet from now on.  To shrink, replicas on their way are called off first, the latest
    ones first; serving ones leave after that (the caller drains them).
    """
    arrived = sum(ready_s <= now_s for ready_s in fleet.starting_s)
    ready, starting = fleet.ready + arrived, fleet.starting_s[arrived:]
    wanted = policy.wanted(load, capacity)
    begin_s = now_s - policy.down_cool_down_s
    wishes = (*(wish for wish in fleet.wishes if wish[0] > begin_s), (now_s, wanted))
    kept = max(count for _, count in wishes)
    fleet = replace(fleet, ready=ready, starting_s=starting, wishes=wishes)
    missing = wanted - fleet.paid
    if missing > 0 and now_s - fleet.last_up_s >= policy.up_cool_down_s:
        if not policy.start_up_s:
            return replace(fleet, ready=ready + missing, last_up_s=now_s)
        new = (now_s + policy.start_up_s,) * missing
        return replace(fleet, starting_s=(*starting, *new), last_up_s=now_s)
    excess = fleet.paid - kept
    if excess > 0:
        called_off = min(excess, len(starting))
        return replace(
            fleet, ready=ready - (excess - called_off),
            starting_s=starting[: len(starting) - called_off],
        )  # fmt: skip
    return fleet


@dataclass(frozen=True, eq=False)
class FleetPlan:
    """A policy followed over a curve of load, window by window."""

    window_s: float
    ready: Floats
    """Replicas that serve, the mean over each window."""
    paid: Integers
    """Replicas that cost money in each window."""
    utilisation: Floats
    """Load over the capacity that serves; above 1 the queue grows."""

    @property
    def replica_s(self) -> float:
        """Replica-seconds paid. [s]"""
        return float(self.paid.sum()) * self.window_s

    @property
    def overloaded_share(self) -> float:
        """Share of windows with more load than capacity."""
        return float((self.utilisation > 1).mean())


def follow(
    policy: AutoscalePolicy, loads: Sequence[float] | Floats, capacity: float, window_s: float
) -> FleetPlan:
    """Decide at the start of each window on the load of the window before.

    The first window is met by the fleet it wants.  Load is taken as constant in a window.

    Parameters
    ----------
    loads : load of each window, in the unit of ``capacity``.
    capacity : of one replica.
    window_s : length of a window. [s]
    """
    if not len(loads):
        raise InputError("", "loads", "is empty; give at least one window")
    fleet = Fleet(policy.wanted(float(loads[0]), capacity))
    seen = float(loads[0])
    ready, paid = [], []
    for number, load in enumerate(loads):
        now_s = number * window_s
        fleet = decide(policy, fleet, now_s, seen, capacity)
        joins = sum(max(0.0, now_s + window_s - ready_s) / window_s for ready_s in fleet.starting_s)
        ready.append(fleet.ready + joins)
        paid.append(fleet.paid)
        seen = float(load)
    serving = np.array(ready, np.float64)
    return FleetPlan(
        window_s, serving, np.array(paid, np.int64),
        np.asarray(loads, np.float64) / (serving * capacity),
    )  # fmt: skip


def start_up_s(weight_bytes: float, bytes_per_s: float, other_s: float) -> float:
    """Time until a replica serves: weights at the speed of their store, and all else. [s]

    Parameters
    ----------
    weight_bytes : read by one device, or by all over a link they share. [bytes]
    bytes_per_s : of that link. [bytes/s]
    other_s : provisioning, process start, compilation, warm-up. [s]
    """
    return weight_bytes / bytes_per_s + other_s
