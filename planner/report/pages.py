"""What a page holds, in order: blocks of figures, tables and notes."""

from collections.abc import Mapping
from dataclasses import dataclass

from planner.evaluation import FleetPool, Result
from planner.report import answer, bars, held_out, interval_tables, plan_tables, tables
from planner.report import risk as risk_of
from planner.report.operation_tables import operations
from planner.report.table import Table, key, text
from planner.report.words import HOW, component, plural, seconds, share
from planner.search import Comparison, Plan, moves
from planner.specs.hardware import Reference
from planner.step import Step
from planner.units import human

LISTED = 20
"""Layouts named for one reason of refusal."""


@dataclass(frozen=True, slots=True)
class Block:
    """One part of a page."""

    title: str
    figures: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    bullets: tuple[tuple[str, str], ...] = ()
    how: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """One entry of the list of sources."""

    key: str
    title: str
    url: str
    """Empty unless it is plain http or https."""
    retrieved: str


def best_of(subject: Plan | Result | Comparison) -> Result | None:
    """The fleet that the answer is about."""
    if isinstance(subject, Comparison):
        return next((row.best for row in subject.rows if row.best), None)
    return subject.best if isinstance(subject, Plan) else subject


def blocks(subject: Plan | Result | Comparison) -> list[Block]:
    """What is open when the page is."""
    if isinstance(subject, Comparison):
        refused = plan_tables.system_refusals(subject)
        found = [Block("Systems side by side", ("systems",), (plan_tables.systems(subject),))]
        return [*found, Block("Without an answer", bullets=refused)] if refused else found
    best = best_of(subject)
    search = _search_blocks(subject) if isinstance(subject, Plan) else []
    if best is None:
        return search
    fleet = _fleet_blocks(best)
    if not isinstance(subject, Plan):
        return fleet
    moved = moves(best)
    risk = Block(
        "How sure is it, and what else would do?", ("moves",) if moved else (),
        (plan_tables.cost_moves(moved),) if moved else (), bullets=risk_of.decisions(subject),
    )  # fmt: skip
    return [*fleet[:2], risk, *search, *fleet[2:]]


def _fleet_blocks(r: Result) -> list[Block]:
    latency = [tables.latency(r), *_replicated(r)]
    if r.metrics.promises:
        latency = [tables.promises(r), *latency]
    found = [Block("Does it keep its promises?", ("latency",), tuple(latency))]
    sure = interval_tables.intervals(r)
    if sure:
        found.append(Block("How sure is that?", (), (sure,)))
    if r.costs:
        api = tables.apis(r)
        money = (*tables.cost(r, wide=True), *((api,) if api else ()))
        found.append(Block("What does it cost?", ("cost",), money))
    happened = operations(r)
    found += [
        Block(
            "What load is that?", ("day", "load"),
            (
                *((tables.classes(r),) if r.classes else ()),
                tables.load(r),
                *((happened,) if happened else ()),
                *((tables.pools(r),) if r.apart else ()),
            ),
        ),
        Block(
            "How did the run go?", ("tokens", "use", "replicas", "cache", "late"),
            how=HOW["series"],
        ),
        Block(
            "What limits it?", ("step", "memory"),
            notes=(binds_line(r.decode), bars.bound_line(r.decode) + ".",
                   *(_kv_line(use.pool, r.apart) for use in r.pools)),
            how=HOW["step"],
        ),
    ]  # fmt: skip
    hot = r.replica.step.hot
    if hot is not None and hot.load is not None:
        found.append(Block("Where is the expert load?", ("rank_load",), how=HOW["experts"]))
    return found


def _replicated(r: Result) -> tuple[Table, ...]:
    return (tables.replications(r.replications),) if r.replications else ()


def _kv_line(pool: FleetPool, apart: bool) -> str:
    line = bars.kv_line(pool.replica.memory)
    return f"{pool.role.capitalize()} pool: {line}" if apart else line


def _search_blocks(plan: Plan) -> list[Block]:
    groups = plan_tables.refusal_groups(plan)
    return [
        Block(
            "Which fleets do, and why not the others?",
            ("frontier",),
            (plan_tables.options(plan),),
            (_searched(plan),),
            tuple((reason, _listed(labels)) for reason, labels in groups),
            HOW["refusals"],
        )
    ]


