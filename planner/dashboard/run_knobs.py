"""Sliders of the simulation page as changes of a scenario: pure, no widget in sight."""

from dataclasses import dataclass
from typing import Any

from planner.specs.deployment import Disaggregated, Pool
from planner.specs.scenario import Scenario
from planner.specs.workload import (
    ClosedLoopArrivals,
    CurveArrivals,
    Run,
    SessionArrivals,
    TraceArrivals,
    Workload,
)

LOADS = (0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 4.0)
REQUESTS = (0, 1_000, 10_000, 100_000, 1_000_000)
"""0: as in the scenario."""
REPLICAS = tuple(range(1, 33))
REPLICATIONS = (1, 3, 5, 10, 20)
WINDOW, DAY = "its window", "the whole day"
PARTS = (WINDOW, DAY)
DAY_WARMUP_S = 1200.0
"""Of a whole day, served and not counted. [s]"""
WARMUP_SHARE = 0.1
"""Of requests, served and not counted, where their number is chosen here."""


@dataclass(frozen=True, slots=True)
class RunKnobs:
    """What the sliders say."""

    load: float = 1.0
    """Times the scenario's rate."""
    requests: int = 0
    part: str = WINDOW
    """Of a time-of-day curve."""
    replicas: int = 1
    prefill_replicas: int = 0
    """Of pools apart; 0: there is one pool."""
    replications: int = 1
    seed: int = 1


def defaults(scenario: Scenario) -> RunKnobs:
    """Sliders as the scenario has it."""
    pools = scenario.deployment
    first = pools.prefill.replicas if isinstance(pools, Disaggregated) else 0
    part = DAY if scenario.run.window is None else WINDOW
    return RunKnobs(
        part=part,
        replicas=scenario.decoding.replicas if scenario.decoding else 1,
        prefill_replicas=first,
        seed=scenario.run.seed,
    )


def rate_field(workload: Workload) -> tuple[str, float] | None:
    """Where a workload says how much comes, and what; None of a curve, which says it in windows."""
    arrivals = workload.arrivals
    match arrivals:
        case CurveArrivals():
            return None
        case ClosedLoopArrivals():
            return "concurrency", float(arrivals.concurrency)
        case SessionArrivals():
            return "sessions_per_s", arrivals.sessions_per_s
        case TraceArrivals():
            if arrivals.requests_per_s is not None:
                return "requests_per_s", arrivals.requests_per_s
            return "rate_scale", arrivals.rate_scale
        case _:
            return "requests_per_s", arrivals.requests_per_s


def has_parts(scenario: Scenario) -> bool:
    """Whether the traffic is a curve of which a window is asked for."""
    workload = scenario.workload
    return (
        workload is not None
        and isinstance(workload.arrivals, CurveArrivals)
        and scenario.run.window is not None
    )


def overrides(scenario: Scenario, wanted: RunKnobs) -> dict[str, Any]:
    """Changes that make the scenario what the sliders say; nothing where they agree."""
    own, found = defaults(scenario), dict[str, Any]()
    field = rate_field(scenario.workload) if scenario.workload else None
    if wanted.load != 1.0 and field is not None:
        name, value = field
        scaled = value * wanted.load
        found[f"workload.arrivals.{name}"] = (
            max(1, round(scaled)) if name == "concurrency" else scaled
        )
    if wanted.part != own.part and has_parts(scenario):
        found["run.window"] = None
        found["run.warmup_s"] = DAY_WARMUP_S
    if wanted.requests:
        found["run.requests"] = wanted.requests
        found["run.duration_s"] = None
        found["run.warmup_s"] = 0.0
        found["run.warmup_requests"] = round(WARMUP_SHARE * wanted.requests)
    if wanted.seed != own.seed:
        found["run.seed"] = wanted.seed
    if isinstance(scenario.deployment, Pool):
        if wanted.replicas != own.replicas:
            found["deployment.replicas"] = wanted.replicas
        return found
    if wanted.replicas != own.replicas:
        found["deployment.decode.replicas"] = wanted.replicas
    if wanted.prefill_replicas != own.prefill_replicas:
        found["deployment.prefill.replicas"] = wanted.prefill_replicas
    return found


def with_trace(
    scenario: Scenario, workload: Workload, wanted: RunKnobs, requests_per_s: float | None
) -> Scenario:
    """The scenario with a recorded trace as its traffic.

    Parameters
    ----------
    requests_per_s : Poisson arrivals at this rate in place of the recorded times; None: keep them.
    """
    arrivals = workload.arrivals
    assert isinstance(arrivals, TraceArrivals)
    table = arrivals.table
    recorded = len(table) if table is not None else len(arrivals.arrival_s)
    if requests_per_s is not None:
        change: dict[str, Any] = {"requests_per_s": requests_per_s * wanted.load}
        count: int | None = wanted.requests or recorded
    else:
        change = {"rate_scale": wanted.load}
        count = wanted.requests or None
    coming = min(count or recorded, round(recorded * wanted.load)) if recorded else 0
    if requests_per_s is not None and count:
        coming = count
    run = Run(requests=count, seed=wanted.seed, warmup_requests=int(WARMUP_SHARE * max(0, coming)))
    played = workload.model_copy(update={"arrivals": arrivals.model_copy(update=change)})
    return scenario.model_copy(update={"workload": played, "run": run})
