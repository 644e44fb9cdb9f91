"""What moves the cost of a plan's fleet, one cause at a time, by closed form."""

import math
from dataclasses import dataclass

from planner.evaluation import Result
from planner.evaluation.spread import CONFIDENCE_LOG_SD, Z, joint
from planner.search.slower import replicas_of, usd_per_replica_hour

TRAFFIC = 0.8, 1.25
"""A fifth less traffic, a quarter more: a yardstick beside the causes, nobody's forecast."""


@dataclass(frozen=True, slots=True)
class Move:
    """The fleet's cost with one thing at its 5th and 95th percentile, the rest as predicted."""

    name: str
    low_factor: float
    high_factor: float
    low_usd_per_hour: float
    high_usd_per_hour: float
    """Infinite where no number of replicas keeps the promises."""

    @property
    def swing(self) -> float:
        """How far the cost moves. [USD/h]"""
        return self.high_usd_per_hour - self.low_usd_per_hour


def moves(result: Result) -> tuple[Move, ...]:
    """Every cause of the intervals, the traffic and a doubtful price, the widest first.

    Empty without intervals or without a price.

    References
    ----------
    .. [1] :func:`planner.search.slower.replicas_of`.
    """
    found = result.intervals
    if found is None or not result.costs or result.scenario.workload is None:
        return ()
    if not math.isfinite(result.traffic.requests_per_s):
        return ()
    cost, pools = result.costs[0], [use.pool for use in result.pools]
    usd, at = usd_per_replica_hour(pools, cost), [replicas_of(result, pool) for pool in pools]

    def fleet(factors: list[float]) -> float:
        return sum(each * n(f) for each, n, f in zip(usd, at, factors, strict=True))

    rows = []
    for name in dict.fromkeys(s.name for _, spreads in found.causes for s in spreads):
        logs = [joint(s for s in spreads if s.name == name) for _, spreads in found.causes]
        low, high = ([math.exp(each[end]) for each in logs] for end in (0, 1))
        rows.append(Move(name, min(low), max(high), fleet(low), fleet(high)))
    low_usd, high_usd = (
        sum(each * math.ceil(pool.replicas * f - 1e-9)
            for each, pool in zip(usd, pools, strict=True))
        for f in TRAFFIC
    )  # fmt: skip
    rows.append(Move("requests a second", *TRAFFIC, low_usd, high_usd))
    log_sd = CONFIDENCE_LOG_SD.get(cost.price.usd_per_device_hour.confidence, 0.0)
    if log_sd:
        ends = math.exp(-Z * log_sd), math.exp(Z * log_sd)
        own = fleet([1.0] * len(pools))
        rows.append(Move("price", *ends, own * ends[0], own * ends[1]))
    return tuple(sorted(rows, key=lambda move: -move.swing))
