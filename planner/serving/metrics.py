"""What a run was like: latency percentiles with confidence, throughput, goodput, promises kept.

Definitions, for the requests that arrived after the warm-up:

TTFT : first token - arrival.
TPOT : (finish - first token) / (output tokens - 1); answers of one token have none.
ITL  : gap between two consecutive tokens, pooled over all answers, from a histogram with bins
    0.5 % wide (the mean is exact).
E2E  : finish - arrival.

Percentiles are over requests that got that far.  A request that was rejected, or that the horizon
left without an answer, is infinitely late where promises are checked.

**Confidence.**  Latencies of neighbouring requests are alike, so their scatter says little about
how sure a percentile is.  Half-widths are by batch means: requests in order of arrival are cut
into 20 batches, the statistic is taken in each, and the half-width at 95 % is Student's t (19
degrees of freedom) times the standard error over batches.  Batches too short to hold the
percentile (under ``1 / (1 - p)`` requests) give None.

References
----------
.. [1] A. M. Law, "Simulation Modeling and Analysis", 5th ed., 2015, section 9.5.3.
.. [2] Y. Zhong et al., "DistServe", OSDI 2024 (goodput under latency promises).
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from planner.errors import InputError
from planner.serving.meter import BIN_WIDTH
from planner.serving.records import Records
from planner.specs.workload import Slo

Floats = NDArray[np.float64]

BATCHES = 20
STUDENT_T = 2.0930
"""97.5 % quantile of Student's t with ``BATCHES - 1`` degrees of freedom."""


@dataclass(frozen=True)
class HalfWidths:
    """Half-widths of 95 % confidence intervals, None where the run is too short to tell."""

    mean: float | None
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True)
class Percentiles:
    """A distribution in the unit of the field that holds it; ``nan`` without any value."""

    count: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    half_width: HalfWidths


_UNKNOWN = HalfWidths(None, None, None, None, None)
_NOTHING = Percentiles(0, math.nan, math.nan, math.nan, math.nan, math.nan, _UNKNOWN)
_SHARES = (0.50, 0.90, 0.95, 0.99)


@dataclass(frozen=True)
class Throughput:
    """What was done per second of a window."""

    window_s: float
    requests_per_s: float
    input_tokens_per_s: float
    output_tokens_per_s: float


@dataclass(frozen=True)
class Promise:
    """One limit of an SLO and what came of it; ``value_s`` is infinite if too few were served."""

    name: str
    limit_s: float
    value_s: float

    @property
    def kept(self) -> bool:
        """Whether the value is within the limit (``nan``, nothing to judge, is)."""
        return not self.value_s > self.limit_s


@dataclass(frozen=True)
class Metrics:
    """Summary of a run, warm-up excluded: ``arrived = finished + rejected + unfinished + lost``."""

    arrived: int
    finished: int
    rejected: int
    unfinished: int
    """Running or queued when the horizon stopped the run."""
    ttft_s: Percentiles
    tpot_s: Percentiles
    itl_s: Percentiles
    e2e_s: Percentiles
    queue_s: Percentiles
    """Arrival to admission: the part of TTFT spent waiting for a slot and KV."""
    throughput: Throughput
    """Counted answers over first counted arrival to last counted answer, as load generators do."""
    steady: Throughput
    """All work done from the first counted arrival to the last arrival: without the drain."""
    busy_share: float
    """Share of the steady window in which replicas were in a step."""
    prefill_share: float
    """Share of busy time, whole run, that is there because of prefill."""
    mean_running: float
    """Requests in a slot, all replicas, mean over the steady window."""
    mean_queue: float
    max_queue: int
    mean_kv_share: float
    """KV in use / capacity, mean over the whole run."""
    energy_j: float
    """Of all steps, whole run. [J]"""
    promises: tuple[Promise, ...]
    slo_met: bool
    """Every promise kept (True without any)."""
    good_share: float
    """Share of counted requests within every promised limit (see :func:`request_limits`)."""
    goodput_requests_per_s: float
    """Counted requests within every limit over the time they arrived in: the steady window."""
    lost: int = 0
    """Lost with a failed replica."""

    @property
    def broken(self) -> tuple[Promise, ...]:
        """The promises that were not kept."""
        return tuple(promise for promise in self.promises if not promise.kept)

    def overloaded(self) -> "Metrics":
        """Without what an ever longer queue makes meaningless.

        Waits have no percentiles, and no promise about them is kept.
        """
        promises = tuple(
            promise if promise.name.startswith("tpot") else replace(promise, value_s=math.inf)
            for promise in self.promises
        )
        return replace(
            self, ttft_s=_NOTHING, e2e_s=_NOTHING, queue_s=_NOTHING, promises=promises,
            slo_met=all(promise.kept for promise in promises),
        )  # fmt: skip


