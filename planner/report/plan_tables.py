"""Tables of a search: fleets that do, layouts that do not and why, systems side by side."""

import math

from planner.evaluation import Result
from planner.report.table import Column, Table, key, text
from planner.report.words import (
    HOW,
    NOTHING,
    layout,
    number,
    plural,
    promise_name,
    quantity,
    seconds,
    usd,
    watt_hours,
)
from planner.search import Comparison, Move, Plan, Rejection
from planner.search.evidence import evidence

FLEET = (
    Column("nodes"),
    Column("replicas", min_width=72),
    Column("TTFT p95"),
    Column("TPOT p95"),
    Column("$/h"),
    Column("$/M out"),
)


def options(plan: Plan) -> Table:
    """Every simulated fleet that keeps its promises."""
    labels, common = short([layout(r) for r in plan.options])
    if len(plan.scenario.hardware) > 1:
        systems = [r.replica.hardware.system.name for r in plan.options]
        labels = [f"{name}: {label}" for name, label in zip(systems, labels, strict=True)]
    rows = tuple(
        (label, *_fleet_cells(r), _basis(r)) for label, r in zip(labels, plan.options, strict=True)
    )
    note = "" if rows else "No simulated fleet keeps every promise."
    columns = (text("layout of a replica"), *FLEET, text("its speed is", 100))
    return Table(
        f"Fleets that keep every promise{common}", columns, rows, note, HOW["options"],
        best=0 if rows else None,
    )  # fmt: skip


def _basis(r: Result) -> str:
    """What the shares of its parts are: measured, transferred from another part, or assumed."""
    return evidence(*(use.pool.replica for use in r.pools)).basis


def short(labels: list[str]) -> tuple[list[str], str]:
    """Take what all layouts have in common (formats) out of their names.

    >>> short(["DP8 EP8, fp8 weights, bf16 KV", "TP8, fp8 weights, bf16 KV"])
    (['DP8 EP8', 'TP8'], ' (fp8 weights, bf16 KV)')
    """
    if any(label.startswith("prefill ") for label in labels):
        return labels, ""
    parts = [label.split(", ") for label in labels]
    same = [p for p in parts[0][1:] if all(p in each[1:] for each in parts)] if parts else []
    if not same:
        return labels, ""
    own = [", ".join(p for p in each if p not in same) for each in parts]
    return own, f" ({', '.join(same)})"


def _fleet_cells(r: Result) -> tuple[str, ...]:
    c = r.costs[0] if r.costs else None
    return (
        number(r.nodes),
        " + ".join(number(use.pool.replicas) for use in r.pools),
        seconds(r.metrics.ttft_s.p95),
        seconds(r.metrics.tpot_s.p95),
        usd(c.usd_per_hour if c else None),
        usd(c.usd_per_million_output_tokens if c else None),
    )


