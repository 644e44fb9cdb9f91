r"""The same scenario over and over with other seeds: how sure a percentile is.

Batch means (``planner.serving.metrics``) judge one run by its own parts; independent replications
ask the question again.  Replication 0 has the scenario's own seed, the others have seeds spawned
from it; each drops the same warm-up.  With values :math:`x_1 \dots x_n` of a statistic, the
interval is :math:`\bar x \pm t_{n-1}\, s / \sqrt n`.

References
----------
.. [1] A. M. Law, "Simulation Modeling and Analysis", 5th ed., 2015, sections 9.4.1 and 9.5.2.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from planner.errors import InputError
from planner.serving import Metrics
from planner.specs.workload import TraceArrivals, Workload

LATENCIES = ("ttft_s", "tpot_s", "itl_s", "e2e_s", "queue_s")
STATISTICS = ("mean", "p50", "p90", "p95", "p99")
SINGLE = ("good_share", "goodput_requests_per_s", "busy_share", "mean_kv_share", "mean_queue")
LEVELS = (0.90, 0.95)


@dataclass(frozen=True, slots=True)
class Interval:
    """Mean of a statistic over replications, and how far the true mean may be off."""

    mean: float
    half_width_90: float
    """Half-width of the 90 % confidence interval."""
    half_width_95: float
    values: tuple[float, ...]
    """One a replication."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True)
class Replications:
    """What independent replications of one scenario give."""

    seeds: tuple[int, ...]
    intervals: dict[str, Interval]
    """By name: ``ttft_s.p95``, ``good_share``, ``output_tokens_per_s``."""
    kept: dict[str, int]
    """By promise: in how many replications it was kept."""
    slo_met: int
    """Replications in which every promise was kept."""

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.seeds)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "count": self.count,
            "seeds": list(self.seeds),
            "slo_met": self.slo_met,
            "kept": dict(self.kept),
            "intervals": {name: found.to_dict() for name, found in self.intervals.items()},
        }


def seeds_of(seed: int, count: int) -> tuple[int, ...]:
    """Seeds of replications: the scenario's own, and ones spawned from it.

    >>> seeds_of(1, 3) == seeds_of(1, 5)[:3], seeds_of(1, 1)
    (True, (1,))
    """
    children = np.random.SeedSequence(seed).spawn(max(0, count - 1))
    return (seed, *(int(child.generate_state(1)[0]) for child in children))


def require_chance(workload: Workload, count: int) -> None:
    """Refuse replications that would tell nothing.

    Raises
    ------
    InputError
        Less than two, or a trace that is played as recorded.
    """
    if count < 2:
        raise InputError("", "replications", f"must be at least 2, got {count}")
    arrivals = workload.arrivals
    if isinstance(arrivals, TraceArrivals) and not (
        arrivals.requests_per_s is not None
        or arrivals.resample_block_s is not None
        or arrivals.rate_scale != 1
    ):
        raise InputError(
            "", "replications",
            "of a trace that is played as recorded are all alike; resample it "
            "(workload.arrivals.horizon_s and resample_block_s) or give requests_per_s",
        )  # fmt: skip


def gather(seeds: Sequence[int], runs: Sequence[Metrics]) -> Replications:
    """Set the summaries of replications side by side."""
    values: dict[str, list[float]] = {}
    for metrics in runs:
        for name, value in _statistics(metrics).items():
            values.setdefault(name, []).append(value)
    quantiles = _student_t(len(runs) - 1)
    kept: dict[str, int] = {}
    for metrics in runs:
        for promise in metrics.promises:
            kept[promise.name] = kept.get(promise.name, 0) + promise.kept
    return Replications(
        tuple(seeds),
        {name: _interval(found, quantiles) for name, found in values.items()},
        kept,
        sum(metrics.slo_met for metrics in runs),
    )


def _statistics(metrics: Metrics) -> dict[str, float]:
    found = {
        f"{latency}.{statistic}": float(getattr(getattr(metrics, latency), statistic))
        for latency in LATENCIES
        for statistic in STATISTICS
    }
    found |= {name: float(getattr(metrics, name)) for name in SINGLE}
    steady = metrics.steady
    found |= {
        name: getattr(steady, name)
        for name in ("requests_per_s", "input_tokens_per_s", "output_tokens_per_s")
    }
    return {name: value for name, value in found.items() if not math.isnan(value)}


def _student_t(freedom: int) -> tuple[float, float]:
    """Two-sided quantiles of Student's t for 90 and 95 %."""
    from scipy.special import stdtrit

    low, high = (float(stdtrit(freedom, 0.5 + level / 2)) for level in LEVELS)
    return low, high


def _interval(values: Sequence[float], quantiles: tuple[float, float]) -> Interval:
    found = np.array(values)
    error = float(found.std(ddof=1)) / math.sqrt(len(found)) if len(found) > 1 else math.nan
    return Interval(
        float(found.mean()), quantiles[0] * error, quantiles[1] * error, tuple(found.tolist())
    )
