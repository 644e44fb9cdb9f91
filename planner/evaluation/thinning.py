"""A part of a fleet with its part of the traffic: the same load a replica, fewer requests."""

from dataclasses import replace

from planner.evaluation.result import Result
from planner.specs.workload import (
    ClosedLoopArrivals,
    CurveArrivals,
    GammaArrivals,
    PoissonArrivals,
    SessionArrivals,
    TraceArrivals,
    WeibullArrivals,
    Workload,
)

ENOUGH = 12_000
"""Requests after which a run is thinned."""
ALIKE = 0.03
"""Pools may lose or gain this share of their replicas against each other."""


def thinned(result: Result) -> Result | None:
    """Return the fleet and its traffic divided; None where the run is short or cannot be.

    A fleet that fails, scales or is maintained is not divided: its numbers of replicas are stated.

    Only what a simulation needs is changed: replicas, and the scenario's traffic.
    """
    wanted = len(result.records.arrival_s) // ENOUGH
    counts = [use.pool.replicas for use in result.pools]
    workload = result.scenario.workload
    if wanted < 2 or workload is None or result.records.fleet is not None:
        return None
    divisor = next((k for k in range(min(wanted, *counts), 1, -1) if _divides(counts, k)), 1)
    less = divided(workload, divisor)
    run = result.scenario.run
    if divisor == 1 or less is None:
        return None
    if run.requests is not None:
        run = run.model_copy(update={"requests": max(1, run.requests // divisor)})
    if run.warmup_requests:
        run = run.model_copy(update={"warmup_requests": run.warmup_requests // divisor})
    scenario = result.scenario.model_copy(update={"workload": less, "run": run})
    pools = tuple(
        replace(use, pool=replace(use.pool, replicas=round(use.pool.replicas / divisor)))
        for use in result.pools
    )
    return replace(result, scenario=scenario, pools=pools, replicas=pools[-1].pool.replicas)


def _divides(counts: list[int], divisor: int) -> bool:
    """Whether all pools keep their proportions."""
    parts = [n / divisor for n in counts]
    whole = [round(p) for p in parts]
    if min(whole) < 1:
        return False
    gains = [w / p for w, p in zip(whole, parts, strict=True)]
    return max(gains) / min(gains) <= 1 + ALIKE


def divided(workload: Workload, divisor: float) -> Workload | None:
    """The same kind of traffic with a part of its requests; None where nothing says how."""
    arrivals = workload.arrivals
    changed: dict[str, object]
    match arrivals:
        case PoissonArrivals() | GammaArrivals() | WeibullArrivals():
            changed = {"requests_per_s": arrivals.requests_per_s / divisor}
        case SessionArrivals():
            changed = {"sessions_per_s": arrivals.sessions_per_s / divisor}
        case CurveArrivals():
            changed = {"requests_per_s": tuple(r / divisor for r in arrivals.requests_per_s)}
        case ClosedLoopArrivals():
            changed = {"concurrency": max(1, round(arrivals.concurrency / divisor))}
        case TraceArrivals():
            if arrivals.requests_per_s is not None:
                return None
            changed = {"rate_scale": arrivals.rate_scale / divisor}
    return workload.model_copy(update={"arrivals": arrivals.model_copy(update=changed)})
