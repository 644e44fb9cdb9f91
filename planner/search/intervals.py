"""Intervals of a plan: what its fleet does if steps are off, and how many devices it would take."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from planner.cost import Cost
from planner.evaluation import FleetPool, Result, with_intervals
from planner.evaluation.intervals import Interval
from planner.evaluation.spread import joint
from planner.search.plan import Plan
from planner.search.prompts import busy_share, screen_prompts, ttft_limit
from planner.search.screen import Line, screen
from planner.workloads import Traffic, measured_traffic


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
    long, each replica may run no more sequences than keep that time, and

    .. math:: n(f) = \left\lceil n \frac{r(1)}{r(f)} \right\rceil

    with the most requests a second ``r`` that a replica then serves.  A pool that only computes
    prompts keeps its time to first token (:func:`prefill_replicas_at`).  Each pool has its own
    factor; both are off at the same time, as in the simulated intervals.  Dollars go with what
    the pools' devices cost: the traffic is what it is.

    References
    ----------
    .. [1] :func:`planner.search.screen.screen` (Little's law at every batch limit).
    """
    found, workload = result.intervals, result.scenario.workload
    if found is None or workload is None:
        return result
    traffic = measured_traffic(workload, result.scenario.run)
    if not math.isfinite(traffic.requests_per_s):
        return result
    pools = [use.pool for use in result.pools]
    ends = [
        _ends(result, traffic, pool, joint(causes))
        for pool, (_, causes) in zip(pools, found.causes, strict=True)
    ]
    devices = _sum_of(ends, [pool.replica.devices for pool in pools])
    usd = tuple(
        {name: _stretched(within, getattr(cost, name), _growth(pools, ends, cost))
         for name, within in each.items()}
        for each, cost in zip(found.usd, result.costs, strict=True)
    )  # fmt: skip
    return replace(result, intervals=replace(found, devices=devices, usd=usd))


def _ends(result: Result, traffic: Traffic, pool: FleetPool, logs: Interval) -> Interval:
    """Replicas of one pool at the ends of its own step factor."""
    low, high = (math.exp(end) for end in logs)
    workload = result.scenario.workload
    share = workload.cached_input_share if workload else 0.0
    replica, n = pool.replica, pool.replicas
    if pool.role == "prefill":
        alone_s = screen_prompts(traffic, share, replica).alone_s
        limit_s = ttft_limit(result.scenario.slo)
        return (
            prefill_replicas_at(alone_s, limit_s, n, low),
            prefill_replicas_at(alone_s, limit_s, n, high),
        )
    line, wanted = screen(traffic, share, replica, pool.role), traffic.requests_per_s / n
    return replicas_at(line, wanted, n, low), replicas_at(line, wanted, n, high)


def _sum_of(ends: Sequence[Interval], weights: Sequence[float]) -> Interval:
    low, high = (sum(w * e[i] for w, e in zip(weights, ends, strict=True)) for i in (0, 1))
    return low, high


def _growth(pools: Sequence[FleetPool], ends: Sequence[Interval], cost: Cost) -> Interval:
    """Dollars of the pools at both ends over what they are, at one offer's prices."""
    offer = cost.price.provider, cost.price.term
    prices = [
        next(
            (float(p.usd_per_device_hour) for p in pool.replica.hardware.prices
             if (p.provider, p.term) == offer),
            1.0,
        )
        for pool in pools
    ]  # fmt: skip
    each = [p * pool.replica.devices for p, pool in zip(prices, pools, strict=True)]
    own = sum(w * pool.replicas for w, pool in zip(each, pools, strict=True))
    low, high = _sum_of(ends, each)
    return low / own, high / own


def prefill_replicas_at(alone_s: float, limit_s: float, replicas: int, factor: float) -> float:
    r"""Prefill replicas that keep the time to first token with steps ``factor`` times as long.

    A replica computes prompts at a rate :math:`r / f`, and a prompt alone takes :math:`f s`, so
    that less of the promise ``T`` is left for waiting: by the mean of a queue with one server,
    :math:`W = s / (1 - \rho) \le T`, the share of time it may compute is
    :math:`\rho(f) = 1 - f s / T` (:func:`planner.search.prompts.busy_share`), and

    .. math:: n(f) = \left\lceil n f \frac{\rho(1)}{\rho(f)} \right\rceil

    Parameters
    ----------
    alone_s : a mean prompt, nobody else there. [s]
    limit_s : promise on the first token; infinite without one. [s]

    Returns
    -------
    A whole number; infinite where not even a prompt alone is fast enough.

    References
    ----------
    .. [1] L. Kleinrock, "Queueing Systems", vol. 1, Wiley, 1975, section 3.2 (M/M/1).
    """
    if factor * alone_s >= max(limit_s, alone_s * (1 + 1e-9)):
        return math.inf
    needed = replicas * factor * busy_share(alone_s, limit_s)
    needed /= busy_share(factor * alone_s, limit_s)
    return float(max(1, math.ceil(needed - 1e-9)))


def replicas_at(line: Line, requests_per_s: float, replicas: int, factor: float) -> float:
    """Replicas that keep the time per token with steps ``factor`` times as long.

    Parameters
    ----------
    requests_per_s : that each of the ``replicas`` serves.

    Returns
    -------
    A whole number; infinite where not even a single sequence is fast enough.

    References
    ----------
    .. [1] :func:`sized`.
    """
    rates, paces = line.requests_per_s, line.tpot_s
    enough = np.flatnonzero(rates >= requests_per_s)
    at = int(enough[0]) if len(enough) else int(np.argmax(rates))
    keeps = paces * factor <= paces[at] * (1 + 1e-9)
    if not keeps.any():
        return math.inf
    most = float(np.max(np.where(keeps, rates, 0.0))) / factor
    needed = replicas * float(rates[at]) / most
    return float(max(1, math.ceil(needed - 1e-9)))


def _stretched(ends: Interval, value: float, growth: Interval) -> Interval:
    """Dollars of a fleet of other size: squares of logarithms added to what the price leaves."""
    if not math.isfinite(value) or value <= 0:
        return ends
    price = max(0.0, -math.log(min(ends[0], value) / value))
    low = math.hypot(price, math.log(growth[0]))
    return value * math.exp(-low), value * math.exp(math.hypot(math.log(growth[1]), price))
