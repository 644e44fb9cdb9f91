"""The answer to one scenario: everything a reader, a plot or a script may want."""

import math
from dataclasses import asdict, dataclass, is_dataclass
from typing import TYPE_CHECKING, Any

from planner.cost import ApiComparison, Cost
from planner.evaluation.assumptions import Assumption
from planner.evaluation.operations_report import OperationsReport
from planner.evaluation.pools import PoolUse
from planner.evaluation.replica import Replica
from planner.evaluation.replications import Replications
from planner.serving import Metrics, Percentiles, Promise, Records, Series, series
from planner.serving.overload import Overload
from planner.serving.series import BINS
from planner.serving.summaries import ClassSummary, PrefixSummary
from planner.specs.scenario import Scenario
from planner.step import Step
from planner.workloads import Traffic

SERIES_BINS = 60
"""Bins of the series in JSON."""

if TYPE_CHECKING:
    from planner.evaluation.intervals import Intervals


@dataclass(frozen=True, slots=True)
class Energy:
    """Mean power of the fleet while it serves, and energy per token."""

    fleet_w: float
    wh_per_million_tokens: float
    """Over input and output tokens."""
    wh_per_million_output_tokens: float


@dataclass(frozen=True, slots=True)
class Day:
    """A whole day of the workload on this fleet, sized for the peak and always on."""

    requests: float
    input_tokens: float
    output_tokens: float
    costs: tuple[Cost, ...]
    apis: tuple[ApiComparison, ...]
    mean_load_share: float
    """Day's mean output tokens over the peak's."""


