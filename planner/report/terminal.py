"""Answers in the terminal: the answer first, what it rests on last."""

from typing import TYPE_CHECKING, Protocol

from planner.evaluation import Assumption, Replica, Result
from planner.memory import Memory
from planner.report import answer, bars, interval_tables, plan_tables, risk, tables
from planner.report.expert_tables import print_experts
from planner.report.ink import Page
from planner.report.operation_tables import operations
from planner.report.shelf import print_hardware, print_model, print_models, print_system
from planner.report.verdicts import print_claims, print_steady, print_step_answer
from planner.report.words import HOW, component, number, seconds, share
from planner.search import Comparison, Plan
from planner.step import Step
from planner.units import human

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "console",
    "print_claims",
    "print_comparison",
    "print_experts",
    "print_footprint",
    "print_hardware",
    "print_model",
    "print_models",
    "print_plan",
    "print_result",
    "print_steady",
    "print_step",
    "print_step_answer",
    "print_system",
]

ASSUMPTIONS_SHOWN = 8
PRICES_SHOWN = 6


def console() -> "Console":
    """The standard output: colour where it is a terminal and NO_COLOR is not set."""
    from rich.console import Console

    return Console(highlight=False)


def print_plan(plan: Plan, console: "Console") -> None:
    """Print the best fleet, what could be wrong, what else would do; then what an engineer checks.

    Why the others were refused comes after the numbers of the best one.
    """
    page = Page(console)
    _head(page, plan)
    warning = risk.basis_points(plan)
    if warning:
        page.section("Before you buy")
    for head, body in warning:
        page.bullet(head, body)
    page.table(plan_tables.options(plan))
    decisions = risk.decisions(plan, warned=False)
    if decisions:
        page.section("How sure is it, and what else would do")
    for head, body in decisions:
        page.bullet(head, body)
    if plan.best:
        _body(page, plan.best)
    _refused(page, plan)
    pairs = f" and {plan.pairs:,} pairs of them" if plan.pairs else ""
    page.note(
        f"\n{plan.layouts:,} layouts at {plan.screened:,} batch limits{pairs} screened in "
        f"{seconds(plan.screen_s)}, {plan.simulated} runs simulated, {seconds(plan.wall_s)} in all."
    )
    if plan.best:
        _foot(page, plan.best)


def _refused(page: Page, plan: Plan) -> None:
    page.section("Why the others were refused", HOW["refusals"])
    for reason, labels in plan_tables.refusal_groups(plan):
        page.bullet(reason, _some(labels))
    nearest = plan_tables.changes(plan)
    if nearest:
        page.section("What would have to change: the nearest to each limit")
    for head, body in nearest:
        page.bullet(head, body)


def print_result(result: Result, console: "Console") -> None:
    """Print one simulated fleet."""
    page = Page(console)
    _head(page, result)
    _body(page, result)
    _foot(page, result)


def print_comparison(comparison: Comparison, console: "Console") -> None:
    """Print systems side by side, and why some have no answer."""
    page = Page(console)
    _head(page, comparison)
    page.table(plan_tables.systems(comparison))
    refused = plan_tables.system_refusals(comparison)
    if refused:
        page.section("Without an answer")
    for name, why in refused:
        page.bullet(name, why)


class Footprint(Protocol):
    """What one device of a replica holds, and what that rests on."""

    @property
    def replica(self) -> Replica:
        """The replica."""

    @property
    def assumptions(self) -> tuple[Assumption, ...]:
        """What its numbers rest on."""


def print_footprint(answer: Footprint, console: "Console") -> None:
    """Print what one device holds, and whether that fits."""
    page, replica = Page(console), answer.replica
    memory = replica.memory
    page.headline(replica.model.title, footprint_line(replica), memory.fits)
    _memory(page, memory)
    about = ("memory.", "limits.", "accelerator.memory_bytes")
    named = [a for a in answer.assumptions if a.name.startswith(about)]
    _assumptions(page, tuple(named))


