"""Fewest replicas of one layout that keep every promise, found by simulation."""

import math
from dataclasses import dataclass, field

from planner.evaluation import Result, Served, result, result_of, serve, serve_apart
from planner.search.layout import Counts, Layout
from planner.serving import Promise
from planner.specs.scenario import Scenario
from planner.specs.workload import Workload
from planner.workloads import measured_traffic

OVERLOAD_HORIZON = 2.5
"""A trial run is given up after this many times its arrival span: the load is too high."""


@dataclass
class Fleet:
    """Trial runs of one layout at different numbers of replicas, with common random numbers."""

    scenario: Scenario
    workload: Workload
    layout: Layout
    runs: dict[Counts, Served] = field(default_factory=dict)

    def run(self, counts: Counts, seed: int | None = None) -> Served:
        """Simulate so many replicas, with another seed than the scenario's where one is given."""
        scenario = self.layout.scenario(self.scenario, counts)
        if seed is not None:
            run = scenario.run.model_copy(update={"seed": seed})
            scenario = scenario.model_copy(update={"run": run})
        traffic = measured_traffic(self.workload, scenario.run)
        span_s = traffic.duration_s + scenario.run.warmup_s
        horizon_s = OVERLOAD_HORIZON * span_s if math.isfinite(span_s) else None
        if not self.layout.apart:
            replica = self.layout.main.replica
            return serve(scenario, self.workload, replica, counts[0], horizon_s)
        pools = self.layout.pools(counts)
        return serve_apart(
            scenario, self.workload, pools, self.layout.deployment(counts), horizon_s
        )

    def keeps(self, counts: Counts) -> bool:
        """Whether so many replicas keep every promise, simulated."""
        if counts not in self.runs:
            self.runs[counts] = self.run(counts)
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
        return (self._between(low, high),)

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