def summarise(records: Records, slo: Slo | None = None) -> Metrics:
    """Summarise what happened to the requests after the warm-up.

    Raises
    ------
    InputError
        The warm-up leaves no request to count.
    """
    counted = records.counted
    if not counted.any():
        raise InputError("", "run.warmup_s", "leaves no request to count; shorten it or the run")
    samples, summaries = _latencies(records), latency_percentiles(records, counted)
    throughput = _overall(records)
    promises = _promises(samples, records, slo)
    good = _within(samples, records, slo)
    window = records.steady_window_s()
    busy_s = float(records.busy_s.sum())
    total_kv = records.kv_capacity_tokens
    return Metrics(
        arrived=int(counted.sum()),
        finished=int((counted & records.finished).sum()),
        rejected=int((counted & records.rejected).sum()),
        unfinished=int((counted & (records.running | records.queued)).sum()),
        ttft_s=summaries["ttft"],
        tpot_s=summaries["tpot"],
        itl_s=_gaps(records),
        e2e_s=summaries["e2e"],
        queue_s=summaries["queue"],
        throughput=throughput,
        steady=_steady(records, *window),
        busy_share=records.busy_share(*window),
        prefill_share=float(records.prefill_s.sum()) / busy_s if busy_s else 0.0,
        mean_running=records.mean_running(*window),
        mean_queue=records.mean_queue(*window),
        max_queue=records.max_queue(),
        mean_kv_share=records.mean_kv_tokens() / total_kv,
        energy_j=float(records.energy_j.sum()),
        promises=promises,
        slo_met=all(promise.kept for promise in promises),
        good_share=float(good.mean()),
        goodput_requests_per_s=float(good.sum()) / (window[1] - window[0])
        if window[1] > window[0]
        else 0.0,
        lost=int((counted & records.lost).sum()),
    )


def latency_percentiles(records: Records, which: NDArray[np.bool_]) -> dict[str, Percentiles]:
    """Percentiles of ``ttft``, ``tpot``, ``e2e`` and ``queue`` over some requests. [s]"""
    return {
        name: _percentiles(values[which & np.isfinite(values)])
        for name, values in _latencies(records).items()
    }


def within_limits(records: Records, slo: Slo | None) -> NDArray[np.bool_]:
    """Say for each counted request whether it was answered within every limit."""
    return _within(_latencies(records), records, slo)


def _latencies(records: Records) -> dict[str, Floats]:
    """Return a column a metric, ``nan`` where a request has none. [s]"""
    gaps = records.output_tokens - 1.0
    gaps[gaps == 0] = math.nan
    return {
        "ttft": records.first_token_s - records.arrival_s,
        "tpot": (records.finish_s - records.first_token_s) / gaps,
        "e2e": records.finish_s - records.arrival_s,
        "queue": records.admitted_s - records.arrival_s,
    }


def _percentiles(values: Floats) -> Percentiles:
    """Summarise values in order of arrival."""
    if not len(values):
        return _NOTHING
    p50, p90, p95, p99 = np.quantile(values, _SHARES).tolist()
    widths = [_half_width(values, None), *(_half_width(values, share) for share in _SHARES)]
    return Percentiles(len(values), float(values.mean()), p50, p90, p95, p99, HalfWidths(*widths))


def _half_width(values: Floats, share: float | None) -> float | None:
    """Half-width of the 95 % interval of a quantile, or of the mean, by batch means."""
    size = len(values) // BATCHES
    if size < (1 if share is None else round(1 / (1 - share))):
        return None
    # a remainder goes to the front, where the run is least settled
    batches = values[len(values) - size * BATCHES :].reshape(BATCHES, size)
    points = batches.mean(axis=1) if share is None else np.quantile(batches, share, axis=1)
    return float(STUDENT_T * points.std(ddof=1) / math.sqrt(BATCHES))