def footprint_line(replica: Replica) -> str:
    """Whether it fits, in one sentence."""
    pool, memory = replica.pool, replica.memory
    setup = (
        f"{replica.model.title} on {number(replica.devices)} x "
        f"{replica.hardware.accelerator.title} "
        f"({pool.parallelism.label()}, {pool.weights} weights, {pool.kv} KV)"
    )
    usable = human(memory.usable_bytes, "bytes")
    if not memory.fits:
        return (
            f"{setup} does not fit: a device needs "
            f"{human(memory.usable_bytes + memory.short_by_bytes, 'bytes')} and may use {usable}; "
            f"{human(memory.short_by_bytes, 'bytes')} are missing."
        )
    stated = " (as stated)" if memory.stated else ""
    return (
        f"{setup} fits: {human(memory.weights_bytes, 'bytes')} of weights a device leave "
        f"{human(memory.kv_bytes, 'bytes')} for the KV cache, "
        f"{human(memory.kv_capacity_tokens, 'tokens')} of context a replica{stated}."
    )


def print_step(step: Step, console: "Console", title: str = "Decode step") -> None:
    """Print where the time of one step goes, what binds, and each of its ops."""
    page = Page(console)
    page.headline(title, bars.bound_line(step) + ".", good=None)
    _step(page, step, title)
    page.table(tables.ops("Ops and collectives", step, HOW["step"]))


def _head(page: Page, subject: Plan | Result | Comparison) -> None:
    sentence = answer.headline(subject, warned=False)
    page.headline(answer.title(subject), sentence, answer.good_news(subject))
    result = subject.best if isinstance(subject, Plan) else subject
    if isinstance(result, Result):
        page.note(answer.traffic_line(result))


def _body(page: Page, result: Result) -> None:
    if result.metrics.promises:
        page.table(tables.promises(result))
    page.table(tables.latency(result))
    if result.replications:
        page.table(tables.replications(result.replications))
    if result.classes:
        page.table(tables.classes(result))
    sure = interval_tables.intervals(result)
    if sure:
        page.table(sure)
    page.table(tables.load(result))
    happened = operations(result)
    if happened:
        page.table(happened)
    if result.apart:
        page.table(tables.pools(result))
    for use in result.pools:
        where = f" of the {use.pool.role} pool" if result.apart else ""
        _memory(page, use.pool.replica.memory, where)
    _step(page, result.decode, "Where a decode step's time goes")
    for table in tables.cost(result, page.width >= 112) if result.costs else ():
        page.table(table, most=PRICES_SHOWN)
    apis = tables.apis(result)
    if apis:
        page.table(apis)


def _foot(page: Page, result: Result) -> None:
    _assumptions(page, result.assumptions)
    page.section("Sources")
    page.text(
        f"Facts come from {len(result.sources)} sources. All assumptions, sources and refusals: "
        "the HTML report or JSON."
    )


def _memory(page: Page, memory: Memory, where: str = "") -> None:
    capacity = human(memory.capacity_bytes, "bytes")
    page.section(f"HBM of one device{where}, {capacity}", HOW["memory"])
    page.stack(
        bars.memory_segments(memory),
        max(memory.capacity_bytes, _held(memory)),
        (memory.usable_bytes, f"the engine may use {human(memory.usable_bytes, 'bytes')}"),
    )
    page.note(bars.kv_line(memory))


def _held(memory: Memory) -> float:
    return memory.fixed_bytes + memory.kv_bytes


def _step(page: Page, step: Step, title: str) -> None:
    page.section(f"{title}, {seconds(step.time_s)}", HOW["step"])
    page.bars(bars.step_segments(step))
    by = sorted(step.by_bound().items(), key=lambda item: -item[1])
    binds = ", ".join(f"{component(n)} {share(t / step.time_s)}" for n, t in by if t)
    page.note(f"What binds: {binds}.")
    page.note(bars.bound_line(step) + ".")


def _assumptions(page: Page, found: tuple[Assumption, ...]) -> None:
    if any(a.value is not None for a in found):
        page.table(tables.assumptions(found), most=ASSUMPTIONS_SHOWN)
    stated = tables.statements(found)
    if stated:
        page.section("Taken for granted")
    for name, note in stated:
        page.bullet(name, note)


def _some(labels: tuple[str, ...], room: int = 90) -> str:
    """As many labels as about a line holds, at least one, and how many more."""
    shown = [label for i, label in enumerate(labels) if len("; ".join(labels[: i + 1])) <= room]
    shown = shown or [labels[0]]
    more = len(labels) - len(shown)
    return "; ".join(shown) + (f"; and {more:,} more" if more > 0 else "")
