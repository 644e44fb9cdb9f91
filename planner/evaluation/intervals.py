"""90 % intervals of a simulated fleet's headline numbers: how far the truth may be from them.

The time of every step is uncertain by one factor a pool (:mod:`planner.evaluation.spread`).  The
fleet is simulated again with the factor's 5th and 95th percentile and the same requests: near
saturation a latency is a cliff, which no derivative shows.  Where a run is long, a part of the
fleet with its part of the traffic is simulated three times, and ratios are carried over.
Beside the factor: what measured runs show of the time to first token beyond their steps, a doubtful
price, and the sampling noise of the percentiles.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from planner.cost import wh_per_million_tokens
from planner.evaluation.evaluate import resimulate
from planner.evaluation.power_error import widened_power
from planner.evaluation.replica import Replica
from planner.evaluation.result import Result
from planner.evaluation.spread import CONFIDENCE_LOG_SD, Spread, Z, engine_spread, joint, widened
from planner.evaluation.spread import step_spreads as spreads_of
from planner.evaluation.thinning import thinned
from planner.serving import Metrics, Percentiles, Watch
from planner.serving.metrics import STUDENT_T

Interval = tuple[float, float]

LATENCIES = ("ttft_s", "tpot_s", "itl_s", "e2e_s", "queue_s")
WHICH = ("mean", "p50", "p90", "p95", "p99")
RATES = ("requests_per_s", "input_tokens_per_s", "output_tokens_per_s")
PER_MILLION = (
    "usd_per_million_input_tokens", "usd_per_million_output_tokens", "usd_per_million_tokens",
)  # fmt: skip
MOST_RUNS = 3
"""Simulations that the intervals of one answer take at most."""

STUDENT_T90 = 1.7291
"""Student's t at 90 %, 19 degrees of freedom: half-widths are given at 95 %."""

_STEPS = (
    "90 % intervals hold: errors of the engine's fit on runs left out, of kernels and links beyond "
    "those, assumed and doubtful numbers"
)
HOLDS_OF_STEP = f"{_STEPS}."
HOLDS = f"{_STEPS}, and the noise of this simulation."
LEAVES_OUT = (
    "They do not hold: other traffic than stated, experts more unevenly used than stated, "
    "failures, an engine configured otherwise, a price that changes."
)


@dataclass(frozen=True)
class Intervals:
    """90 % intervals; each holds its point value.  An upper end may be infinite."""

    latency: dict[str, dict[str, Interval]]
    """``ttft_s`` -> ``p95`` -> interval. [s]"""
    rates: dict[str, Interval]
    """``output_tokens_per_s`` -> interval, of the whole fleet."""
    goodput_requests_per_s: Interval
    energy: dict[str, Interval]
    """``fleet_w``, ``wh_per_million_tokens``, ``wh_per_million_output_tokens`` -> interval;
    empty where the power is not known."""
    usd: tuple[dict[str, Interval], ...]
    """Of each cost: ``usd_per_hour``, ``usd_per_million_output_tokens`` -> interval."""
    devices: Interval
    """That the promises take; of a fleet that was given, the fleet."""
    step_factor: Interval
    """Time of a step over the predicted one, the last pool's."""
    causes: tuple[tuple[str, tuple[Spread, ...]], ...]
    """Role of a pool -> what makes its steps uncertain."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON beside the numbers that carry their own intervals."""
        return {
            "devices": list(self.devices),
            **{name: list(value) for name, value in (self.rates | self.energy).items()},
            "goodput_requests_per_s": list(self.goodput_requests_per_s),
            **({name: list(value) for name, value in self.usd[0].items()} if self.usd else {}),
            "step_factor": list(self.step_factor),
            "causes": [
                {"pool": role, "name": s.name, "low_factor": math.exp(s.low),
                 "high_factor": math.exp(s.high), "about": s.about}
                for role, found in self.causes
                for s in found
            ],
            "holds": HOLDS,
            "leaves_out": LEAVES_OUT,
        }  # fmt: skip


def with_intervals(
    result: Result, spreads: Callable[..., tuple[Spread, ...]] = spreads_of,
    watch: Watch | None = None,
) -> Result:  # fmt: skip
    """Return the result with 90 % intervals.

    Parameters
    ----------
    spreads : causes of error of a replica's steps.
    watch : is given, before each of at most :data:`MOST_RUNS` runs, what tells how far it is.

    References
    ----------
    .. [1] JCGM 101:2008, "Propagation of distributions" (the model is run at other inputs).
    """
    causes = causes_of(result, spreads)
    factors = [joint(found) for _, found in causes]
    low, high = ([math.exp(f[side]) for f in factors] for side in (0, 1))
    point, fast, slow = _runs_at(result, low, high, watch)
    points = point.metrics
    first = _first_token(result.pools[0].pool.replica, causes[0][1])
    latency = {
        name: {
            which: _latency(name, which, (fast.metrics, points, slow.metrics), first)
            for which in WHICH
        }
        for name in LATENCIES
    }
    rates = {
        name: _around(*(getattr(run.metrics.steady, name) for run in (point, fast, slow)))
        for name in RATES
    }
    good = _around(*(run.metrics.goodput_requests_per_s for run in (point, fast, slow)))
    usd = tuple(_usd(cost, rates, points) for cost in result.costs)
    devices = float(result.devices)
    made = Intervals(
        latency, rates, good, _energy(result, point, fast, slow), usd, (devices, devices),
        (low[-1], high[-1]), tuple(causes),
    )  # fmt: skip
    return replace(result, intervals=made)