def _gaps(records: Records) -> Percentiles:
    """Gaps between tokens from the histogram: a percentile is the geometric middle of its bin."""
    total = int(records.gap_counts.sum())
    if not total:
        return _NOTHING
    up_to = np.cumsum(records.gap_counts)
    ranks = np.ceil(np.array(_SHARES) * total)
    bins = records.gap_bins[np.searchsorted(up_to, ranks)]
    p50, p90, p95, p99 = np.exp((bins + 0.5) * BIN_WIDTH).tolist()
    return Percentiles(total, records.gap_mean_s, p50, p90, p95, p99, _UNKNOWN)


def _overall(records: Records) -> Throughput:
    done = records.counted & records.finished
    if not done.any():
        return Throughput(0.0, 0.0, 0.0, 0.0)
    window_s = float(records.finish_s[done].max() - records.arrival_s[records.counted][0])
    return Throughput(
        window_s,
        float(done.sum()) / window_s,
        float(records.input_tokens[done].sum()) / window_s,
        float(records.output_tokens[done].sum()) / window_s,
    )


def _steady(records: Records, start_s: float, end_s: float) -> Throughput:
    """Count what happens inside the window, whichever request it is for.

    An answer's tokens after the first count as evenly spread from first token to finish.
    """
    window_s = end_s - start_s
    if window_s <= 0:  # nothing was ever served
        return Throughput(0.0, 0.0, 0.0, 0.0)
    first_s, finish_s = records.first_token_s, records.finish_s
    began = (first_s >= start_s) & (first_s <= end_s)
    ended = (finish_s >= start_s) & (finish_s <= end_s)
    last_s = records.left_s
    spread = last_s > first_s
    first_s, last_s = first_s[spread], last_s[spread]
    inside_s = np.clip(last_s, start_s, end_s) - np.clip(first_s, start_s, end_s)
    later = (records.produced_tokens[spread] - 1) * inside_s / (last_s - first_s)
    return Throughput(
        window_s,
        float(ended.sum()) / window_s,
        float(records.input_tokens[began].sum()) / window_s,
        float(began.sum() + later.sum()) / window_s,
    )


def request_limits(slo: Slo | None) -> dict[str, float]:
    """Return the limit a single request is held to, by metric. [s]

    The 95th percentile's where that is promised, else that of the highest percentile promised.
    """
    limits: dict[str, dict[int, float]] = {}
    for metric, percent, limit_s in _promised(slo):
        limits.setdefault(metric, {})[percent] = limit_s
    return {metric: by.get(95, by[max(by)]) for metric, by in limits.items()}


def _promised(slo: Slo | None) -> list[tuple[str, int, float]]:
    """Read ``ttft_p95_s: 2`` as ("ttft", 95, 2.0)."""
    if slo is None:
        return []
    promised = []
    for name, limit_s in slo:
        if limit_s is not None:
            metric, percent = name.removesuffix("_s").split("_p")
            promised.append((metric, int(percent), float(limit_s)))
    return promised


def _promises(samples: dict[str, Floats], records: Records, slo: Slo | None) -> tuple[Promise, ...]:
    unserved = records.counted & ~records.finished
    promises = []
    for metric, percent, limit_s in _promised(slo):
        values = samples[metric]
        served = values[records.counted & np.isfinite(values)]
        late = int((unserved & ~np.isfinite(values)).sum())
        value_s = _quantile_with_late(served, late, percent / 100)
        promises.append(Promise(f"{metric}_p{percent}_s", limit_s, value_s))
    return tuple(promises)


def _quantile_with_late(values: Floats, late: int, share: float) -> float:
    """Return the quantile of the values and of ``late`` infinite ones."""
    if not len(values):
        return math.inf if late else math.nan
    rank = share * (len(values) + late - 1)
    if math.ceil(rank) >= len(values):
        return math.inf if late else float(values.max())
    return float(np.quantile(values, rank / (len(values) - 1) if len(values) > 1 else 0.0))


def _within(samples: dict[str, Floats], records: Records, slo: Slo | None) -> NDArray[np.bool_]:
    """Say for each counted request whether it was answered within every limit."""
    good = records.finished.copy()
    for metric, limit_s in request_limits(slo).items():
        good &= ~(samples[metric] > limit_s)
    return good[records.counted]
