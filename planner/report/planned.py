"""A plan as a page shows it: the answer, its alternatives, its refusals; no row a request kept."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from planner.evaluation import Assumption, Result
from planner.evaluation.risk import miss_risk
from planner.report import answer, interval_tables, plan_tables, risk, tables
from planner.report.answer import Tile, interval_note
from planner.report.pareto_figures import money_pareto, speed_pareto
from planner.report.simulated import intervals_sentence, percentile_note
from planner.report.table import Table
from planner.report.words import NOTHING, layout, number, plural, seconds, share, usd, watt_hours
from planner.search import Plan
from planner.units import human

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class Planned:
    """What is left of a search once it is drawn."""

    simulated: bool
    """False: by closed form only, while the simulations still run."""
    headline: str
    warning: str
    """What the winner's speed rests on where nobody measured it, and the best that is measured."""
    good: bool
    traffic: str
    tiles: tuple[Tile, ...]
    sure: str
    """What the intervals in tiles hold and leave out."""
    decisions: tuple[tuple[str, str], ...]
    """Headed sentences: how sure it is, and what else would do."""
    figures: "dict[str, Figure]"
    options: Table
    more: tuple[Table, ...]
    refusals: Table
    groups: tuple[tuple[str, tuple[str, ...]], ...]
    changes: tuple[tuple[str, str], ...]
    effort: str
    assumptions: tuple[Assumption, ...]
    plain: dict[str, Any]


def planned(plan: Plan) -> Planned:
    """Draw a plan."""
    from planner.report.figures import result_figures

    best = plan.best
    figures = {"speed_pareto": speed_pareto(plan), "money_pareto": money_pareto(plan)}
    more: list[Table] = []
    if best is not None:
        figures |= result_figures(best)
        sure = interval_tables.intervals(best)
        more = [tables.promises(best), tables.latency(best), *((sure,) if sure else ())]
        more += [tables.load(best), *((tables.pools(best),) if best.apart else ())]
        more += tables.cost(best, wide=True) if best.costs else ()
        api = tables.apis(best)
        more += [api] if api else []
    return Planned(
        simulated=True,
        headline=answer.headline(plan, warned=False),
        warning=risk.basis_sentence(plan),
        good=answer.good_news(plan),
        traffic=answer.traffic_line(best) if best else "",
        tiles=tuple(plan_tiles(best)) if best else (),
        sure=intervals_sentence(best) if best else "",
        decisions=risk.decisions(plan),
        figures=figures,
        options=plan_tables.options(plan),
        more=tuple(more),
        refusals=plan_tables.refusals(plan),
        groups=plan_tables.refusal_groups(plan),
        changes=plan_tables.changes(plan),
        effort=(
            f"{plural(plan.layouts, 'layout')} at {number(plan.screened)} batch limits screened in "
            f"{seconds(plan.screen_s)}, {plural(plan.simulated, 'run')} simulated, "
            f"{seconds(plan.wall_s)} in all."
        ),
        assumptions=best.assumptions if best else (),
        plain=plan.to_dict(),
    )


def screened(plan: Plan) -> Planned:
    """Draw the closed form's side of a plan, before anything is simulated."""
    cheapest = min(
        plan.frontier,
        key=lambda p: (p.usd_per_hour is None, p.usd_per_hour or p.devices),
        default=None,
    )
    if cheapest is None:
        headline = "Nothing keeps every promise by closed form; simulating the nearest."
    else:
        money = f", {usd(cheapest.usd_per_hour)} an hour" if cheapest.usd_per_hour else ""
        headline = (
            f"By closed form: {plural(cheapest.replicas, 'replica')} of {cheapest.label} on "
            f"{cheapest.system}, {plural(cheapest.devices, 'device')}{money}. "
            "Queues and percentiles are being simulated."
        )
    return Planned(
        False, headline, "", cheapest is not None, "", (), "", (),
        {"speed_pareto": speed_pareto(plan), "money_pareto": money_pareto(plan)},
        plan_tables.options(plan), (), plan_tables.refusals(plan), (), (), "", (), {},
    )  # fmt: skip


def plan_tiles(best: Result) -> list[Tile]:
    """The cheapest fleet in numbers."""
    m, cost = best.metrics, best.costs[0] if best.costs else None
    missed = miss_risk(m)
    return [
        Tile("Devices", number(best.devices), _devices(best), ""),
        Tile("Cost per hour", usd(cost.usd_per_hour) if cost else NOTHING,
             _joined(interval_note(best, "usd_per_hour", usd),
                     f"{cost.price.provider}, {cost.price.term}")
             if cost else "no price is known", ""),
        Tile("$ per million output tokens",
             usd(cost.usd_per_million_output_tokens) if cost else NOTHING,
             _joined(interval_note(best, "usd", usd), _inputs(best)), ""),
        Tile("Power", human(best.energy.fleet_w, "w") if best.energy else NOTHING,
             _joined(interval_note(best, "fleet_w", lambda x: human(x, "w")),
                     f"{watt_hours(best.energy.wh_per_million_tokens)} per million tokens")
             if best.energy else "not stated by the maker", ""),
        _percentile("TTFT", best, "ttft_s"),
        _percentile("TPOT", best, "tpot_s"),
        _percentile("E2E", best, "e2e_s"),
        Tile("Risk of a broken promise", NOTHING if missed is None else share(missed),
             "run too short to tell" if missed is None else "by chance alone, without model error",
             "risk"),
    ]  # fmt: skip


def _inputs(best: Result) -> str:
    if not best.costs:
        return ""
    cost = best.costs[0]
    cached = cost.usd_per_million_cached_input_tokens
    words = f"input {usd(cost.usd_per_million_input_tokens)}"
    return f"{words}, cached {usd(cached)}" if cached is not None else f"{words}, none cached"


def _percentile(name: str, best: Result, which: str) -> Tile:
    p95 = getattr(best.metrics, which).p95
    return Tile(f"{name} p95", seconds(p95), percentile_note(best, which), "")


def _devices(best: Result) -> str:
    """How many the promises may take, and what they are."""
    fleet = (
        layout(best) if best.apart
        else f"{plural(best.replicas, 'replica')} of {best.replica.pool.parallelism.label()}"
    )  # fmt: skip
    sure = interval_note(best, "devices", number)
    return _joined(sure, f"{plural(best.nodes, 'node')}, {fleet}")


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