def refusal_groups(plan: Plan) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Reasons with the layouts refused for each, most frequent first.

    A reason reads ``8 layouts: HBM per device: need 173.8 GB to 679.7 GB, have 135.7 GB``.
    """
    groups: dict[tuple[str, str, str], list[Rejection]] = {}
    for r in plan.rejections:
        groups.setdefault((r.stage, _limit(r), r.unit), []).append(r)
    ordered = sorted(groups.values(), key=lambda group: -len(group))
    return tuple((_reason(group), tuple(short([r.label for r in group])[0])) for group in ordered)


def changes(plan: Plan) -> tuple[tuple[str, str], ...]:
    """Limits that refused layouts, and by how much the nearest missed each."""
    return tuple(
        (
            f"{quantity(c.needed, c.unit)} instead of {quantity(c.available, c.unit)}: "
            + (promise_name(c.limit) if c.limit.endswith("_s") else c.limit),
            f"{c.nearest} ({plural(c.refused, 'layout')} refused); {c.advice}",
        )
        for c in plan.changes
        if c.excess is not None and c.stage != "screen"
    )


def _limit(r: Rejection) -> str:
    if r.stage == "simulation" and r.limit.endswith("_s"):
        return f"{promise_name(r.limit)} in simulation"
    return r.limit


def _reason(group: list[Rejection]) -> str:
    first = group[0]
    text = f"{plural(len(group), 'layout')}: {_limit(first)}"
    needed = sorted(r.needed for r in group if r.needed is not None)
    if not needed:
        return text
    low, high = (quantity(x, first.unit) for x in (needed[0], needed[-1]))
    low = low.removesuffix(f" {first.unit}") if high != low else low
    text += f": need {low}" + (f" to {high}" if high != low else "")
    known = sorted({r.available for r in group if r.available is not None})
    have = list(dict.fromkeys(quantity(x, first.unit) for x in known))
    if len(have) > 3:
        have = [f"{have[0]} to {have[-1]}"]
    return f"{text}, {_have(first)} {' or '.join(have)}" if have else text


def _have(r: Rejection) -> str:
    if r.unit == "devices" and r.stage == "screen":
        return "the best estimate needs"
    return "limit" if r.unit == "s" else "have"


def refusals(plan: Plan) -> Table:
    """Every refused layout, with both sides of the limit it breaks."""
    labels, common = short([r.label for r in plan.rejections])
    rows = tuple(
        (label, r.stage, _limit(r), quantity(r.needed, r.unit), quantity(r.available, r.unit),
         r.advice)
        for label, r in zip(labels, plan.rejections, strict=True)
    )  # fmt: skip
    columns = (
        text("layout"), key("stage"), text("limit"), Column("needs"), Column("has"),
        text("what would do", 120),
    )  # fmt: skip
    note = (
        "fit: memory, divisibility, precision; screen: estimate in closed form; "
        "simulation: a promise is broken."
    )
    return Table(f"Layouts refused{common}", columns, rows, note, HOW["refusals"])


def cost_moves(found: tuple[Move, ...]) -> Table:
    """What moves the cost of the best fleet, one cause at a time."""
    rows = tuple(
        (m.name, f"{m.low_factor:.2f} to {m.high_factor:.2f}", usd(m.low_usd_per_hour),
         usd(m.high_usd_per_hour) if math.isfinite(m.high_usd_per_hour) else "no bound")
        for m in found
    )  # fmt: skip
    columns = (text("cause"), Column("factor"), Column("$/h at its low end"), Column("at its high"))
    note = (
        "Closed form: replicas of the same layout that keep the promises with one cause at its 5th "
        "and 95th percentile, the rest as predicted. Requests a second: a fifth less, a quarter "
        "more, as a yardstick."
    )
    return Table("What moves the cost", columns, rows, note)


def systems(comparison: Comparison) -> Table:
    """Systems side by side, cheapest first."""
    rows = tuple((row.hardware.system.title, *_system_cells(row.best)) for row in comparison.rows)
    columns = (
        text("system"), text("layout", 110), Column("devices"), *FLEET[:1], *FLEET[2:],
        Column("Wh/M", min_width=95),
    )  # fmt: skip
    note = "$/M out: USD per million output tokens; Wh/M: per million tokens of either kind."
    note = "\n".join(filter(None, (note, _whose_prices(comparison))))
    best = 0 if comparison.rows and comparison.rows[0].best else None
    return Table("Systems", columns, rows, note, HOW["comparison"], best=best)


def _whose_prices(comparison: Comparison) -> str:
    """Who asks the headline prices, and of which systems where they are several."""
    found: dict[str, list[str]] = {}
    for row in comparison.rows:
        if row.best and row.best.costs:
            price = row.best.costs[0].price
            name = f"{price.provider}, {price.term}"
            found.setdefault(name, []).append(row.hardware.accelerator.name)
    if not found:
        return ""
    if len(found) == 1:
        return f"Prices: {next(iter(found))}."
    listed = (f"{name} ({', '.join(parts)})" for name, parts in found.items())
    return f"Prices: {'; '.join(listed)}."


def _system_cells(best: Result | None) -> tuple[str, ...]:
    if best is None:
        return (NOTHING,) * 8
    nodes, _, *rest = _fleet_cells(best)
    energy = watt_hours(best.energy.wh_per_million_tokens) if best.energy else NOTHING
    return (layout(best), number(best.devices), nodes, *rest, energy)


def system_refusals(comparison: Comparison) -> tuple[tuple[str, str], ...]:
    """Systems without an answer, and why."""
    return tuple((r.hardware.system.title, r.refusal) for r in comparison.rows if not r.best)