@dataclass(frozen=True)
class Result:
    """One deployment, simulated."""

    scenario: Scenario
    replica: Replica
    """Of pools apart, the decode pool's."""
    replicas: int
    pools: tuple[PoolUse, ...]
    """Every pool, prefill first."""
    traffic: Traffic
    metrics: Metrics
    records: Records
    overload: Overload | None
    """The queue grows without bound; waits then have no percentiles."""
    decode: Step
    """A decode step at the mean load."""
    prefill: Step
    """A full prefill step."""
    costs: tuple[Cost, ...]
    energy: Energy | None
    day: Day | None
    operations: OperationsReport | None
    """Failures, scaling and maintenance; None: none could happen."""
    assumptions: tuple[Assumption, ...]
    sources: tuple[str, ...]
    wall_s: float
    out_of_reach: tuple[Promise, ...] = ()
    """Promises that no load keeps; the value is that of a request alone on the fleet."""
    intervals: "Intervals | None" = None
    """Of its headline numbers; None: not asked for (:func:`planner.evaluation.with_intervals`)."""
    replications: Replications | None = None
    """None: one run."""

    def series(self, bins: int = BINS) -> Series:
        """The run over time, in bins of equal width."""
        return series(self.records, bins)

    prefix: PrefixSummary | None = None
    """What prefix caches gave; None without them."""
    classes: tuple[ClassSummary, ...] = ()
    """By priority class; empty where all requests are alike."""

    @property
    def cached_input_share(self) -> float:
        """Share of prompt tokens that were not computed: as found, or as the workload states."""
        if self.prefix is not None:
            return self.prefix.hit_token_share
        return self.scenario.workload.cached_input_share if self.scenario.workload else 0.0

    @property
    def devices(self) -> int:
        """Devices of the whole fleet."""
        return sum(use.pool.devices for use in self.pools)

    @property
    def nodes(self) -> float:
        """Nodes of the whole fleet; a fraction where a replica takes part of one."""
        return sum(use.pool.nodes for use in self.pools)

    @property
    def apart(self) -> bool:
        """Whether prompts and answers have pools of their own."""
        return len(self.pools) > 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; keys end in their unit."""
        m, pool = self.metrics, self.replica.pool
        known = self.intervals
        within = known.latency if known else {}
        return {
            "scenario": self.scenario.name,
            "model": self.replica.model.name,
            "system": self.replica.hardware.system.name,
            "deployment": {
                "parallelism": pool.parallelism.model_dump(),
                "label": pool.parallelism.label(),
                "weights": pool.weights,
                "kv": pool.kv,
                "replicas": self.replicas,
                "devices": self.devices,
                "nodes": self.nodes,
            },
            "pools": [use.to_dict() for use in self.pools],
            "wall_s": self.wall_s,
            "requests": len(self.records.arrival_s),
            "warmup": warmup(self.records),
            "counted_requests": m.arrived,
            "finished": m.finished,
            "rejected": m.rejected,
            "unfinished": m.unfinished,
            "lost": m.lost,
            "ttft_s": percentiles(m.ttft_s, within.get("ttft_s")),
            "tpot_s": percentiles(m.tpot_s, within.get("tpot_s")),
            "itl_s": percentiles(m.itl_s, within.get("itl_s")),
            "e2e_s": percentiles(m.e2e_s, within.get("e2e_s")),
            "queue_s": percentiles(m.queue_s, within.get("queue_s")),
            "overload": _overload_dict(self.overload) if self.overload else None,
            "slo_met": m.slo_met,
            "out_of_reach": [promise(p) for p in self.out_of_reach],
            "promises": [promise(p) for p in m.promises],
            "good_share": m.good_share,
            "goodput_requests_per_s": m.goodput_requests_per_s,
            "requests_per_s": m.steady.requests_per_s,
            "input_tokens_per_s": m.steady.input_tokens_per_s,
            "output_tokens_per_s": m.steady.output_tokens_per_s,
            "busy_share": m.busy_share,
            "prefill_share": m.prefill_share,
            "mean_running": m.mean_running,
            "mean_queue": m.mean_queue,
            "max_queue": m.max_queue,
            "mean_kv_share": m.mean_kv_share,
            "memory": self.replica.memory.to_dict(),
            "decode_step": step_dict(self.decode),
            "prefill_step": step_dict(self.prefill),
            "costs": [
                cost_dict(c, known.usd[i] if known else None) for i, c in enumerate(self.costs)
            ],
            "interval90": known.to_dict() if known else None,
            "energy": asdict(self.energy) if self.energy else None,
            "day": _day_dict(self.day) if self.day else None,
            "prefix_cache": self.prefix.to_dict() if self.prefix else None,
            "classes": [class_dict(c) for c in self.classes],
            "operations": self.operations.to_dict() if self.operations else None,
            "assumptions": [asdict(a) for a in self.assumptions],
            "sources": list(self.sources),
            "series": self.series(SERIES_BINS).to_dict(),
            "replications": self.replications.to_dict() if self.replications else None,
        }


def warmup(records: Records) -> dict[str, Any]:
    """What was served before counting began, and when it did."""
    counted = records.counted
    from_s = float(records.arrival_s[counted][0]) if counted.any() else None
    return {"requests_not_counted": int((~counted).sum()), "counted_from_s": from_s}


def percentiles(
    p: Percentiles, within: "dict[str, tuple[float, float]] | None" = None
) -> dict[str, Any]:
    """Percentiles, confidence half-widths, 90 % intervals; null where there is no value.

    Parameters
    ----------
    within : 90 % interval of each.
    """

    def clean(value: float | None) -> float | None:
        return None if value is None or math.isnan(value) else float(value)

    result: dict[str, Any] = {
        name: clean(getattr(p, name)) for name in ("mean", "p50", "p90", "p95", "p99")
    }
    result["count"] = p.count
    result["half_width"] = {name: clean(v) for name, v in asdict(p.half_width).items()}
    if within is not None:
        result["interval90"] = {n: [clean(end) for end in ends] for n, ends in within.items()}
    return result


def class_dict(c: ClassSummary) -> dict[str, Any]:
    """One class and its latencies."""
    return {
        "priority": c.priority, "arrived": c.arrived, "finished": c.finished,
        **{name: percentiles(getattr(c, name)) for name in ("ttft_s", "tpot_s", "e2e_s",
                                                             "queue_s")},
    }  # fmt: skip


def promise(p: Promise) -> dict[str, Any]:
    """One promise and what came of it; an endless latency is null."""
    value = p.value_s if p.value_s < float("inf") else None
    return {"name": p.name, "limit_s": p.limit_s, "value_s": value, "kept": p.kept}


def step_dict(step: Step) -> dict[str, Any]:
    """A step's time, its parts and its speed of light."""
    return {
        "time_s": step.time_s,
        "tokens_per_step": step.tokens,
        "hidden_s": step.hidden_s,
        "bound_s": step.bound_s,
        "bound_by": step.bound_by,
        "by_component_s": step.by_component(),
        "by_bound_s": step.by_bound(),
        "parts": [asdict(p) for p in step.parts],
    }


def cost_dict(cost: Cost, within: "dict[str, tuple[float, float]] | None" = None) -> dict[str, Any]:
    """Cost with its price spelled out; per unit of what was not served it is null."""
    values = {
        name: None if getattr(cost, name) == math.inf else getattr(cost, name)
        for name in cost.__slots__
        if not is_dataclass(getattr(cost, name)) and name != "price"
    }
    return {
        "provider": cost.price.provider,
        "term": cost.price.term,
        "usd_per_device_hour": float(cost.price.usd_per_device_hour),
        "retrieved": cost.price.retrieved,
        **values,
        **({"interval90": {n: list(ends) for n, ends in within.items()}} if within else {}),
    }


def _overload_dict(overload: Overload) -> dict[str, Any]:
    load = overload.load_share
    return asdict(overload) | {"load_share": load if math.isfinite(load) else None}


def _day_dict(day: Day) -> dict[str, Any]:
    return {
        "requests": day.requests,
        "input_tokens": day.input_tokens,
        "output_tokens": day.output_tokens,
        "mean_load_share": day.mean_load_share,
        "costs": [cost_dict(c) for c in day.costs],
        "apis": [
            {
                "name": a.api.name,
                "usd_per_day": a.usd_per_day,
                "own_usd_per_day": a.own_usd_per_day,
                "saving_share": a.saving_share,
            }
            for a in day.apis
        ],
    }
