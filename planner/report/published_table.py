"""Published figures beside predictions, in the terminal."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from planner.report.ink import Page
from planner.report.table import Column, Table, key, text
from planner.validation.published import FAR, Summary, Verdict, summary

if TYPE_CHECKING:
    from rich.console import Console

MOST_ROWS = 24
"""Figures of one claim that are shown one by one; larger tables are summed up."""
BAR = 8
"""Characters either side of zero."""
BAR_ERROR = 0.6
"""Error at which a bar is full."""


def print_published(verdicts: Sequence[Verdict], console: "Console") -> None:
    """Print every figure with an error bar, tables summed up, and what is far off and why."""
    page = Page(console)
    groups: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault(verdict.claim, []).append(verdict)
    for name, group in groups.items():
        if len(group) <= MOST_ROWS:
            page.table(_figures(name, group))
    large = {name: group for name, group in groups.items() if len(group) > MOST_ROWS}
    if large:
        page.table(_tables(large))
    page.table(_summary(verdicts))
    far = [v for v in verdicts if v.far]
    if far:
        page.table(_far(far))


def _figures(claim: str, verdicts: Sequence[Verdict]) -> Table:
    same = len({v.quantity for v in verdicts}) == 1
    columns = (
        text("conditions"), *(() if same else (text("quantity"),)), Column("published"),
        Column("predicted"), Column("error"), key("error bar"), Column("split", "left", 90),
    )  # fmt: skip
    rows = tuple(
        (
            v.conditions, *(() if same else (v.quantity,)), _number(v.value), _number(v.predicted),
            _percent(v.relative_error), bar(v.relative_error), v.split,
        )
        for v in verdicts
    )  # fmt: skip
    first = verdicts[0]
    title = f"{claim} [{first.quantity}]" if same else claim
    note = first.source + (f". Assumed: {'; '.join(first.assumed)}" if first.assumed else "")
    return Table(title, columns, rows, note)


def _tables(groups: dict[str, list[Verdict]]) -> Table:
    columns = (
        text("table"), key("quantity"), key("split"), Column("rows"), Column("median |error|"),
        Column("p90"), Column("bias"),
    )  # fmt: skip
    rows = []
    for name, group in groups.items():
        for split in dict.fromkeys(v.split for v in group):
            mine = [v for v in group if v.split == split]
            found = summary(mine)
            rows.append((name, mine[0].quantity, split, str(found.number), *_errors(found)))
    return Table("Tables of measurements", columns, tuple(rows))


def _summary(verdicts: Sequence[Verdict]) -> Table:
    columns = (
        key("figures"), Column("number"), Column("median |error|"), Column("p90"), Column("bias"),
        Column(f"off by {FAR:g}x"), Column("without reason"),
        Column("in 90 %", min_width=90),
    )  # fmt: skip
    rows = []
    for name, group in _groups(verdicts):
        found = summary(group)
        inside = "-" if math.isnan(found.inside_share) else f"{found.inside_share:.0%}"
        numbers = (
            str(found.number), *_errors(found), str(found.far), str(found.unexplained), inside,
        )  # fmt: skip
        rows.append((name, *numbers))
    note = f"error: predicted / published - 1; a full bar is {BAR_ERROR:.0%}"
    return Table("Summary", columns, tuple(rows), note, "planner.validation.published")


def _groups(verdicts: Sequence[Verdict]) -> list[tuple[str, list[Verdict]]]:
    """Systems and kernels apart, each also by split: tables of kernels are many."""
    found = []
    for name, kernel in (("systems", False), ("kernels", True)):
        mine = [v for v in verdicts if ("kernels" in v.tags) == kernel]
        splits = list(dict.fromkeys(v.split for v in mine))
        found += [(name, mine)] if mine else []
        if len(splits) > 1:
            found += [(f"  {split}", [v for v in mine if v.split == split]) for split in splits]
    return found


def _far(verdicts: Sequence[Verdict]) -> Table:
    shown = sorted(verdicts, key=lambda v: -abs(v.relative_error or 9.0))[:MOST_ROWS]
    rows = tuple(
        (v.claim, v.conditions, _percent(v.relative_error), v.error or v.reason or "none stated")
        for v in shown
    )
    columns = (text("claim"), text("conditions"), Column("error"), text("reason"))
    return Table(f"Off by more than {FAR:g}x ({len(verdicts)})", columns, rows)


def bar(error: float | None) -> str:
    """Draw an error either side of a middle line: ``    ██|``."""
    if error is None:
        return ""
    length = min(BAR, round(abs(error) / BAR_ERROR * BAR))
    filled = "█" * length
    if error < 0:
        return f"{filled:>{BAR}}|{'':{BAR}}"
    return f"{'':{BAR}}|{filled:<{BAR}}"


def _errors(found: Summary) -> tuple[str, str, str]:
    if not found.predicted:
        return ("-", "-", "-")
    return (f"{found.median_abs_error:.1%}", f"{found.p90_abs_error:.1%}", f"{found.bias:+.1%}")


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _percent(error: float | None) -> str:
    return "-" if error is None else f"{error:+.1%}"
