"""plan(Scenario) -> Plan: the cheapest fleet that keeps its promises, and why not the others."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from planner.errors import InfeasibleError, InputError
from planner.evaluation import Replica, Result, Served, build, need_workload, result, serve
from planner.search.candidates import Candidate, candidates
from planner.search.screen import Estimate, estimate
from planner.specs.scenario import Scenario
from planner.specs.workload import Workload
from planner.workloads import measured_traffic

SIMULATED = 4
"""Candidates that are simulated: the cheapest by the closed form."""

OVERLOAD_HORIZON = 2.5
"""A trial run is given up after this many times its arrival span: the load is too high."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a candidate was refused: which limit, by how much."""

    label: str
    stage: str
    """``fit`` (memory, divisibility, precision), ``screen`` (closed form) or ``simulation``."""
    limit: str
    needed: float | None
    available: float | None
    unit: str
    advice: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True)
class Plan:
    """Ranked answers to one question."""

    scenario: Scenario
    best: Result | None
    """Cheapest fleet that keeps every promise; None: none does within ``space``."""
    options: tuple[Result, ...]
    """Every fleet that keeps its promises in simulation, cheapest first."""
    rejections: tuple[Rejection, ...]
    estimates: tuple[tuple[str, Estimate], ...]
    """Closed-form estimate of every candidate that fits."""
    screened: int
    wall_s: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "scenario": self.scenario.name,
            "best": self.best.to_dict() if self.best else None,
            "options": [_option(result) for result in self.options],
            "rejections": [rejection.to_dict() for rejection in self.rejections],
            "screened": self.screened,
            "wall_s": self.wall_s,
        }


def _option(result: Result) -> dict[str, Any]:
    m, cost = result.metrics, result.costs[0] if result.costs else None
    return {
        "label": result.replica.pool.parallelism.label(),
        "weights": result.replica.pool.weights,
        "kv": result.replica.pool.kv,
        "replicas": result.replicas,
        "nodes": result.nodes,
        "ttft_p95_s": m.ttft_s.p95,
        "tpot_p95_s": m.tpot_s.p95,
        "usd_per_hour": cost.usd_per_hour if cost else None,
        "usd_per_million_output_tokens": cost.usd_per_million_output_tokens if cost else None,
    }


def plan(scenario: Scenario) -> Plan:
    """Find the smallest fleet on the scenario's first system that keeps the SLO.

    Every layout that fits is estimated in closed form; the most promising are simulated with
    common random numbers, each at the fewest replicas that keep every promise.

    Raises
    ------
    InputError
        No workload, or an SLO without any promise.
    InfeasibleError
        Nothing fits the hardware at all.
    """
    start_s = time.perf_counter()
    workload = need_workload(scenario)
    if all(limit is None for _, limit in scenario.slo):
        raise InputError(scenario.name, "slo", "promises nothing; give e.g. ttft_p95_s")
    rejections: list[Rejection] = []
    fitting = list(_fitting(scenario, rejections))
    if not fitting:
        raise _nothing_fits(rejections)
    ranked = sorted(
        ((estimate(scenario, workload, replica), replica) for replica in fitting),
        key=lambda pair: (pair[0].devices, pair[1].devices),
    )
    results: list[Result] = []
    for number, (guess, replica) in enumerate(ranked):
        if number >= SIMULATED or not math.isfinite(guess.devices):
            rejections.append(_screened_out(guess, replica, ranked[0][0]))
            continue
        found = _smallest(scenario, workload, replica, guess, rejections)
        if found:
            results.append(found)
    results.sort(key=lambda r: (r.devices, r.metrics.tpot_s.p95))
    return Plan(
        scenario=scenario,
        best=results[0] if results else None,
        options=tuple(results),
        rejections=tuple(rejections),
        estimates=tuple((name(replica), guess) for guess, replica in ranked),
        screened=len(fitting) + len(rejections) - _late(rejections),
        wall_s=time.perf_counter() - start_s,
    )


