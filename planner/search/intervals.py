"""Intervals of a plan: what its fleet does if steps are off, and how many devices it would take."""

import math
from collections.abc import Sequence
from dataclasses import replace

from planner.cost import Cost
from planner.evaluation import FleetPool, Result, with_intervals
from planner.evaluation.intervals import Interval
from planner.evaluation.power_error import widened_power
from planner.evaluation.spread import joint
from planner.search.plan import Plan
from planner.search.slower import replicas_of, usd_per_replica_hour
from planner.workloads import measured_traffic


def plan_intervals(plan: Plan) -> Plan:
    """Return the plan with 90 % intervals of its best fleet, devices and dollars by closed form."""
    if plan.best is None:
        return plan
    best = sized(with_intervals(plan.best))
    options = tuple(best if each is plan.best else each for each in plan.options)
    return replace(plan, best=best, options=options)


def sized(result: Result) -> Result:
    r"""Replace the fleet's own size by what the same promises take, steps being off.

    The fleet that was found keeps a time per token at its load.  If steps take ``f`` times as
    long, each replica may run no more sequences than keep that time, or the promise where there
    is room, and

    .. math:: n(f) = \left\lceil n \frac{r(1)}{r(f)} \right\rceil

    with the most requests a second ``r`` that a replica then serves.  A pool that only computes
    prompts keeps its time to first token.  Each pool has its own factor; both are off at the same
    time, as in the simulated intervals.  Dollars go with what the pools' devices cost: the
    traffic is what it is.

    References
    ----------
    .. [1] :func:`planner.search.slower.replicas_at`, ``prefill_replicas_at``.
    """
    found, workload = result.intervals, result.scenario.workload
    if found is None or workload is None:
        return result
    traffic = measured_traffic(workload, result.scenario.run)
    if not math.isfinite(traffic.requests_per_s):
        return result
    pools = [use.pool for use in result.pools]
    ends = []
    for pool, (_, causes) in zip(pools, found.causes, strict=True):
        at = replicas_of(result, pool)
        low, high = (at(math.exp(end)) for end in joint(causes))
        ends.append((low, high))
    devices = _sum_of(ends, [pool.replica.devices for pool in pools])
    usd = tuple(
        {name: _stretched(within, getattr(cost, name), _growth(pools, ends, cost))
         for name, within in each.items()}
        for each, cost in zip(found.usd, result.costs, strict=True)
    )  # fmt: skip
    growth = devices[0] / result.devices, devices[1] / result.devices
    energy = {name: _of_size(result, name, growth) for name in found.energy}
    return replace(result, intervals=replace(found, devices=devices, usd=usd, energy=energy))


def _of_size(result: Result, name: str, growth: Interval) -> Interval:
    """Power and energy of a fleet of other size, as busy: they go with the devices."""
    value = getattr(result.energy, name)
    return widened_power(result, name, (value * min(1.0, growth[0]), value * max(1.0, growth[1])))


def _sum_of(ends: Sequence[Interval], weights: Sequence[float]) -> Interval:
    low, high = (sum(w * e[i] for w, e in zip(weights, ends, strict=True)) for i in (0, 1))
    return low, high


def _growth(pools: Sequence[FleetPool], ends: Sequence[Interval], cost: Cost) -> Interval:
    """Dollars of the pools at both ends over what they are, at one offer's prices."""
    each = usd_per_replica_hour(pools, cost)
    own = sum(w * pool.replicas for w, pool in zip(each, pools, strict=True))
    low, high = _sum_of(ends, each)
    return low / own, high / own


def _stretched(ends: Interval, value: float, growth: Interval) -> Interval:
    """Dollars of a fleet of other size: squares of logarithms added to what the price leaves."""
    if not math.isfinite(value) or value <= 0:
        return ends
    price = max(0.0, -math.log(min(ends[0], value) / value))
    low = math.hypot(price, math.log(growth[0]))
    return value * math.exp(-low), value * math.exp(math.hypot(math.log(growth[1]), price))
