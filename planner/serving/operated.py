"""The router in front of a fleet that changes: replicas fail, come back, are started and stopped.

A request of a replica that fails is at once retried or lost.  A retry begins at the first router
again: what was produced is part of its prompt, and its cache is gone.  In pools apart it also
begins anew where its cache was on the way from or to the replica, or waited at the sender for a
decode replica to come up.  While no replica is up, arrivals wait at the router (all go to the
first one that comes up) or are turned away; retries always wait.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import simpy

from planner.errors import InputError
from planner.serving.agenda import Agenda
from planner.serving.arrivals import ClosedLoopStream, Stream
from planner.serving.available import Available
from planner.serving.breakdowns import Breakdowns
from planner.serving.clock import ARRIVAL, LOST, ROUTER
from planner.serving.cluster import Cluster, PoolSetup
from planner.serving.fleet import Fleet
from planner.serving.front import EngineFactory, Front
from planner.serving.operations import Operations, Signal
from planner.serving.pool import Pool
from planner.serving.records import Records
from planner.serving.scaling import Scaler

NOBODY = -1


class OperatedFront(Front):
    """Takes arrivals, passes them on to replicas that are up, and catches what failures drop."""

    def __init__(self, stream: Stream, cluster: Cluster, engine: EngineFactory) -> None:
        self._operated: list[OperatedPool] = []
        super().__init__(stream, cluster, engine)
        assert cluster.operations is not None
        self._rules = cluster.operations
        if isinstance(stream, ClosedLoopStream) and not stream.think_s:
            _require_queue(self._rules)
        self._on: list[dict[int, None]] = [{} for _ in self.replicas]  # at, or cache on the way
        self._home: dict[int, int] = {}  # replica whose router counts the request
        self._transit: dict[int, tuple[int, simpy.Event]] = {}  # sender; alarm of the arrival
        self._closing = 0
        self._agenda = Agenda(self.clock, self._goes_on)
        self.fleet = Fleet(
            self._agenda, self, self._rules.pools, [pool.available for pool in self._operated],
            [pool.setup.replicas for pool in self._operated],
        )  # fmt: skip

    def _pool(self, setup: PoolSetup, first: int) -> Pool:
        pool = OperatedPool(setup, first, self.cluster)
        self._operated.append(pool)
        return pool

    def run(self, horizon_s: float | None) -> Records:
        """Serve until all is answered or the horizon is reached."""
        self._closing = horizon_s is not None
        self.fleet.start()
        seeds = np.random.SeedSequence(self._rules.seed).spawn(len(self._operated))
        for number, (setup, seed) in enumerate(zip(self._rules.pools, seeds, strict=True)):
            Breakdowns(self.fleet, number, setup, seed).start()
            Scaler(self.fleet, number, setup).start()
        return super().run(horizon_s)

    def _collect(self, end_s: float) -> Records:
        end_s = max([end_s, *self.ledger.lost_s.values()])
        return replace(super()._collect(end_s), fleet=self.fleet.log.history(end_s))

    def _settled_since(self) -> float:
        now_s = self.clock.now
        return self.fleet.log.history(now_s + 1.0).settled_since(self._last_arrival_s)

    def _goes_on(self) -> bool:
        waits = any(pool.waiting for pool in self._operated)
        return self.open and (waits or self.clock.pending > self._closing)

    # --- requests ---

    def _submit(self, pool: Pool, request: int, now_s: float) -> int:
        assert isinstance(pool, OperatedPool)
        pool.outstanding += 1
        pool.entered += 1
        if not pool.available.up:
            pool.waiting[request] = NOBODY
            return ROUTER
        return self._give(pool, request, now_s)

    def _give(self, pool: "OperatedPool", request: int, now_s: float) -> int:
        number = self._choose(pool, request)
        self._bring(number, request, now_s)
        return number

    def _choose(self, pool: "OperatedPool", request: int) -> int:
        available, prompt = pool.available, self.ledger.input_tokens[request]
        if available.by_prefix:
            member = available.choose(self._matches(pool, available.up, request), prompt)
        else:
            member = available.take(prompt)
        number = pool.first + member
        self._home[request] = number
        self._on[number][request] = None
        return number

    def _done(self, number: int, request: int, now_s: float) -> None:
        del self._home[request], self._on[number][request]
        super()._done(number, request, now_s)
        self._look(number, now_s)

    def _look(self, number: int, now_s: float) -> None:
        if not self._on[number]:
            self.fleet.emptied(number, now_s)

    def _pass_on(self, sender: int, request: int, now_s: float) -> None:
        """Choose who decodes, or keep the cache until somebody can."""
        pool = self._operated[1]
        pool.outstanding += 1
        pool.entered += 1
        self._on[sender][request] = None
        if pool.available.up:
            self._send(pool, sender, request, now_s)
        else:
            pool.waiting[request] = sender

    def _send(self, pool: "OperatedPool", sender: int, request: int, now_s: float) -> None:
        number = self._choose(pool, request)
        prompt = self.ledger.prompts[request]

        def arrived(event: simpy.Event) -> None:
            if not self.open or self._transit.get(request) != (sender, event):
                return
            del self._transit[request], self._on[sender][request]
            self.ledger.replica[request] = number
            self.replicas[number].submit(request, self.clock.now)
            self._look(sender, self.clock.now)

        there_s = self._link.arrival_s(sender, number, prompt, now_s)
        self._transit[request] = (sender, self.clock.at(there_s, ARRIVAL, arrived))

    # --- what the fleet tells and asks ---

    def opened(self, pool: int, now_s: float) -> None:
        """Let those that wait for a member go to it."""
        here = self._operated[pool]
        waiting, here.waiting = here.waiting, {}
        for request, sender in waiting.items():
            if sender == NOBODY:
                self.ledger.replica[request] = self._give(here, request, now_s)
            else:
                self._send(here, sender, request, now_s)

    def broken(self, numbers: Sequence[int], now_s: float) -> None:
        """Take requests off replicas that fail, then retry or lose them in order of arrival."""
        dropped: set[int] = set()
        for number in numbers:
            self.replicas[number].fail(now_s)
            self._link.free(number, now_s)
            dropped.update(self._on[number])
        for request in sorted(dropped):
            self._drop(request, now_s)
        for request in sorted(dropped):
            self._retry(request, now_s)

    def slowed(self, number: int, now_s: float, factor: float) -> None:
        """Let a replica's steps take ``factor`` times as long."""
        self.replicas[number].slow(now_s, factor)

    def empty(self, number: int) -> bool:
        """Whether a replica has no request, nor a cache on its way to or from it."""
        return not self._on[number]

    def load(self, pool: int, signal: Signal) -> float:
        """Return what a policy looks at."""
        here = self._operated[pool]
        if signal == "requests_per_s":
            came, here.entered = here.entered, 0
            return came
        if signal == "slots":
            return here.outstanding
        ledger = self.ledger
        seen_s = ledger.first_token_s if pool else ledger.admitted_s
        mine = range(here.first, here.first + here.setup.replicas)
        return len(here.waiting) + sum(
            seen_s[request] != seen_s[request]
            for number in mine
            for request in self._on[number]
            if self._home.get(request) == number
        )

    # --- failures ---

    def _drop(self, request: int, now_s: float) -> None:
        """Forget where a request was."""
        self._loading.pop(request, None)
        home = self._home.pop(request, None)
        places = [] if home is None else [home]
        if request in self._transit:
            places.append(self._transit.pop(request)[0])
        if home is None:  # its cache waits for a decode replica
            places.append(self._operated[1].waiting.pop(request))
            self._operated[1].outstanding -= 1
        else:
            pool = self._operated[-1 if home >= self._operated[-1].first else 0]
            pool.available.release(home - pool.first, self.ledger.input_tokens[request])
            pool.outstanding -= 1
        for place in places:
            del self._on[place][request]
            self._look(place, now_s)

    def _retry(self, request: int, now_s: float) -> None:
        ledger, rules = self.ledger, self._rules
        tries = ledger.retried.get(request, 0)
        if rules.on_failure == "lose" or tries >= rules.max_retries:
            ledger.replica[request] = LOST
            ledger.lost_s[request] = now_s
            self._source.answered(now_s)
            return
        ledger.retried[request] = tries + 1
        if not self._runs(request):
            ledger.prompts[request] = ledger.input_tokens[request]
            ledger.answers[request] = ledger.output_tokens[request]
        ledger.replica[request] = self._submit(self._operated[0], request, now_s)

    def _runs(self, request: int) -> bool:
        """Whether the prompt, grown by what was produced, can still be computed anywhere."""
        ledger = self.ledger
        prompt = ledger.prompts[request]
        config = self._operated[0].setup.config
        kept = ledger.cached if ledger.prefixes is None else None  # a failed cache is empty
        found = kept[request] if kept is not None else 0
        if not config.chunked_prefill and prompt - found > config.max_step_tokens:
            return False
        return config.role == "both" or prompt + 1 <= config.longest_tokens()


def _require_queue(rules: Operations) -> None:
    """Refuse to turn clients away who would come back in the same instant, again and again."""
    if not rules.queue_when_down:
        raise InputError(
            "", "operations.no_replica",
            "shed sends clients away who ask again at once: let arrivals.think_s be above 0, "
            "or use queue",
        )  # fmt: skip


class OperatedPool(Pool):
    """The router in front of a pool whose members come and go."""

    def __init__(self, setup: PoolSetup, first: int, cluster: Cluster) -> None:
        super().__init__(setup, first, cluster.seed)
        self.balancer = self.available = Available(
            setup.router, setup.replicas, cluster.seed + first
        )
        self.waiting: dict[int, int] = {}
        """Requests that no member can take, with the replica that has their cache."""
        self.entered = 0
        """Requests since a policy last looked."""
        self._limit = setup.max_outstanding
        self._queues = cluster.operations is None or cluster.operations.queue_when_down

    def full(self) -> bool:
        """Whether arrivals are turned away: by the limit of those up, or because none is."""
        up = len(self.available.up)
        if not up and not self._queues:
            return True
        return self._limit is not None and self.outstanding >= self._limit * max(1, up)
