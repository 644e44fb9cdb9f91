"""Which replicas serve: their states, and how they get from one to the next."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from planner.serving.agenda import Agenda
from planner.serving.available import Available
from planner.serving.fleet_log import FleetLog, State
from planner.serving.operations import PoolOperations, Signal


class Crew(Protocol):
    """What a fleet needs of those who know requests."""

    def opened(self, pool: int, now_s: float) -> None:
        """Hear that a member of a pool has come up."""
        ...

    def broken(self, numbers: Sequence[int], now_s: float) -> None:
        """Hear that replicas have failed with all they hold."""
        ...

    def slowed(self, number: int, now_s: float, factor: float) -> None:
        """Let a replica's steps take ``factor`` times as long."""
        ...

    def empty(self, number: int) -> bool:
        """Whether a replica has no request, nor one on its way to or from it."""
        ...

    def load(self, pool: int, signal: Signal) -> float:
        """Return what a policy looks at; of ``requests_per_s`` the requests since it last did."""
        ...


@dataclass(slots=True)
class Member:
    """One replica of a pool."""

    number: int
    """Among all replicas."""
    place: int
    """In its pool."""
    pool: int
    state: State = State.OFF
    dead: int = 0
    """Dead parts that neither are repaired nor have a spare in their place."""
    shares: list[float] = field(default_factory=list)
    """Speeds of its degraded parts."""
    serial: int = 0
    """Of its last start: timers of earlier ones are void."""
    ready_s: float = math.inf
    """When it will serve, while it starts. [s]"""
    leaving: State = State.OFF
    """What a drain ends in."""
    left: Callable[[float], None] | None = None
    """Called when a drain has ended."""


class Fleet:
    """Members of all pools.

    Parameters
    ----------
    routers : of each pool; they hear who may be chosen.
    """

    def __init__(
        self, agenda: Agenda, crew: Crew, pools: Sequence[PoolOperations],
        routers: Sequence[Available], sizes: Sequence[int],
    ) -> None:  # fmt: skip
        self.agenda, self.crew = agenda, crew
        self._pools, self._routers = pools, routers
        self.pools: list[list[Member]] = []
        self.members: list[Member] = []
        for pool, size in enumerate(sizes):
            first = len(self.members)
            self.pools.append([Member(first + i, i, pool) for i in range(size)])
            self.members += self.pools[-1]
        self.log = FleetLog(len(self.members))

    def start(self) -> None:
        """Let the first replicas of each pool serve from the start."""
        for setup, members in zip(self._pools, self.pools, strict=True):
            for member in members:
                serves = setup.initial is None or member.place < setup.initial
                self._enter(member, State.UP if serves else State.OFF, 0.0)
                if serves:
                    self._routers[member.pool].open(member.place)

    def outstanding(self, member: Member) -> int:
        """Requests that its router has given a member."""
        return self._routers[member.pool].outstanding(member.place)

    def power_up(self, member: Member, now_s: float, after_s: float) -> None:
        """Start a member that is off; it serves ``after_s`` later. [s]"""
        if member.dead:
            self._enter(member, State.DOWN, now_s)
            return
        self._enter(member, State.STARTING, now_s)
        self._ready_in(member, now_s, after_s)

    def drain(
        self, member: Member, now_s: float, leaving: State = State.OFF,
        left: Callable[[float], None] | None = None,
    ) -> None:  # fmt: skip
        """Let a member that is up answer what it has, and go."""
        self._routers[member.pool].close(member.place)
        member.leaving, member.left = leaving, left
        self._enter(member, State.DRAINING, now_s)
        if self.crew.empty(member.number):
            self.emptied(member.number, now_s)

    def call_off(self, member: Member, now_s: float) -> None:
        """Give up a start."""
        member.serial += 1
        self._enter(member, State.OFF, now_s)

    def emptied(self, number: int, now_s: float) -> None:
        """Hear that a replica has answered all it had."""
        member = self.members[number]
        if member.state is not State.DRAINING:
            return
        self._enter(member, member.leaving, now_s)
        left, member.left = member.left, None
        if left is not None:
            left(now_s)

    def fail(self, members: Sequence[Member], now_s: float) -> None:
        """Let paid members fail together."""
        with_requests = []
        drained = []
        for member in members:
            member.serial += 1
            self._routers[member.pool].close(member.place)
            if member.state in (State.UP, State.DRAINING):
                with_requests.append(member.number)
            if member.state is State.DRAINING:
                drained.append(member.number)
            else:
                self._enter(member, State.DOWN, now_s)
        self.crew.broken(with_requests, now_s)
        for number in drained:
            self.emptied(number, now_s)

    def restart(self, member: Member, now_s: float) -> None:
        """Load a failed member anew if all its parts are there."""
        if member.state is State.DOWN and not member.dead:
            self._ready_in(member, now_s, self._pools[member.pool].restart_s)

    def slow(self, member: Member, now_s: float, share: float, begins: bool) -> None:
        """Let a part of a member run at a share of its speed, or at full speed again."""
        if begins:
            member.shares.append(share)
        else:
            member.shares.remove(share)
        self.crew.slowed(member.number, now_s, 1.0 / min(member.shares, default=1.0))
        if member.state is State.UP:
            self._enter(member, State.UP, now_s)

    def _ready_in(self, member: Member, now_s: float, after_s: float) -> None:
        member.serial += 1
        member.ready_s = now_s + after_s
        if after_s:
            self.agenda.at(member.ready_s, partial(self._ready, member, member.serial))
        else:
            self._ready(member, member.serial, now_s)

    def _ready(self, member: Member, serial: int, now_s: float) -> None:
        if serial != member.serial:
            return
        self._enter(member, State.UP, now_s)
        self._routers[member.pool].open(member.place)
        self.crew.opened(member.pool, now_s)

    def _enter(self, member: Member, state: State, now_s: float) -> None:
        member.state = state
        seen = State.SLOW if state is State.UP and member.shares else state
        self.log.changes.append((now_s, member.number, seen))
