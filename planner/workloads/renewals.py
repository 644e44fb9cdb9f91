"""Arrivals with independent gaps: exponential, gamma, Weibull."""

import math
from collections.abc import Callable

import numpy as np

from planner.errors import InputError
from planner.specs.requests import Floats, RequestTable
from planner.specs.workload import GammaArrivals, PoissonArrivals, Run, WeibullArrivals

Gaps = Callable[[int], Floats]
"""Draws so many gaps. [s]"""


def renewals(
    arrivals: PoissonArrivals | GammaArrivals | WeibullArrivals, run: Run, rng: np.random.Generator
) -> Floats:
    """Times of arrival until the run is over. [s]

    Raises
    ------
    InputError
        The run has no end.
    """
    if run.requests is None and run.duration_s is None:
        raise InputError(
            "", "run.requests",
            f"{arrivals.kind} arrivals never end; give run.requests or run.duration_s",
        )  # fmt: skip
    mean_s = 1.0 / arrivals.requests_per_s
    gaps = _gaps(arrivals, mean_s, rng)
    if run.requests is not None:
        times = np.cumsum(gaps(run.requests))
        return times if run.duration_s is None else times[times < run.duration_s]
    assert run.duration_s is not None
    blocks, last_s = [], 0.0
    while last_s < run.duration_s:
        block = last_s + np.cumsum(gaps(64 + math.ceil((run.duration_s - last_s) / mean_s)))
        blocks.append(block)
        last_s = float(block[-1])
    times = np.concatenate(blocks)
    return times[times < run.duration_s]


def _gaps(
    arrivals: PoissonArrivals | GammaArrivals | WeibullArrivals,
    mean_s: float,
    rng: np.random.Generator,
) -> Gaps:
    match arrivals:
        case PoissonArrivals():
            return lambda n: rng.exponential(mean_s, n)
        case GammaArrivals():
            shape = arrivals.cv**-2
            return lambda n: rng.gamma(shape, mean_s / shape, n)
        case WeibullArrivals():
            weibull = weibull_shape(arrivals.cv)
            scale_s = mean_s / math.gamma(1 + 1 / weibull)
            return lambda n: scale_s * rng.weibull(weibull, n)


def weibull_shape(cv: float) -> float:
    r"""Shape :math:`k` of a Weibull distribution with this coefficient of variation.

    .. math:: c^2 = \Gamma(1 + 2/k) / \Gamma(1 + 1/k)^2 - 1, falling in :math:`k`; bisected.

    Examples
    --------
    >>> round(weibull_shape(1.0), 9)
    1.0
    """
    low, high = 0.05, 100.0
    for _ in range(100):
        middle = math.sqrt(low * high)
        log_ratio = math.lgamma(1 + 2 / middle) - 2 * math.lgamma(1 + 1 / middle)
        if log_ratio > math.log1p(cv * cv):
            low = middle
        else:
            high = middle
    return low


def cut(table: RequestTable, run: Run) -> RequestTable:
    """Keep what arrives before ``run.duration_s``, at most ``run.requests``; never nothing."""
    count = len(table)
    if run.duration_s is not None:
        count = int(np.searchsorted(table.arrival_s, run.duration_s, side="left"))
    if run.requests is not None:
        count = min(count, run.requests)
    if not count:
        raise InputError(
            "", "run.duration_s", "no request arrives in this time; give a longer one or a seed"
        )
    return table if count == len(table) else table.take(np.arange(count))
