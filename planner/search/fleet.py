"""Fewest replicas of one layout that keep every promise, found by simulation."""

import math
from dataclasses import dataclass, field

from planner.evaluation import Replica, Result, Served, result, serve
from planner.search.screen import Estimate
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
    replica: Replica
    guess: Estimate
    runs: dict[int, Served] = field(default_factory=dict)

    @property
    def most(self) -> int:
        """Replicas that ``space.max_nodes`` nodes hold, at least one."""
        system = self.replica.hardware.system
        devices = self.scenario.space.max_nodes * system.devices_per_node
        return max(1, devices // self.replica.devices)

    @property
    def least(self) -> int:
        """Replicas below which the closed form rules every run out."""
        return max(1, round(self.guess.least_devices / self.replica.devices))

    def keeps(self, replicas: int) -> bool:
        """Whether so many replicas keep every promise, simulated."""
        if replicas not in self.runs:
            traffic = measured_traffic(self.workload, self.scenario.run)
            span_s = traffic.duration_s + self.scenario.run.warmup_s
            horizon_s = OVERLOAD_HORIZON * span_s if math.isfinite(span_s) else None
            self.runs[replicas] = serve(
                self.scenario, self.workload, self.replica, replicas, horizon_s
            )
        return self.runs[replicas][1].slo_met

    def worst(self, replicas: int) -> Promise:
        """The promise broken by most at so many replicas."""
        broken = self.runs[replicas][1].broken
        return max(broken, key=lambda p: p.value_s / p.limit_s)

    def smallest(self) -> int | None:
        """Gallop up from the estimate, then bisect; None where not even the most keep it."""
        low, high = 0, min(self.most, max(1, self.guess.replicas))
        while not self.keeps(high):
            if high >= self.most:
                return None
            low, high = high, min(self.most, max(high + 1, math.ceil(high * 1.15)))
        return self.between(low, high)

    def between(self, low: int, high: int) -> int:
        """Fewest that keep it: ``low`` do not (0: unknown), ``high`` do."""
        floor = min(self.least, high) - 1
        while high - max(low, floor) > 1:
            bottom = max(low, floor)
            middle = (bottom + high) // 2 if low else max(bottom + 1, math.floor(high * 0.85))
            low, high = (low, middle) if self.keeps(middle) else (middle, high)
        return high

    def result(self, replicas: int) -> Result:
        """Everything about the run with so many replicas."""
        return result(self.scenario, self.workload, self.replica, replicas, self.runs[replicas])
