"""Tables of 90 % intervals: what a number may be, and why it is not known better."""

import math
from collections.abc import Callable

from planner.evaluation import Result, SteadyResult, TimelineResult
from planner.evaluation.intervals import HOLDS, HOLDS_OF_STEP, LEAVES_OUT, Interval
from planner.evaluation.spread import Spread, joint
from planner.report.table import Column, Table, key
from planner.report.words import HOW, NOTHING, number, promise_name, seconds, usd, watt_hours
from planner.units import human

SHOWN = (
    ("ttft_s", ("p50", "p95", "p99")), ("tpot_s", ("p50", "p95", "p99")), ("e2e_s", ("p50", "p95")),
)  # fmt: skip


def intervals(result: Result) -> Table | None:
    """Headline numbers with their 90 % intervals; None where none were asked for."""
    found = result.intervals
    if found is None:
        return None
    m = result.metrics
    rows = [
        (promise_name(f"{name.removesuffix('_s')}_{which}_s"),
         seconds(getattr(getattr(m, name), which)),
         between(found.latency[name][which], seconds))
        for name, each in SHOWN
        for which in each
    ]  # fmt: skip
    rate = m.steady.output_tokens_per_s
    rows.append(("Output", _rate(rate), between(found.rates["output_tokens_per_s"], _rate)))
    rows.append(
        ("Goodput", _requests(m.goodput_requests_per_s),
         between(found.goodput_requests_per_s, _requests))
    )  # fmt: skip
    if result.energy and found.energy:
        wh = "wh_per_million_tokens"
        rows.append(
            ("Energy per M tokens", watt_hours(getattr(result.energy, wh)),
             between(found.energy[wh], watt_hours))
        )  # fmt: skip
    rows.append(("Devices", number(result.devices), between(found.devices, number)))
    for cost, within in list(zip(result.costs, found.usd, strict=True))[:1]:
        for name, label in (
            ("usd_per_million_output_tokens", "$/M output tokens"),
            ("usd_per_million_tokens", "$/M tokens"),
        ):
            rows.append((label, usd(getattr(cost, name)), between(within[name], usd)))
    note = f"{HOLDS}\n{LEAVES_OUT}\n{why(found.causes)}"
    columns = (key(""), Column("value"), Column("90 % interval"))
    return Table("How sure", columns, tuple(rows), note, HOW["intervals"])


def steady_intervals(answer: SteadyResult) -> Table:
    """A steady step and its rates with 90 % intervals."""
    rates = (
        ("A device", answer.tokens_per_s_per_device, "tokens_per_s_per_device"),
        ("A node", answer.tokens_per_s_per_node, "tokens_per_s_per_node"),
        ("A user", answer.tokens_per_s_per_user, "tokens_per_s_per_user"),
    )
    return _step_intervals(answer.step.time_s, rates, answer.interval90(), answer.spreads)


def timeline_intervals(answer: TimelineResult) -> Table:
    """A simulated step and its rates with 90 % intervals."""
    rates = (
        ("A device", answer.tokens_per_s_per_device, "tokens_per_s_per_device"),
        ("A node", answer.tokens_per_s_per_node, "tokens_per_s_per_node"),
    )
    return _step_intervals(answer.timeline.time_s, rates, answer.interval90(), answer.spreads)


def _step_intervals(
    step_s: float, rates: tuple[tuple[str, float, str], ...], found: dict[str, list[float]],
    spreads: tuple[Spread, ...],
) -> Table:  # fmt: skip
    within = {name: (low, high) for name, (low, high) in found.items()}
    rows = (
        ("Step", seconds(step_s), between(within["step_s"], seconds)),
        *((label, _rate(rate), between(within[name], _rate)) for label, rate, name in rates),
    )
    note = f"{HOLDS_OF_STEP}\n{LEAVES_OUT}\n{why((('', spreads),))}"
    columns = (key(""), Column("value"), Column("90 % interval"))
    return Table("How sure", columns, rows, note, HOW["intervals"])


def between(interval: Interval, write: Callable[[float], str]) -> str:
    """``0.29 s to 1.7 s``."""
    low, high = interval
    if math.isnan(low):
        return NOTHING
    return f"{write(low)} to {write(high) if math.isfinite(high) else 'no bound'}"


def _requests(value: float) -> str:
    return f"{value:.3g} requests/s"


def _rate(value: float) -> str:
    return human(value, "tokens_per_s")


def why(causes: tuple[tuple[str, tuple[Spread, ...]], ...]) -> str:
    """What makes steps uncertain, largest first."""
    parts = []
    for role, spreads in causes:
        low, high = joint(spreads)
        where = f" of the {role} pool" if role not in ("", "both") else ""
        if not spreads:
            parts.append(f"Steps{where} are taken as exact.")
            continue
        ordered = sorted(spreads, key=lambda s: s.low - s.high)
        listed = "; ".join(f"{s.name} {_percent(s)} ({s.about})" for s in ordered)
        parts.append(
            f"Steps{where} take {100 * math.expm1(low):+.0f} to {100 * math.expm1(high):+.0f} % "
            f"of the time predicted: {listed}."
        )
    return "\n".join(parts)


def _percent(s: Spread) -> str:
    return f"{100 * math.expm1(s.low):+.0f} to {100 * math.expm1(s.high):+.0f} %"