def _listed(labels: tuple[str, ...]) -> str:
    """The first of many; the table of every refused layout has them all."""
    text = "; ".join(labels[:LISTED])
    return f"{text}; and {len(labels) - LISTED:,} more" if len(labels) > LISTED else text


def _searched(plan: Plan) -> str:
    pairs = f" and {plan.pairs:,} pairs of them" if plan.pairs else ""
    return (
        f"{plan.layouts:,} layouts at {plan.screened:,} batch limits{pairs} screened, "
        f"{plural(plan.simulated, 'run')} simulated, in {seconds(plan.wall_s)}."
    )


def binds_line(step: Step) -> str:
    """What sets a step's time, by share."""
    by = sorted(step.by_bound().items(), key=lambda item: -item[1])
    binds = ", ".join(f"{component(n)} {share(t / step.time_s)}" for n, t in by if t)
    return f"What binds: {binds}."


def details(subject: Plan | Result | Comparison) -> list[Block]:
    """What is folded away at the end of the page."""
    if isinstance(subject, Comparison):
        return [_system_details(row.best) for row in subject.rows if row.best]
    best = best_of(subject)
    found: list[Block] = []
    if best:
        table = tables.assumptions(best.assumptions)
        stated = tables.statements(best.assumptions)
        count = f"{plural(len(table.rows), 'number')} not confirmed, "
        found.append(
            Block(f"Assumptions: {count}{len(stated)} taken for granted", (), (table,),
                  bullets=stated, how=HOW["assumptions"])
        )  # fmt: skip
    if best:
        found.append(
            Block("How far the shares used are from measurements", (), held_out.tables(best),
                  held_out.notes(best))
        )  # fmt: skip
    if isinstance(subject, Plan):
        table = plan_tables.refusals(subject)
        found.append(Block(f"Every refused layout ({len(table.rows)})", (), (table,)))
    if best:
        found.append(
            Block("Every op of the steps", (), (
                tables.ops("Decode step", best.decode, HOW["step"]),
                tables.ops("Full prefill step", best.prefill, HOW["prefill"]),
            ))
        )  # fmt: skip
    return found


def _system_details(best: Result) -> Block:
    sure = interval_tables.intervals(best)
    return Block(
        f"{best.replica.hardware.system.title}: promises, load, cost",
        (),
        (
            tables.promises(best),
            *((sure,) if sure else ()),
            tables.load(best),
            *tables.cost(best, wide=True),
        ),
        (answer.headline(best),),
    )


def sources(result: Result, references: Mapping[str, Reference]) -> tuple[Source, ...]:
    """Every source of the facts, with its title and link where the key is known."""
    found = []
    for name in result.sources:
        entry = references.get(name)
        url = entry.url if entry and entry.url.startswith(("https://", "http://")) else ""
        found.append(
            Source(name, entry.title if entry else name, url, entry.retrieved if entry else "")
        )
    return tuple(found)


def options_of(subject: Plan | Result) -> Table | None:
    """Other fleets that would do."""
    return plan_tables.options(subject) if isinstance(subject, Plan) else None


def run_facts(subject: Plan | Result | Comparison) -> Table:
    """What was run, so that it can be run again."""
    scenario = subject.scenario
    rows = [("scenario", scenario.name), ("seed", str(scenario.run.seed))]
    best = best_of(subject)
    if best:
        m = best.metrics
        rows += [
            ("model", f"{best.replica.model.title} ({best.replica.model.hf_id})"),
            ("system", best.replica.hardware.system.title),
            ("achieved shares", best.replica.hardware.calibration.name),
            ("requests", f"{m.arrived:,} counted of {len(best.records.arrival_s):,} simulated"),
            ("simulated", f"{human(best.records.end_s, 's')} of service"),
        ]
    if isinstance(subject, Plan):
        rows.append(("layouts looked at", f"{subject.layouts} in {seconds(subject.wall_s)}"))
    return Table("The run", (key(""), text("")), tuple(rows))
