"""Two of many replicas with their part of the traffic: enough for the search where it is clear.

A promise that these two break, or keep, by far more than chance is not asked of the whole fleet
while the search looks for its size.  A fleet in doubt, and every fleet that is chosen, is simulated
in full.  Two replicas share a load less evenly than many: the margins are for that, too.
"""

import math

from planner.evaluation.thinning import divided
from planner.serving import Metrics, Promise
from planner.specs.scenario import Scenario
from planner.specs.workload import (
    CurveArrivals,
    GammaArrivals,
    PoissonArrivals,
    WeibullArrivals,
    Workload,
)
from planner.workloads import Traffic

REPLICAS = 2
"""Of a trial, where the fleet has at least twice as many."""
ENOUGH = 8_000
"""Requests that count below which a whole run is short enough."""
MARGINS = {"ttft": 0.5, "tpot": 0.03, "e2e": 0.1}
"""Share of a limit that a trial must be away from it, if its own half-width is not more."""


def trial_of(
    scenario: Scenario, workload: Workload, traffic: Traffic, replicas: int
) -> Workload | None:
    """Traffic of a trial of so many replicas; None where only the whole fleet tells.

    Failures and scaling happen to stated numbers of replicas, so that a part says nothing then.
    """
    requests = traffic.requests_per_s * traffic.duration_s
    if scenario.operations or replicas < 2 * REPLICAS or not requests >= ENOUGH:
        return None
    match workload.arrivals:
        case CurveArrivals() | PoissonArrivals() | GammaArrivals() | WeibullArrivals():
            counted = scenario.run.requests or scenario.run.warmup_requests
            return None if counted else divided(workload, replicas / REPLICAS)
    return None


def tells(metrics: Metrics) -> bool:
    """Whether a trial shows all promises kept, or one broken, beyond doubt."""
    clear = [p for p in metrics.promises if _clear(metrics, p)]
    return len(clear) == len(metrics.promises) or any(not p.kept for p in clear)


def _clear(metrics: Metrics, promise: Promise) -> bool:
    metric, which = promise.name.removesuffix("_s").split("_")
    width = getattr(getattr(metrics, f"{metric}_s").half_width, which)
    if width is None or math.isnan(promise.value_s):
        return False
    away = abs(promise.value_s - promise.limit_s)
    return bool(away > max(width, MARGINS[metric] * promise.limit_s))
