"""What the plan page asks for, as changes of a scenario: pure, no widget in sight."""

from dataclasses import dataclass, fields
from typing import Any, get_args

from planner.specs.deployment import KvFormat
from planner.specs.model import WeightFormat
from planner.specs.scenario import Scenario
from planner.specs.workload import Slo

WEIGHTS: tuple[str, ...] = get_args(WeightFormat)
KV: tuple[str, ...] = get_args(KvFormat)
LATENCIES = ("ttft", "tpot", "e2e")
NONE = "none"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the form says; empty tuples and None mean: no wish."""

    model: str
    systems: tuple[str, ...]
    weights: tuple[str, ...]
    kv: tuple[str, ...]
    ttft: tuple[str, float] | None
    """Percentile and limit: ("p95", 2.0). [s]"""
    tpot: tuple[str, float] | None
    e2e: tuple[str, float] | None
    max_usd_per_hour: float | None
    max_rated_w: float | None
    max_nodes: int


def percentiles(latency: str) -> tuple[str, ...]:
    """Percentiles of a latency that a scenario can promise."""
    names = [name.removesuffix("_s").split("_") for name in Slo.model_fields]
    return (NONE, *(percentile for metric, percentile in names if metric == latency))


def wished(scenario: Scenario) -> Wishes:
    """The form as the scenario has it; of several promises on a latency the highest percentile."""
    space = scenario.space
    return Wishes(
        model=scenario.model.name,
        systems=tuple(hardware.system.name for hardware in scenario.hardware),
        weights=space.weights,
        kv=space.kv,
        ttft=_promise(scenario.slo, "ttft"),
        tpot=_promise(scenario.slo, "tpot"),
        e2e=_promise(scenario.slo, "e2e"),
        max_usd_per_hour=space.max_usd_per_hour,
        max_rated_w=space.max_rated_w,
        max_nodes=space.max_nodes,
    )


def _promise(slo: Slo, latency: str) -> tuple[str, float] | None:
    promised = None
    for percentile in percentiles(latency)[1:]:
        value = getattr(slo, f"{latency}_{percentile}_s")
        if value is not None:
            promised = (percentile, float(value))
    return promised


def overrides(scenario: Scenario, wanted: Wishes) -> dict[str, Any]:
    """Changes that make the scenario what the form says; nothing where they agree."""
    own, found = wished(scenario), dict[str, Any]()
    if wanted.model != own.model:
        found["model"] = wanted.model
        if scenario.routing is not None:
            found["routing"] = None
    if wanted.systems != own.systems:
        found["systems"] = list(wanted.systems)
    for name in ("weights", "kv", "max_usd_per_hour", "max_rated_w", "max_nodes"):
        value = getattr(wanted, name)
        if value != getattr(own, name):
            found[f"space.{name}"] = list(value) if isinstance(value, tuple) else value
    for latency in LATENCIES:
        found |= _promises(latency, getattr(own, latency), getattr(wanted, latency))
    return found


def _promises(
    latency: str, before: tuple[str, float] | None, now: tuple[str, float] | None
) -> dict[str, Any]:
    """Changes from one promise on a latency to another."""
    found: dict[str, Any] = {}
    if before is not None and (now is None or now[0] != before[0]):
        found[f"slo.{latency}_{before[0]}_s"] = None
    if now is not None and now != before:
        found[f"slo.{latency}_{now[0]}_s"] = now[1]
    return found


def link(scenario: Scenario, wanted: Wishes) -> dict[str, str]:
    """What the form says beyond the scenario, as query parameters."""
    own = wished(scenario)
    return {
        field.name: written(getattr(wanted, field.name))
        for field in fields(Wishes)
        if getattr(wanted, field.name) != getattr(own, field.name)
    }


def written(value: Any) -> str:
    """One wish as text: lists with commas, a promise as ``p95:2``, nothing as ``none``."""
    match value:
        case None:
            return NONE
        case (str() as percentile, float() as limit_s):
            return f"{percentile}:{limit_s:g}"
        case tuple():
            return ",".join(value)
        case float():
            return f"{value:g}"
        case _:
            return str(value)


def promise(text: str, latency: str) -> tuple[str, float] | None:
    """Read ``p95:2``.

    Raises
    ------
    ValueError
        No such percentile, or no number above 0.
    """
    if text == NONE:
        return None
    percentile, _, number = text.partition(":")
    limit_s = float(number)
    if percentile not in percentiles(latency)[1:] or not 0 < limit_s < 1e6:
        raise ValueError(text)
    return percentile, limit_s
