"""Failures of one pool as they happen: parts break, spares take their place, parts come back."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from planner.serving.faults import Failing, alternating
from planner.serving.fleet import Fleet, Member
from planner.serving.fleet_log import State
from planner.serving.operations import PoolOperations


@dataclass(eq=False, slots=True)
class _Part:
    """One device, node or link, and its next outage."""

    failing: Failing
    members: list[Member]
    outages: Iterator[tuple[float, float]]
    end_s: float = 0.0
    covered: bool = False
    """A spare is in its place."""


class Breakdowns:
    """Draws the outages of one pool and tells the fleet.

    Parameters
    ----------
    seed : of this pool; every part has a stream of its own, so more parts, or other requests,
        leave the outages of the others as they were.
    """

    def __init__(
        self, fleet: Fleet, pool: int, setup: PoolOperations, seed: np.random.SeedSequence
    ) -> None:
        self._fleet, self._spares = fleet, setup.spares
        self._short: list[_Part] = []  # dead parts that wait for a spare, in order of time
        members = fleet.pools[pool]
        self._parts = [
            _Part(
                parts.failing, [members[place] for place in places],
                alternating(parts.failing, np.random.default_rng(own)),
            )
            for parts, kind in zip(setup.failures, seed.spawn(len(setup.failures)), strict=True)
            for places, own in zip(parts.replicas, kind.spawn(parts.failing.count), strict=True)
        ]  # fmt: skip

    def start(self) -> None:
        """Arrange for the first outage of every part."""
        for part in self._parts:
            self._arrange(part)

    def _arrange(self, part: _Part) -> None:
        begin_s, part.end_s = next(part.outages)
        self._fleet.agenda.at(begin_s, partial(self._break, part))

    def _break(self, part: _Part, now_s: float) -> None:
        fleet = self._fleet
        fleet.agenda.at(part.end_s, partial(self._mend, part))
        paid = [m for m in part.members if m.state not in (State.OFF, State.MAINTENANCE)]
        if paid:
            fleet.log.events.append((now_s, part.failing.kind))
        if part.failing.speed_share:
            for member in part.members:
                fleet.slow(member, now_s, part.failing.speed_share, begins=True)
            return
        for member in part.members:
            member.dead += 1
        fleet.fail(paid, now_s)
        if paid:
            self._short.append(part)
            self._cover(now_s)

    def _cover(self, now_s: float) -> None:
        """Put spares in the place of dead parts while there are any."""
        while self._spares and self._short:
            part = self._short.pop(0)
            self._spares -= 1
            part.covered = True
            self._fleet.log.events.append((now_s, "spare"))
            self._back(part, now_s)

    def _mend(self, part: _Part, now_s: float) -> None:
        self._arrange(part)
        if part.failing.speed_share:
            for member in part.members:
                self._fleet.slow(member, now_s, part.failing.speed_share, begins=False)
        elif part.covered:
            part.covered = False
            self._spares += 1
            self._cover(now_s)
        else:
            if part in self._short:
                self._short.remove(part)
            self._back(part, now_s)

    def _back(self, part: _Part, now_s: float) -> None:
        for member in part.members:
            member.dead -= 1
            self._fleet.restart(member, now_s)
