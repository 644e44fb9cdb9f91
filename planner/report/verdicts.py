"""Steady steps and published claims, in the terminal."""

from typing import TYPE_CHECKING, Any

from planner.evaluation import SteadyResult
from planner.report import bars, tables
from planner.report.ink import Page
from planner.report.interval_tables import between, steady_intervals
from planner.report.step_page import (
    StepAnswer,
    busy_line,
    ops_how,
    path_table,
    prefill_line,
    sure_table,
)
from planner.report.table import Column, Table, key, text
from planner.report.words import HOW, fact, number, plural, seconds
from planner.search import Verdict
from planner.specs.scenario import Claim
from planner.step import Step
from planner.units import human

if TYPE_CHECKING:
    from rich.console import Console

QUANTITY_UNITS = {
    "hbm_bytes_needed": "bytes",
    "saving_share": "share",
    "training_usd": "usd",
    "decode_tokens_per_s_per_node": "tokens_per_s",
}


def print_step_answer(answer: StepAnswer, console: "Console") -> None:
    """Print a steady step and its timeline over all ranks."""
    page, found = Page(console), answer.timeline
    if answer.steady is not None:
        print_steady(answer.steady, console)
    else:
        title = found.scenario.title or found.scenario.name
        page.headline(title, prefill_line(found), good=None)
        page.table(sure_table(answer))
        _where(page, found.step, ops_how(found.phase))
    page.table(path_table(found))
    page.note(busy_line(answer.timeline))


def print_steady(answer: SteadyResult, console: "Console") -> None:
    """Print one decode step in steady state, its bracket, and the capacities asked for."""
    page = Page(console)
    pool, hardware = answer.replica.pool, answer.replica.hardware
    page.headline(
        answer.scenario.title or answer.scenario.name,
        f"{human(answer.tokens_per_s_per_node, 'tokens_per_s')} a node, "
        f"{human(answer.tokens_per_s_per_device, 'tokens_per_s')} a device: "
        f"{plural(answer.sequences_per_device, 'sequence')} a device with "
        f"{human(answer.context_tokens, 'tokens')} of context decode "
        f"{_yield(answer.step.tokens)} every {seconds(answer.step.time_s)} "
        f"({answer.tokens_per_s_per_user:.3g} tokens/s a user) on "
        f"{hardware.system.title}, {pool.parallelism.label()}, {pool.weights} weights, "
        f"{pool.kv} KV.",
        good=None,
    )
    page.table(steady_intervals(answer))
    page.table(_bracket(answer))
    page.table(_capacities(answer))
    _where(page, answer.step, HOW["step"])


def _where(page: Page, step: Step, how: str) -> None:
    page.section(f"Where the step's time goes, {seconds(step.time_s)}", how)
    page.bars(bars.step_segments(step))
    page.note(bars.bound_line(step) + ".")
    page.table(tables.ops("Ops and collectives", step, how))


def _yield(tokens: float) -> str:
    return "one token" if tokens == 1 else f"{tokens:.3g} tokens (with drafts)"


def _bracket(answer: SteadyResult) -> Table:
    per_node = answer.sequences_per_device * answer.replica.hardware.system.devices_per_node
    per_node *= answer.step.tokens
    cases = (
        ("nothing hidden", answer.unhidden_s),
        ("as described", answer.step.time_s),
        ("all hidden that can be", answer.hidden_s),
    )
    rows = tuple((name, seconds(t), human(per_node / t, "tokens_per_s")) for name, t in cases)
    columns = (key("expert communication"), Column("step"), Column("a node"))
    return Table("How much communication hides", columns, rows, how=HOW["step"], best=1)


def _capacities(answer: SteadyResult) -> Table:
    rows = tuple(
        (
            f"{c.tokens_per_s_per_user:.4g} tokens/s",
            number(c.sequences_per_device),
            between(c.interval90, number) if c.interval90 else "",
            human(c.tokens_per_s_per_device, "tokens_per_s"),
            human(c.tokens_per_s_per_node, "tokens_per_s"),
            c.limited_by.replace("_", " "),
        )
        for c in answer.capacities
    )
    columns = (
        key("user speed"), Column("sequences"), Column("90 %", min_width=90),
        Column("a device"),
        Column("a node"), key("limited by"),
    )  # fmt: skip
    return Table(
        "Most that a device can decode", columns, rows, "sequences: a device.", HOW["capacity"]
    )


def print_claims(verdicts: tuple[Verdict, ...], console: "Console") -> None:
    """Print each published claim beside our figure for it."""
    page = Page(console)
    for verdict in verdicts:
        claim = verdict.claim
        page.headline(
            claim.statement,
            f"We get {_figure(verdict, verdict.value)}; stated {_range(verdict)}.",
            _mark(verdict),
        )
        page.text(verdict.explanation)
        conditions = f" {claim.conditions}" if claim.conditions else ""
        page.note(f"Source: {claim.source}.{conditions}")
        page.table(_rows(verdict.rows))
        page.text("")


CLOSE = 0.10
"""Relative difference up to which a figure outside the stated range is neither right nor wrong."""


def _mark(verdict: Verdict) -> bool | None:
    if verdict.inside:
        return True
    return None if abs(verdict.relative_error) <= CLOSE else False


def _figure(verdict: Verdict, value: float) -> str:
    return fact(f"x_{QUANTITY_UNITS[verdict.claim.quantity]}", value)


def _range(verdict: Verdict) -> str:
    claim: Claim = verdict.claim
    low, high = _figure(verdict, claim.low), _figure(verdict, claim.high)
    middle = f"{100 * verdict.relative_error:+.1f} % from the middle"
    return f"{low} to {high} ({middle})" if low != high else f"{low} ({middle})"


def _rows(rows: tuple[dict[str, Any], ...]) -> Table:
    """Supporting figures: one column a key, unit by its name."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = tuple(_column(n, [row.get(n) for row in rows], n == names[0]) for n in names)
    cells = tuple(tuple(_cell(name, row.get(name)) for name in names) for row in rows)
    return Table("Figures behind it", columns, cells, how=HOW["claims"])


def _column(name: str, values: list[Any], first: bool) -> Column:
    if not any(isinstance(value, str) for value in values):
        return Column(_title(name))
    return key(_title(name)) if first else text(_title(name), 96)


def _title(name: str) -> str:
    for unit in ("_tokens_per_s", "_bytes", "_usd", "_share", "_s"):
        name = name.removesuffix(unit)
    return name.replace("_", " ").replace("usd per", "$ per")


def _cell(name: str, value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return fact(name, value)
        case _:
            return str(value)
