"""What happened to a fleet in a run: states of its replicas by time, and sums over them."""

import math
from collections import Counter
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]
Window = tuple[float, float]


class State(IntEnum):
    """What a replica is doing; all but ``OFF`` is paid."""

    OFF = 0
    STARTING = 1
    UP = 2
    SLOW = 3
    """Serves, with a degraded part."""
    DRAINING = 4
    """Answers what it has, takes nothing new."""
    DOWN = 5
    """Failed: until it serves again."""
    MAINTENANCE = 6


TAKING = (State.UP, State.SLOW)
SERVING = (*TAKING, State.DRAINING)
DEGRADED = (State.SLOW, State.DOWN)
PAID = tuple(state for state in State if state != State.OFF)


@dataclass(frozen=True, slots=True)
class Scaling:
    """One decision on how many replicas a pool has."""

    time_s: float
    pool: int
    before: int
    """Replicas that served or were starting."""
    after: int
    reason: str
    """``autoscale`` or ``schedule``."""


@dataclass(slots=True)
class FleetLog:
    """Changes of state as they happen."""

    replicas: int
    changes: list[tuple[float, int, State]] = field(default_factory=list)
    """(time, replica, state from then on), by time."""
    events: list[tuple[float, str]] = field(default_factory=list)
    """(time, what): an outage that hit a paid replica by its kind of part, ``spare`` taken,
    ``maintenance`` begun."""
    scalings: list[Scaling] = field(default_factory=list)

    def history(self, end_s: float) -> "FleetHistory":
        """Freeze what happened up to the end of a run."""
        kept = [change for change in self.changes if change[0] <= end_s]
        columns = zip(*kept, strict=True) if kept else ((), (), ())
        time_s, replica, state = (np.array(list(column), np.float64) for column in columns)
        order = np.lexsort((np.arange(len(kept)), replica))
        number, begin_s = replica[order].astype(np.int64), time_s[order]
        until_s = np.append(begin_s[1:], end_s)[: len(kept)]
        until_s[np.append(number[1:] != number[:-1], True)[: len(kept)]] = end_s
        events = Counter(what for time_s, what in self.events if time_s <= end_s)
        return FleetHistory(
            self.replicas, number, state[order].astype(np.int64), begin_s, until_s, end_s,
            dict(events), tuple(one for one in self.scalings if one.time_s <= end_s),
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class FleetHistory:
    """Stretches of time in which one replica was in one state; a row each."""

    replicas: int
    replica: Integers
    state: Integers
    """Of :class:`State`."""
    begin_s: Floats
    until_s: Floats
    end_s: float
    events: dict[str, int]
    """Outages that hit a paid replica by kind of part; also ``spare`` and ``maintenance``."""
    scalings: tuple[Scaling, ...]

    def spent_s(self, *states: State, window: Window | None = None) -> Floats:
        """Time that each replica spent in some states, inside a window (None: the run). [s]"""
        start_s, stop_s = window or (0.0, self.end_s)
        inside = np.clip(self.until_s, start_s, stop_s) - np.clip(self.begin_s, start_s, stop_s)
        mine = np.isin(self.state, states)
        total = np.bincount(self.replica[mine], inside[mine], self.replicas)
        return total.astype(np.float64)

    def paid_s(self, window: Window | None = None) -> Floats:
        """Time that each replica was paid for: all but switched off. [s]"""
        return self.spent_s(*PAID, window=window)

    @property
    def failures(self) -> dict[str, int]:
        """Outages that stopped or slowed a paid replica, by kind of part."""
        return {what: n for what, n in self.events.items() if what not in ("spare", "maintenance")}

    @property
    def availability(self) -> float:
        """Share of the time that replicas should have served in which they had not failed."""
        down_s = float(self.spent_s(State.DOWN).sum())
        up_s = float(self.spent_s(*SERVING).sum())
        return up_s / (up_s + down_s) if up_s + down_s else 1.0

    def _edges(self, states: tuple[State, ...], window: Window) -> tuple[Floats, Floats]:
        """Begins and ends of the stretches in some states, each sorted by itself."""
        mine = np.isin(self.state, states)
        ends = np.clip(self.until_s[mine], *window)
        return np.sort(np.clip(self.begin_s[mine], *window)), np.sort(ends)

    def count(self, times_s: Floats, *states: State) -> Integers:
        """Replicas that are in some states at each time."""
        begins, ends = self._edges(states, (0.0, self.end_s))
        began: Integers = np.searchsorted(begins, times_s, "right").astype(np.int64)
        return began - np.searchsorted(ends, times_s, "right")

    def spans(self, *states: State, apart_s: float = 0.0) -> list[Window]:
        """Stretches with a replica in some states; those nearer than ``apart_s`` are one. [s]"""
        found: list[Window] = []
        begins, ends = self._edges(states, (0.0, self.end_s))
        for begin_s, end_s in zip(begins.tolist(), ends.tolist(), strict=True):
            joined = bool(found) and begin_s - found[-1][1] <= apart_s
            found.append((found.pop()[0] if joined else begin_s, end_s))
        return found

    def settled_since(self, time_s: float) -> float:
        """When the fleet last changed before a time; never (``inf``) where it is about to. [s]

        It is about to while a replica starts, lies failed, is maintained or runs slow.
        """
        begun = self.begin_s <= time_s
        now = begun & ((time_s < self.until_s) | (self.until_s == self.end_s))
        passing = (State.STARTING, State.SLOW, State.DRAINING, State.DOWN, State.MAINTENANCE)
        if np.isin(self.state[now], passing).any():
            return math.inf
        return float(self.begin_s[begun].max(initial=0.0))

    def degraded_s(self, window: Window) -> float:
        """Time in a window with a replica down or slow, overlaps counted once. [s]"""
        begins, ends = self._edges(DEGRADED, window)
        times = np.concatenate((begins, ends))
        order = np.argsort(times, kind="stable")
        open_after = np.cumsum(np.repeat((1, -1), (len(begins), len(ends)))[order])[:-1]
        return float((np.diff(times[order]) * (open_after > 0)).sum())
