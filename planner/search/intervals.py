"""Intervals of a plan: what its fleet does if steps are off, and how many devices it would take."""

import math
from dataclasses import replace

import numpy as np

from planner.evaluation import Result, with_intervals
from planner.evaluation.intervals import Interval
from planner.search.plan import Plan
from planner.search.screen import Line, screen
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
    long, each replica may run no more sequences than keep that time, and

    .. math:: n(f) = \left\lceil n \frac{r(1)}{r(f)} \right\rceil

    with the most requests a second ``r`` that a replica then serves.  Dollars go with devices:
    the traffic is what it is.

    References
    ----------
    .. [1] :func:`planner.search.screen.screen` (Little's law at every batch limit).
    """
    found, workload = result.intervals, result.scenario.workload
    if found is None or workload is None or result.apart:
        return result
    traffic = measured_traffic(workload, result.scenario.run)
    if not math.isfinite(traffic.requests_per_s):
        return result
    line = screen(traffic, workload.cached_input_share, result.replica)
    wanted = traffic.requests_per_s / result.replicas
    low, high = (replicas_at(line, wanted, result.replicas, f) for f in found.step_factor)
    devices = low * result.replica.devices, high * result.replica.devices
    usd = tuple(
        {name: _stretched(ends, getattr(cost, name), devices, result.devices)
         for name, ends in each.items()}
        for each, cost in zip(found.usd, result.costs, strict=True)
    )  # fmt: skip
    return replace(result, intervals=replace(found, devices=devices, usd=usd))


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


def _stretched(ends: Interval, value: float, devices: tuple[float, float], own: float) -> Interval:
    """Dollars of a fleet of other size: squares of logarithms added to what the price leaves."""
    if not math.isfinite(value) or value <= 0:
        return ends
    low = math.hypot(math.log(min(ends[0], value) / value), math.log(devices[0] / own))
    high = math.log(devices[1] / own)
    price = max(0.0, -math.log(min(ends[0], value) / value))
    return value * math.exp(-low), value * math.exp(math.hypot(high, price))
