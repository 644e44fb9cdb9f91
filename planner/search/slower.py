"""A fleet whose steps take longer than thought: how many replicas its promises then take."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from planner.cost import Cost
from planner.evaluation import FleetPool, Result, need_workload
from planner.search.prompts import busy_share, screen_prompts, ttft_limit
from planner.search.screen import Line, screen
from planner.workloads import measured_traffic


def replicas_of(result: Result, pool: FleetPool) -> Callable[[float], float]:
    """Return replicas of one pool by the factor of its steps: 1 gives what it has.

    Raises
    ------
    InputError
        The scenario has no workload.
    """
    workload = need_workload(result.scenario)
    traffic, share = measured_traffic(workload, result.scenario.run), workload.cached_input_share
    replica, n = pool.replica, pool.replicas
    if pool.role == "prefill":
        alone_s = screen_prompts(traffic, share, replica).alone_s
        limit_s = ttft_limit(result.scenario.slo)
        return lambda factor: prefill_replicas_at(alone_s, limit_s, n, factor)
    line, room = screen(traffic, share, replica, pool.role), headroom(result)
    return lambda factor: replicas_at(line, traffic.requests_per_s / n, n, factor, room)


def headroom(result: Result) -> float:
    """Times as long that a token may take until the first promise on it breaks; at least 1."""
    paces = [p for p in result.metrics.promises if p.name.startswith("tpot") and p.value_s > 0]
    return max(1.0, min((p.limit_s / p.value_s for p in paces), default=1.0))


def usd_per_replica_hour(pools: Sequence[FleetPool], cost: Cost) -> list[float]:
    """Dollars of a replica of each pool at one offer's prices. [USD/h]"""
    offer = cost.price.provider, cost.price.term
    prices = [
        next(
            float(p.usd_per_device_hour)
            for p in pool.replica.hardware.prices
            if (p.provider, p.term) == offer
        )
        for pool in pools
    ]
    return [price * pool.replica.devices for price, pool in zip(prices, pools, strict=True)]


def replicas_at(
    line: Line, requests_per_s: float, replicas: int, factor: float, room: float = 1.0
) -> float:
    """Replicas that keep the time per token with steps ``factor`` times as long.

    Parameters
    ----------
    requests_per_s : that each of the ``replicas`` serves.
    room : times as long that a token may take than it does; longer steps use it up first.

    Returns
    -------
    A whole number; infinite where not even a single sequence is fast enough.

    References
    ----------
    .. [1] :func:`planner.search.screen.screen` (Little's law at every batch limit).
    """
    rates, paces = line.requests_per_s, line.tpot_s
    enough = np.flatnonzero(rates >= requests_per_s)
    at = int(enough[0]) if len(enough) else int(np.argmax(rates))
    room = max(1.0, room) if factor > 1 else 1.0
    keeps = paces * factor <= paces[at] * room * (1 + 1e-9)
    if not keeps.any():
        return math.inf
    most = float(np.max(np.where(keeps, rates, 0.0))) / factor
    needed = replicas * float(rates[at]) / most
    fewest = replicas if factor > 1 else 1
    return float(max(fewest, math.ceil(needed - 1e-9)))


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
