"""A user's own benchmark result beside what a scenario predicts for the same load."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from planner.errors import InputError
from planner.evaluation import Result, evaluate, with_intervals
from planner.files.benchmarks import Benchmark
from planner.specs.arrivals import (
    Arrivals,
    ClosedLoopArrivals,
    GammaArrivals,
    PoissonArrivals,
)
from planner.specs.lengths import FixedLength, Length, QuantileLength
from planner.specs.scenario import Scenario
from planner.specs.workload import LengthSegment, Run, Workload

BINS = 100
"""Equally likely bins that recorded lengths are summed up to."""

COMPARED = (
    ("ttft", ("mean", "p50", "p90", "p95", "p99")), ("tpot", ("mean", "p50", "p90", "p95", "p99")),
    ("itl", ("mean", "p50", "p95", "p99")), ("e2e", ("mean", "p50", "p95", "p99")),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One quantity."""

    quantity: str
    """Its end names the unit: ``ttft_p95_s``, ``output_tokens_per_s``."""
    measured: float
    predicted: float
    interval90: tuple[float, float] | None

    @property
    def relative_error(self) -> float:
        """Predicted over measured, less one."""
        return self.predicted / self.measured - 1

    @property
    def inside(self) -> bool | None:
        """Whether the measured value is in the interval."""
        if self.interval90 is None:
            return None
        return self.interval90[0] <= self.measured <= self.interval90[1]


@dataclass(frozen=True)
class Beside:
    """A benchmark and its prediction."""

    benchmark: Benchmark
    result: Result
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        b = self.benchmark
        return {
            "tool": b.tool, "label": b.label, "model": b.model, "requests": b.requests,
            "concurrency": b.concurrency, "requests_per_s": b.requests_per_s,
            "input_tokens": b.input_tokens, "output_tokens": b.output_tokens,
            "rows": [
                {"quantity": r.quantity, "measured": r.measured, "predicted": r.predicted,
                 "relative_error": r.relative_error,
                 "interval90": list(r.interval90) if r.interval90 else None, "inside": r.inside}
                for r in self.rows
            ],
            "notes": list(self.notes),
        }  # fmt: skip


def beside(benchmark: Benchmark, base: Scenario) -> Beside:
    """Predict the benchmark's load on the scenario's deployment.

    Raises
    ------
    InputError
        The scenario has no deployment.
    """
    if base.deployment is None:
        raise InputError(base.name, "deployment", "is missing; say what was benchmarked")
    scenario, notes = as_scenario(benchmark, base)
    result = with_intervals(evaluate(scenario))
    rows = tuple(_rows(benchmark, result))
    return Beside(benchmark, result, rows, tuple(notes))


def as_scenario(benchmark: Benchmark, base: Scenario) -> tuple[Scenario, list[str]]:
    """The scenario with the benchmark's traffic, and what was taken for granted."""
    notes = []
    if benchmark.lengths is None:
        notes.append("Lengths are taken as all alike: the file has their means only.")
    segment = LengthSegment(
        input=_length(benchmark.lengths and benchmark.lengths[0], benchmark.input_tokens),
        output=_length(benchmark.lengths and benchmark.lengths[1], benchmark.output_tokens),
    )
    arrivals, said = arrivals_of(benchmark)
    notes += said
    if benchmark.failed:
        notes.append(f"{benchmark.failed} requests failed; the others are compared.")
    own = base.model.hf_id.split("/")[-1].lower()
    given = benchmark.model.rstrip("/").split("/")[-1].lower()
    if given and own not in given and given not in own:
        notes.append(f"The file is of {benchmark.model}, the scenario of {base.model.hf_id}.")
    workload = Workload(
        title=f"{benchmark.requests} requests as {benchmark.tool} sent them",
        arrivals=arrivals, lengths=(segment,),
        cached_input_share=base.workload.cached_input_share if base.workload else 0.0,
    )  # fmt: skip
    run = Run(requests=benchmark.requests, seed=base.run.seed)
    return base.model_copy(update={"workload": workload, "run": run}), notes


def arrivals_of(benchmark: Benchmark) -> tuple[Arrivals, list[str]]:
    """How requests were sent, as far as the file says."""
    rate, clients = benchmark.requests_per_s, benchmark.concurrency
    if rate is not None:
        notes = []
        if clients is not None:
            notes.append(f"The cap of {clients} requests in flight is left out: sent by rate.")
        if benchmark.burstiness != 1:
            cv = float(benchmark.burstiness**-0.5)
            return GammaArrivals(requests_per_s=rate, cv=cv), notes
        return PoissonArrivals(requests_per_s=rate), notes
    if clients is None:
        return ClosedLoopArrivals(concurrency=benchmark.requests), [
            "The file names neither a rate nor a number of clients: all requests at once."
        ]
    return ClosedLoopArrivals(concurrency=min(clients, benchmark.requests)), []


def _length(recorded: Sequence[int] | None, mean: float) -> Length:
    if not recorded:
        return FixedLength(tokens=max(1, round(mean)))
    ordered = np.sort(np.asarray(recorded, dtype=float))
    bins = np.array_split(ordered, min(BINS, len(ordered)))
    return QuantileLength(bin_means_tokens=tuple(float(b.mean()) for b in bins))


def _rows(benchmark: Benchmark, result: Result) -> list[Row]:
    known = result.intervals
    found = []
    for name, statistics in COMPARED:
        values = getattr(result.metrics, f"{name}_s")
        for which in statistics:
            measured = benchmark.latency_s.get(name, {}).get(which)
            predicted = float(getattr(values, which))
            if measured is None or not np.isfinite(predicted):
                continue
            within = known.latency[f"{name}_s"][which] if known else None
            found.append(Row(f"{name}_{which}_s", measured, predicted, within))
    done = result.metrics.throughput
    for quantity, measured, predicted in (
        ("output_tokens_per_s", benchmark.output_tokens_per_s, done.output_tokens_per_s),
        ("requests_per_s", benchmark.requests_done_per_s, done.requests_per_s),
    ):
        if measured is not None and predicted > 0:
            within = None
            if known:
                low, high = known.rates[quantity]
                steady = getattr(result.metrics.steady, quantity)
                within = (predicted * low / steady, predicted * high / steady) if steady else None
            found.append(Row(quantity, measured, predicted, within))
    return found