def name(replica: Replica) -> str:
    """Short name of a layout: ``DP8 EP8, fp8 weights, bf16 KV``."""
    pool = replica.pool
    return f"{pool.parallelism.label()}, {pool.weights} weights, {pool.kv} KV"


def _late(rejections: list[Rejection]) -> int:
    return sum(1 for r in rejections if r.stage != "fit")


def _fitting(scenario: Scenario, rejections: list[Rejection]) -> Iterator[Replica]:
    for candidate in candidates(scenario):
        try:
            replica = build(scenario.model, scenario.hardware[0], candidate.pool, scenario.routing)
            replica.memory.require()
        except InfeasibleError as error:
            rejections.append(_infeasible(candidate, "fit", error))
        except InputError as error:
            rejections.append(Rejection(candidate.label, "fit", error.problem, None, None, "", ""))
        else:
            yield replica


def _infeasible(candidate: Candidate, stage: str, error: InfeasibleError) -> Rejection:
    return Rejection(
        candidate.label, stage, error.limit, error.needed, error.available, error.unit, error.advice
    )


def _screened_out(guess: Estimate, replica: Replica, best: Estimate) -> Rejection:
    if not math.isfinite(guess.devices):
        return Rejection(
            name(replica), "screen", guess.limit, guess.needed, guess.available, guess.unit,
            "a faster layout, or a looser promise",
        )  # fmt: skip
    return Rejection(
        name(replica), "screen", "devices by closed form", guess.devices, best.devices, "devices",
        "more expensive than the ones simulated",
    )  # fmt: skip


def _nothing_fits(rejections: list[Rejection]) -> InfeasibleError:
    """The refusal that came closest."""
    memory = [r for r in rejections if r.limit == "HBM per device" and r.needed]
    if memory:
        nearest = min(memory, key=lambda r: (r.needed or 0) / (r.available or 1))
        return InfeasibleError(
            f"no layout fits; nearest is {nearest.label}: {nearest.limit}",
            nearest.needed or 0.0,
            nearest.available or 0.0,
            nearest.unit,
            "allow more nodes a replica (space.max_nodes_per_replica) or fewer bits a weight",
        )
    first = rejections[0]
    return InfeasibleError(
        f"no layout fits; {first.label}: {first.limit}",
        first.needed or 0.0, first.available or 0.0, first.unit, first.advice,
    )  # fmt: skip


def _smallest(
    scenario: Scenario, workload: Workload, replica: Replica, guess: Estimate,
    rejections: list[Rejection],
) -> Result | None:  # fmt: skip
    """Fewest replicas that keep every promise: gallop up from the estimate, then bisect."""
    most = scenario.space.max_nodes * scenario.hardware[0].system.devices_per_node
    ceiling = max(1, most // replica.devices)
    span_s = measured_traffic(workload, scenario.run).duration_s + scenario.run.warmup_s
    horizon_s = OVERLOAD_HORIZON * span_s if math.isfinite(span_s) else None
    kept: dict[int, Served] = {}

    def keeps(replicas: int) -> bool:
        served = serve(scenario, workload, replica, replicas, horizon_s)
        kept[replicas] = served
        return served[1].slo_met

    low, high = 0, min(ceiling, max(1, guess.replicas))
    while not keeps(high):
        if high >= ceiling:
            worst = max(kept[high][1].broken, key=lambda p: p.value_s / p.limit_s)
            rejections.append(
                Rejection(
                    name(replica), "simulation", worst.name, worst.value_s, worst.limit_s, "s",
                    f"not even {high} replicas ({most} devices, space.max_nodes) keep it",
                )
            )  # fmt: skip
            return None
        low, high = high, min(ceiling, max(high + 1, math.ceil(high * 1.15)))
    while high - low > 1:
        middle = (low + high) // 2 if low else max(1, math.floor(high * 0.85))
        low, high = (low, middle) if keeps(middle) else (middle, high)
    return result(scenario, workload, replica, high, kept[high])
