"""How many replicas a pool has, in the loop: by a policy, by the clock, and out for maintenance."""

from dataclasses import replace
from functools import partial

from planner.serving import autoscale
from planner.serving.fleet import Fleet, Member
from planner.serving.fleet_log import Scaling, State
from planner.serving.operations import Autoscaling, Maintenance, PoolOperations, Schedule


class Scaler:
    """Starts and stops replicas of one pool."""

    def __init__(self, fleet: Fleet, pool: int, setup: PoolOperations) -> None:
        self._fleet, self._pool = fleet, pool
        self._scaling, self._restart_s = setup.scaling, setup.restart_s
        self._seen = autoscale.Fleet(0)
        self._works = [_Works(fleet, pool, work, setup.restart_s) for work in setup.maintenance]

    def start(self) -> None:
        """Arrange for the first decisions."""
        scaling, agenda = self._scaling, self._fleet.agenda
        for work in self._works:
            agenda.at(work.begin_s, work.go_on)
        if isinstance(scaling, Autoscaling):
            agenda.at(scaling.interval_s, partial(self._decide, scaling))
        elif scaling is not None:
            moments = set(scaling.times_s[1:])
            moments |= {max(0.0, time_s - scaling.start_up_s) for time_s in moments}
            for time_s in sorted(moments):
                agenda.at(time_s, partial(self._follow, scaling))

    def _in(self, state: State) -> list[Member]:
        return [member for member in self._fleet.pools[self._pool] if member.state is state]

    def _decide(self, scaling: Autoscaling, now_s: float) -> None:
        fleet = self._fleet
        fleet.agenda.at(now_s + scaling.interval_s, partial(self._decide, scaling))
        load = fleet.crew.load(self._pool, scaling.signal)
        if scaling.signal == "requests_per_s":
            load /= scaling.interval_s
        starting = tuple(sorted(member.ready_s for member in self._in(State.STARTING)))
        now = replace(self._seen, ready=len(self._in(State.UP)), starting_s=starting)
        self._seen = autoscale.decide(scaling.policy, now, now_s, load, scaling.capacity)
        change = self._seen.paid - now.paid
        self._change(change, now_s, scaling.policy.start_up_s, "autoscale")

    def _follow(self, plan: Schedule, now_s: float) -> None:
        """Have as many as the plan wants from now until a start that begins now is over."""
        until_s = now_s + plan.start_up_s
        pairs = list(zip(plan.times_s, plan.replicas, strict=True))
        before = [count for time_s, count in pairs if time_s <= now_s][-1]
        wanted = max([before, *(count for time_s, count in pairs if now_s < time_s <= until_s)])
        there = [self._in(state) for state in (State.UP, State.STARTING, State.DOWN)]
        self._change(wanted - sum(map(len, there)), now_s, plan.start_up_s, "schedule")

    def _change(self, change: int, now_s: float, start_up_s: float, reason: str) -> None:
        fleet = self._fleet
        up, starting = self._in(State.UP), self._in(State.STARTING)
        if change > 0:
            off = sorted(self._in(State.OFF), key=lambda member: bool(member.dead))
            chosen = off[:change]
            for member in chosen:
                fleet.power_up(member, now_s, start_up_s)
            done = len(chosen)
        else:
            latest = sorted(starting, key=lambda member: -member.ready_s)[:-change]
            for member in latest:
                fleet.call_off(member, now_s)
            # the emptiest are done first; of equals the last
            idlest = sorted(up, key=lambda member: (fleet.outstanding(member), -member.number))
            leaving = idlest[: -change - len(latest)]
            for member in leaving:
                fleet.drain(member, now_s)
            done = -len(latest) - len(leaving)
        if done:
            before = len(up) + len(starting)
            fleet.log.scalings.append(Scaling(now_s, self._pool, before, before + done, reason))


class _Works:
    """One round of maintenance: one replica after the other."""

    def __init__(self, fleet: Fleet, pool: int, work: Maintenance, restart_s: float) -> None:
        self.begin_s = work.begin_s
        self._fleet, self._restart_s, self._duration_s = fleet, restart_s, work.duration_s
        members = fleet.pools[pool]
        self._left = [members[place] for place in work.replicas] or list(members)

    def go_on(self, now_s: float) -> None:
        """Take out the next one that is up; those that are not have their turn later."""
        self._left = [member for member in self._left if member.state is not State.OFF]
        ready = [member for member in self._left if member.state is State.UP]
        if ready:
            self._left.remove(ready[0])
            self._fleet.drain(ready[0], now_s, State.MAINTENANCE, partial(self._begin, ready[0]))
        elif self._left:
            self._fleet.agenda.at(now_s + self._duration_s, self.go_on)

    def _begin(self, member: Member, now_s: float) -> None:
        self._fleet.log.events.append((now_s, "maintenance"))
        self._fleet.agenda.at(now_s + self._duration_s, partial(self._end, member))

    def _end(self, member: Member, now_s: float) -> None:
        self._fleet.power_up(member, now_s, self._restart_s)
        self._fleet.agenda.at(now_s + self._restart_s, self.go_on)
