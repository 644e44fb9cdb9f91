"""Fewest replicas of one layout that keep every promise, found by simulation."""

import math
from dataclasses import dataclass, field
from functools import cached_property

from planner.evaluation import Result, Served, result, result_of, serve, serve_apart
from planner.search.layout import Counts, Layout
from planner.search.settle import Kept
from planner.search.trials import REPLICAS, tells, trial_of
from planner.serving import Promise
from planner.specs.scenario import Scenario
from planner.specs.workload import Run, Workload
from planner.workloads import Traffic, measured_traffic

OVERLOAD_HORIZON = 2.5
"""A trial run is given up after this many times its arrival span: the load is too high."""


@dataclass
class Fleet:
    """Trial runs of one layout at different numbers of replicas, with common random numbers."""

    scenario: Scenario
    workload: Workload
    layout: Layout
    runs: dict[Counts, Served] = field(default_factory=dict)
    """The last run at each number: of all, or of two replicas where that was enough to tell."""
    whole: set[Counts] = field(default_factory=set)
    """Numbers whose run is one of all replicas."""
    simulated: int = 0
    """Runs so far, of all replicas or of two."""
    settled: dict[Counts, tuple[Kept, ...]] = field(default_factory=dict)
    """Promises over runs with other seeds."""

    def run(self, counts: Counts, seed: int | None = None) -> Served:
        """Simulate so many replicas, with another seed than the scenario's where one is given."""
        run = self.scenario.run
        run = run if seed is None else run.model_copy(update={"seed": seed})
        return self._run(counts, run, self.workload)

    def _run(self, counts: Counts, run: Run, workload: Workload) -> Served:
        self.simulated += 1
        scenario = self.layout.scenario(self.scenario, counts).model_copy(update={"run": run})
        traffic = measured_traffic(workload, scenario.run)
        span_s = traffic.duration_s + scenario.run.warmup_s
        horizon_s = OVERLOAD_HORIZON * span_s if math.isfinite(span_s) else None
        if not self.layout.apart:
            replica = self.layout.main.replica
            return serve(scenario, workload, replica, counts[0], horizon_s)
        pools = self.layout.pools(counts)
        return serve_apart(scenario, workload, pools, self.layout.deployment(counts), horizon_s)

    @cached_property
    def _traffic(self) -> Traffic:
        return measured_traffic(self.workload, self.scenario.run)

    def keeps(self, counts: Counts) -> bool:
        """Whether so many replicas keep every promise: two are tried, all where in doubt."""
        if counts not in self.runs and not self.layout.apart:
            part = trial_of(self.scenario, self.workload, self._traffic, counts[0])
            served = part and self._run((REPLICAS,), self.scenario.run, part)
            if served and tells(served[1]):
                self.runs[counts] = served
        return self.runs[counts][1].slo_met if counts in self.runs else self.sure(counts)

    def sure(self, counts: Counts) -> bool:
        """Whether so many replicas keep every promise, all of them simulated."""
        if counts not in self.whole:
            self.runs[counts] = self.run(counts)
            self.whole.add(counts)
        return self.runs[counts][1].slo_met

    def worst(self, counts: Counts) -> Promise:
        """The promise broken by most at so many replicas."""
        broken = self.runs[counts][1].broken
        return max(broken, key=lambda p: p.value_s / p.limit_s)

    def fewest(self, at_most: Counts, start: int | None = None) -> Counts | None:
        """Gallop up from the estimate, then bisect; None where not even the most keep it.

        Parameters
        ----------
        at_most : where the search ends.  It starts there too when ``start`` is 0.
        """
        most = at_most[0]
        low, high = 0, min(most, max(1, self.layout.guesses[0] if start is None else most))
        while not self.keeps((high,)):
            if high >= most:
                return None
            low, high = high, min(most, max(high + 1, math.ceil(high * 1.15)))
        high = self._between(low, high)
        while not self.sure((high,)):
            if high >= most:
                return None
            high += 1
        return (high,)

    def _between(self, low: int, high: int) -> int:
        """Fewest that keep it: ``low`` do not (0: unknown), ``high`` do."""
        floor = min(self.layout.least[0], high) - 1
        while high - max(low, floor) > 1:
            bottom = max(low, floor)
            middle = (bottom + high) // 2 if low else max(bottom + 1, math.floor(high * 0.85))
            low, high = (low, middle) if self.keeps((middle,)) else (middle, high)
        return high

    def result(self, counts: Counts) -> Result:
        """Everything about the run with so many replicas."""
        scenario = self.layout.scenario(self.scenario, counts)
        served = self.runs[counts]
        if not self.layout.apart:
            replica = self.layout.main.replica
            return result(scenario, self.workload, replica, counts[0], served)
        return result_of(scenario, self.workload, self.layout.pools(counts), served)