def causes_of(
    result: Result, spreads: Callable[..., tuple[Spread, ...]] = spreads_of
) -> list[tuple[str, tuple[Spread, ...]]]:
    """Role of each pool, and what makes its steps uncertain at the mean load of the run.

    References
    ----------
    .. [1] :func:`planner.evaluation.spread.step_spreads`.
    """
    share = result.metrics.prefill_share
    causes: list[tuple[str, tuple[Spread, ...]]] = []
    for use in result.pools:
        weights = {"prefill": (0.0, 1.0), "decode": (1.0, 0.0)}.get(
            use.pool.role, (1 - share, share)
        )
        steps = tuple(zip((result.decode, result.prefill), weights, strict=True))
        causes.append((use.pool.role, spreads(use.pool.replica, steps)))
    return causes


@dataclass(frozen=True, slots=True)
class _Run:
    """What a fleet does with steps of some length."""

    metrics: Metrics
    fleet_w: float | None


def _runs_at(
    result: Result, low: list[float], high: list[float], watch: Watch | None
) -> tuple[_Run, _Run, _Run]:
    """What the whole fleet does, and would do with steps at either end of their factors."""
    point = _Run(result.metrics, result.energy.fleet_w if result.energy else None)
    if all(f == 1.0 for f in (*low, *high)):
        return point, point, point
    part = thinned(result)
    fast, slow = (_Run(*resimulate(part or result, ends, watch)) for ends in (low, high))
    if part is None:
        return point, fast, slow
    base = _Run(*resimulate(part, [1.0] * len(low), watch))
    return point, _carried(point, base, fast), _carried(point, base, slow)


def _carried(whole: _Run, base: _Run, moved: _Run) -> _Run:
    """The whole fleet's numbers, changed as those of its part are."""
    powers = (whole.fleet_w, base.fleet_w, moved.fleet_w)
    power_w = None if None in powers else _scaled(*(p for p in powers if p is not None))
    return _Run(_carried_metrics(whole.metrics, base.metrics, moved.metrics), power_w)


def _carried_metrics(whole: Metrics, base: Metrics, moved: Metrics) -> Metrics:
    changed: dict[str, Any] = {}
    for name in LATENCIES:
        old, ours, new = (getattr(m, name) for m in (whole, base, moved))
        values = {w: _scaled(getattr(old, w), getattr(ours, w), getattr(new, w)) for w in WHICH}
        changed[name] = replace(old, **values)
    rates = {
        name: _scaled(*(getattr(m.steady, name) for m in (whole, base, moved))) for name in RATES
    }
    good = _scaled(*(m.goodput_requests_per_s for m in (whole, base, moved)))
    changed["goodput_requests_per_s"] = good
    return replace(whole, **changed, steady=replace(whole.steady, **rates))


def _energy(result: Result, *runs: _Run) -> dict[str, Interval]:
    """Power and energy at the ends of the factors, with the error of the power law."""
    powers = [run.fleet_w for run in runs if run.fleet_w is not None]
    if len(powers) < len(runs):
        return {}
    flows = [run.metrics.steady for run in runs]
    found = {
        "fleet_w": _around(*powers),
        "wh_per_million_tokens": _around(
            *(wh_per_million_tokens(w, f.input_tokens_per_s + f.output_tokens_per_s)
              for w, f in zip(powers, flows, strict=True))
        ),
        "wh_per_million_output_tokens": _around(
            *(wh_per_million_tokens(w, f.output_tokens_per_s)
              for w, f in zip(powers, flows, strict=True))
        ),
    }  # fmt: skip
    return {name: widened_power(result, name, within) for name, within in found.items()}


def _scaled(value: float, base: float, moved: float) -> float:
    return value * moved / base if base and math.isfinite(base) else max(value, moved)


def _latency(
    name: str, which: str, runs: tuple[Metrics, Metrics, Metrics], first: tuple[float, float]
) -> Interval:
    fast, point, slow = (getattr(getattr(m, name), which) for m in runs)
    if math.isnan(point):
        return (point, point)
    low, high = _around(point, fast, slow)
    if name == "ttft_s":
        low, high = widened(point, (low, high), first)
    return _with_noise(getattr(runs[1], name), which, (low, high))


def _around(point: float, *others: float) -> Interval:
    """Smallest interval that holds all of them."""
    known = [point, *(x for x in others if not math.isnan(x))]
    return min(known), max(known)


def _with_noise(values: Percentiles, which: str, interval: Interval) -> Interval:
    """Add the half-width of the simulated percentile, as squares of logarithms.

    Near saturation it may be as wide as the percentile itself: a latency stays above 0.
    """
    width, point = getattr(values.half_width, which), getattr(values, which)
    if width is None or math.isnan(width) or not point:
        return interval
    noise = width * STUDENT_T90 / STUDENT_T / point
    return widened(point, interval, (-noise, noise))


def _first_token(replica: Replica, causes: tuple[Spread, ...]) -> tuple[float, float]:
    """What is uncertain of a time to first token beside the steps: front end, admission, polls."""
    if not causes:
        return 0.0, 0.0
    own = engine_spread(replica, "mean_ttft_s")
    return own.low, own.high


def _usd(cost: Any, rates: dict[str, Interval], point: Metrics) -> dict[str, Interval]:
    """Dollars at the ends of the rates, and of a doubtful price."""
    log_sd = CONFIDENCE_LOG_SD.get(cost.price.usd_per_device_hour.confidence, 0.0)
    low, high = rates["output_tokens_per_s"]
    rate = point.steady.output_tokens_per_s
    hour = cost.usd_per_hour
    found = {"usd_per_hour": widened(hour, (hour, hour), (-Z * log_sd, Z * log_sd))}
    for name in PER_MILLION:
        value = getattr(cost, name)
        if not math.isfinite(value) or not rate:
            found[name] = (value, value)
            continue
        ends = value * rate / high, value * rate / low if low else math.inf
        found[name] = widened(value, ends, (-Z * log_sd, Z * log_sd))
    return found
