"""Studies in the terminal: tables of cases, tornado, choices, the whole bill."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from planner.cost import OwnCost, Payback
from planner.report.table import Column, Table, key, text
from planner.report.words import NOTHING, component, fleet, layout, share, usd
from planner.search import ModelPlans
from planner.study import Account, Sensitivity, Sizing
from planner.study import Table as Cases
from planner.study.money_intervals import sure_words
from planner.study.row import Row

if TYPE_CHECKING:
    from planner.report.ink import Page

USUAL = (
    "label", "devices", "slo_met", "ttft_p95_s", "tpot_p95_s", "output_tokens_per_s_per_device",
    "usd_per_hour", "usd_per_million_output_tokens", "wh_per_million_tokens",
)  # fmt: skip
STEADY = ("label", "devices", "step_s", "step_bound_by", "output_tokens_per_s_per_device")

TITLES = {
    "slo_met": "SLO", "ttft_p95_s": "TTFT p95", "tpot_p95_s": "TPOT p95",
    "output_tokens_per_s_per_device": "out tok/s/device", "usd_per_hour": "$/h",
    "usd_per_million_output_tokens": "$/M out", "wh_per_million_tokens": "Wh/M", "label": "layout",
    "usd_per_million_tokens": "$/M", "prefill_share": "prefill", "busy_share": "busy",
    "kv_capacity_tokens": "KV tokens",
    "step_s": "step", "step_bound_by": "bound by",
}  # fmt: skip

NEEDS = {"devices": 90, "ttft_p95_s": 90, "usd_per_hour": 100, "wh_per_million_tokens": 110}
"""Characters a page must have for a column."""

FAILED_SHOWN = 5


def short(path: str) -> str:
    """Last two steps of a path: enough to know it by."""
    return ".".join(path.split(".")[-2:])


def cases_table(cases: Cases, columns: list[str] | None = None) -> Table:
    """One line a case: what it changes, and the columns asked for."""
    wanted = columns or list(STEADY if cases.ask == "step" else USUAL)
    wanted = [name for name in wanted if name not in cases.varied]
    heads = [key(short(path)) for path in cases.varied]
    heads += [Column(TITLES.get(name, name), min_width=NEEDS.get(name, 0)) for name in wanted]
    lines = [
        tuple(cell(name, row.get(name)) for name in (*cases.varied, *wanted)) for row in cases.rows
    ]
    return Table(
        f"{cases.base.title or cases.base.name}: {len(lines)} cases", tuple(heads), tuple(lines)
    )


def cell(name: str, value: Any) -> str:
    """A value as people read it, by the unit its name ends in."""
    match value:
        case None:
            return "-"
        case bool():
            return "✓" if value else "✗"
        case int():
            return f"{value:,}"
        case float():
            return _decimal(name, value)
        case _:
            return str(value)


def _decimal(name: str, value: float) -> str:
    if name.endswith("_s") and not name.endswith("_per_s"):
        return f"{1e3 * value:.1f} ms" if value < 1 else f"{value:.2f} s"
    if "usd_" in name:
        return f"{value:,.3f}" if abs(value) < 100 else f"{value:,.0f}"
    return share(value) if name.endswith("_share") else f"{value:,.4g}"


def print_table(cases: Cases, page: "Page", columns: list[str] | None = None) -> None:
    """Print a what-if table, and why cases have no answer."""
    page.table(cases_table(cases, columns))
    _failures([row for row in cases.rows if row["error"]], cases.varied, page)


def _failures(rows: list[Row], varied: tuple[str, ...], page: "Page") -> None:
    if not rows:
        return
    page.section(f"Without an answer: {len(rows)}")
    for row in rows[:FAILED_SHOWN]:
        changes = ", ".join(f"{path}={row[path]}" for path in varied) or f"case {row['index']}"
        page.bullet(changes, row["error"])
    if len(rows) > FAILED_SHOWN:
        page.note(f"and {len(rows) - FAILED_SHOWN} more in the file or JSON.")


def print_sweep(summary: dict[str, Any], failed: list[Row], page: "Page") -> None:
    """Print what a sweep left behind."""
    page.headline(
        "sweep",
        f"{summary['rows']:,} rows in {summary['out']}, {summary['new']:,} worked out now",
        None,
    )
    _failures(failed, (), page)


def print_sensitivity(found: Sensitivity, page: "Page") -> None:
    """Print the tornado, and the indices where there are any."""
    first = found.indices[0].path if found.indices else found.swings[0].path
    page.headline(
        "what to measure first",
        f"{first}: it moves {found.quantity} most ({cell(found.quantity, found.at_middle)} "
        "at the middle of every range)",
        None,
    )
    lines = tuple(
        (s.path, f"{s.low:.4g} … {s.high:.4g}", cell(found.quantity, s.at_low),
         cell(found.quantity, s.at_high), cell(found.quantity, s.swing))
        for s in found.swings
    )  # fmt: skip
    heads = (key("unknown"), Column("range"), Column("at low"), Column("at high"), Column("swing"))
    page.table(Table(f"One at a time: {found.quantity}", heads, lines))
    if found.indices:
        page.table(
            Table(
                "All together: share of the variance, 95 % interval",
                (key("unknown"), Column("alone"), Column("with all it acts with")),
                tuple(
                    (i.path, f"{i.first:.2f}  [{i.first_low:.2f}, {i.first_high:.2f}]",
                     f"{i.total:.2f}  [{i.total_low:.2f}, {i.total_high:.2f}]")
                    for i in found.indices
                ),
                note="An interval that spans more than its value: take more --samples.",
            )
        )  # fmt: skip
    page.note(f"{found.answers:,} scenarios worked out.")


def print_sizing(found: Sizing, page: "Page") -> None:
    """Print fleets by what one may come to regret."""
    best = found.best
    page.headline(
        "least regret",
        f"{best.name}: keeps the promises in {share(best.slo_probability)} of {found.worlds} "
        f"worlds, regrets at most {usd(best.worst_regret_usd_per_hour)} an hour",
        best.slo_probability >= found.confidence,
    )
    lines = tuple(
        (c.name, share(c.slo_probability), f"{share(c.slo_low)} … {share(c.slo_high)}",
         *(usd(v) for v in (c.mean_usd_per_hour, c.mean_regret_usd_per_hour,
                            c.worst_regret_usd_per_hour)),
         str(c.no_answer))
        for c in found.choices
    )  # fmt: skip
    heads = (
        key("fleet"), Column("keeps SLO"), Column("95 % interval", min_width=100), Column("$/h"),
        Column("mean regret"), Column("worst regret"), Column("no answer", min_width=100),
    )  # fmt: skip
    note = (
        f"First those that keep the promises in {share(found.confidence)} of the worlds, by worst "
        "regret.  A fleet that breaks them pays for the cheapest that does not, beside itself."
    )
    if found.lost_worlds:
        note += f" In {found.lost_worlds} worlds no fleet here keeps them."
    page.table(Table("Fleets against worlds", heads, lines, note))
    page.table(_worth(found))


def _worth(found: Sizing) -> Table:
    """Unknowns by what measuring each is worth."""
    lines = tuple(
        (w.path, usd(w.usd_per_hour), usd(w.by_chance_usd_per_hour)) for w in found.measure_first
    )
    note = (
        "Expected cost an hour that knowing it before the choice would save, less what so few "
        f"worlds show by chance. Knowing all: {usd(found.perfect_information_usd_per_hour)}."
    )
    heads = (key("unknown"), Column("worth, $/h"), Column("chance, $/h"))
    return Table("What to measure first", heads, lines, note)


def print_account(found: Account, page: "Page") -> None:
    """Print rent, ownership, payback, margins, energy."""
    page.headline(
        found.result.scenario.title or found.result.scenario.name, account_sentence(found), None
    )
    for table in account_tables(found):
        page.table(table)
    page.note(sure_words(found))
    if found.site_w is not None and found.carbon_kg_per_day is not None:
        page.section("Energy and carbon")
        page.text(
            f"{found.site_w / 1e3:,.1f} kW at the meter; "
            f"{found.carbon_kg_per_day:,.0f} kg CO2e a day, "
            f"{found.carbon_g_per_million_tokens:,.0f} g a million tokens "
            f"({found.region.carbon_g_per_kwh:g} g/kWh: the grid's, without making the machines)"
        )
    for words in found.missing:
        page.bullet("not answered", words)
    doubtful = [f"{name} {value:g}" for name, value in found.terms if value.doubtful]
    page.note("Assumed terms of owning: " + ", ".join(doubtful))


def account_sentence(found: Account) -> str:
    """What owning and renting cost, and when buying pays."""
    own, devices = found.own, found.result.devices
    sentence = f"{devices} devices in {found.region.title}"
    if own:
        known = _within(found, "own_usd_per_device_hour", usd)
        sure = f" (90 %: {known})" if known != NOTHING else ""
        sentence += (
            f": owning costs {usd(own.usd_per_hour)} a device-hour{sure}, "
            f"{usd(own.usd_per_hour * devices)}/h in all"
        )
    if found.useful:
        price, _, useful = found.useful[0]
        sentence += f"; renting {usd(useful)} a device-hour ({price.provider}, {price.term})"
    if own and found.paybacks:
        first = found.paybacks[0]
        when = months_words(first)
        pays = "never pays" if first.months is None else f"pays back in {when}"
        sentence += f"; against {first.alternative.removeprefix('rent: ')} buying {pays}"
    return f"{sentence}."


def account_tables(found: Account) -> tuple[Table, ...]:
    """Owning a device, when buying pays, API prices, where the rent goes."""
    own = (_own_table(found.own),) if found.own else ()
    return (*own, _payback_table(found), _margin_table(found), _rent_table(found))


def _rent_table(found: Account) -> Table:
    return Table(
        "Where the headline rent goes",
        (key("phase"), key("component"), Column("share"), Column("$/h")),
        tuple(
            (p.phase, component(p.component), share(p.share), usd(p.usd_per_hour))
            for p in sorted(found.parts, key=lambda part: -part.share)
            if p.share
        ),
    )


def _own_table(own: OwnCost) -> Table:
    parts = (
        ("written off", own.write_off_usd_per_hour), ("capital", own.capital_usd_per_hour),
        ("hosting", own.hosting_usd_per_hour), ("energy", own.energy_usd_per_hour),
        ("maintenance", own.maintenance_usd_per_hour), ("staff", own.staff_usd_per_hour),
    )  # fmt: skip
    return Table(
        "Owning one device", (text("part"), Column("$/h"), Column("share")),
        tuple((name, usd(value), share(value / own.usd_per_hour)) for name, value in parts),
        note=f"Bought for {usd(own.capex_usd)}, its server and network included.",
    )  # fmt: skip


def months_words(payback: Payback) -> str:
    """``14.2 months``, ``never``."""
    if payback.months is None:
        return "never"
    return f"{payback.months:.1f} months" + ("" if payback.within_life else ", too late")


def _months(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "never"


def _within(found: Account, name: str, write: Callable[[float], str]) -> str:
    """``49.5 to 72.1``; nothing where no number in it is doubtful."""
    low, high = found.intervals.get(name, (0.0, 0.0))
    if math.isinf(low):
        return write(low)
    return f"{write(low)} to {write(high)}" if low < high else NOTHING


def _payback_table(found: Account) -> Table:
    lines = tuple(
        (p.alternative, usd(p.alternative_usd_per_month), usd(p.running_usd_per_month),
         months_words(p), _within(found, f"months: {p.alternative}", _months),
         usd(p.saving_usd_over_life),
         _within(found, f"saving_usd_over_life: {p.alternative}", usd))
        for p in found.paybacks
    )  # fmt: skip
    heads = (text("instead of"), Column("$/month"), Column("running", min_width=100),
             Column("pays back in"), Column("months, 90 %", min_width=100),
             Column("saved over life"), Column("saved, 90 %", min_width=120))  # fmt: skip
    return Table("When buying pays", heads, lines)


def _margin_table(found: Account) -> Table:
    lines = tuple(
        (offer.api.name, offer.api.valid, how, usd(m.income_usd), usd(m.cost_usd),
         share(m.markup_share), share(offer.load_share_where_equal))
        for offer in found.apis
        for how, m in offer.margins
    )  # fmt: skip
    heads = (
        key("price list"), text("valid", 100), text("paid by"), Column("income/month"),
        Column("cost/month", min_width=90), Column("markup"), Column("equal at load"),
    )  # fmt: skip
    return Table("Selling, or buying, these tokens at an API's price", heads, lines)


def print_models(found: ModelPlans, page: "Page") -> None:
    """Print models side by side, the cheapest that is good enough first."""
    best = found.best
    sentence = "No model that is good enough has a fleet that keeps the promises."
    if best and best.plan and best.plan.best:
        sentence = f"{best.model.title}: {fleet(best.plan.best)}, {layout(best.plan.best)}."
    page.headline(found.scenario.title or found.scenario.name, sentence, best is not None)
    lines = tuple(
        (a.model.title, f"{a.quality:g}",
         fleet(a.plan.best) if a.plan and a.plan.best else a.refusal, usd(a.usd_per_hour))
        for a in found.answers
    )  # fmt: skip
    heads = (text("model"), Column("quality"), text("fleet, or why none", 100), Column("$/h"))
    note = f"Quality as given, at least {found.min_quality:g}; answers taken as equally long."
    page.table(Table("Models", heads, lines, note, best=0 if best else None))
