"""Measured runs beside predictions: tables for the terminal, a page with parity plots."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planner.files.runs import BadRow
from planner.report.checked_page import Verdict, write_checked
from planner.report.ink import Page
from planner.report.pages import Block
from planner.report.runs_checked import QUANTITIES, Beside, parity_figure
from planner.report.table import Column, Table, key, text
from planner.report.words import NOTHING, number, plural, seconds
from planner.specs.runs import Run
from planner.validation.explain import Explanation, lines
from planner.validation.family import family_of
from planner.validation.predict import Prediction, flags
from planner.validation.summary import GROUPS, summarise, truth

if TYPE_CHECKING:
    from plotly.graph_objects import Figure
    from rich.console import Console

NAMES = {
    "mean_tpot_s": "TPOT",
    "mean_ttft_s": "TTFT",
    "total_tokens_per_s_per_device": "tokens/s",
}
"""Quantities that are scored."""


@dataclass(frozen=True)
class RunsReport:
    """Predictions of a runs file, and what could not be predicted."""

    runs: Sequence[Run]
    predictions: Sequence[Prediction]
    refused: Sequence[BadRow] = ()
    groupings: Mapping[str, Callable[[Run], str]] = field(default_factory=lambda: GROUPS)
    """By what errors are summed up."""

    def summary(self) -> list[dict[str, Any]]:
        """Errors by group and quantity, as :func:`planner.validation.summary.summarise`."""
        return summarise(self.runs, self.predictions, self.groupings)

    def flagged(self) -> dict[str, tuple[str, ...]]:
        """Id -> what is odd about the measurement."""
        return {run.id: tuple(flags(run)) for run in self.runs if flags(run)}

    def failed(self) -> dict[str, str]:
        """Id -> why there is no prediction."""
        return {made.id: made.error for made in self.predictions if made.error}


def print_runs(report: RunsReport, console: "Console") -> None:
    """Print errors by group, predictions nobody measured, then what was refused or flagged."""
    page = Page(console)
    page.table(predicted_table(report))
    page.table(errors_table(report.summary()))
    for name, problem in _left_out(report):
        page.bullet(name, problem)


def write_runs_html(path: Path, report: RunsReport, explained: Sequence[Explanation] = ()) -> Path:
    """Write a page that needs no network: verdict, parity plots, errors, the worst explained.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    rows = report.summary()
    figures = {
        quantity: figure for quantity in QUANTITIES
        if (figure := _parity(quantity, report)) is not None
    }  # fmt: skip
    blocks = [Block("By group", tuple(figures), (errors_table(rows),))]
    blocks += [
        Block("Furthest off", bullets=tuple((e.run.id, " ".join(lines(e))) for e in explained)),
        Block("Not measured", tables=(predicted_table(report),)),
        Block("Refused, not predicted or flagged", bullets=_left_out(report)),
    ]
    kept = [b for b in blocks if b.bullets or any(t.rows for t in b.tables)]
    return write_checked(_verdict(report, rows), kept, figures, path)


def _verdict(report: RunsReport, rows: Sequence[dict[str, Any]]) -> Verdict:
    made = sum(each.predicted is not None for each in report.predictions)
    asked = len(report.runs) + len(report.refused)
    said = [f"{made} of {plural(asked, 'run')} predicted"]
    said += [
        f"{NAMES[row['quantity']]} off by {_percent(row['median_abs_error'])} in the median, "
        f"{_percent(row['inside_share'])} inside the 90 % interval"
        for row in rows
        if row["by"] == "overall" and row["n"] and row["quantity"] in QUANTITIES
    ]
    return Verdict("Predicted against measured", "runs", "; ".join(said) + ".", made == asked)


def errors_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Errors by group: a row a group, median and 90th percentile of the size of each error."""
    columns = (
        key("group"), Column("n"), Column("TPOT / p90"), Column("bias"), Column("TTFT / p90"),
        Column("bias"), Column("tokens/s", min_width=76), Column("in 90 %", min_width=96),
    )  # fmt: skip
    groups: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in rows:
        if row["n"]:
            groups.setdefault((row["by"], row["group"]), {})[row["quantity"]] = row
    cells = tuple(_group(name, found) for (_, name), found in groups.items())
    note = "Size of the relative error, median / 90th percentile; bias: median of the signed error."
    return Table("Predicted against measured", columns, cells, note if cells else "")


def _group(name: str, found: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    def both(quantity: str) -> tuple[str, str]:
        row = found.get(quantity)
        if row is None:
            return NOTHING, NOTHING
        p90 = f"{100 * row['p90_abs_error']:.0f} %"
        return f"{100 * row['median_abs_error']:.1f} / {p90}", f"{100 * row['bias']:+.0f} %"

    inside = " · ".join(
        f"{100 * found[q]['inside_share']:.0f}" if q in found else NOTHING
        for q in ("mean_tpot_s", "mean_ttft_s")
    )
    rate = found.get("total_tokens_per_s_per_device")
    return (
        name, str(max(row["n"] for row in found.values())), *both("mean_tpot_s"),
        *both("mean_ttft_s"), _percent(rate["median_abs_error"] if rate else math.nan), inside,
    )  # fmt: skip


def predicted_table(report: RunsReport) -> Table:
    """What is predicted for the runs that nobody measured, with 90 % intervals."""
    made = {each.id: each for each in report.predictions if each.predicted}
    blind = [run.id for run in report.runs if run.measured is None and run.id in made]
    columns = (
        text("run"), Column("TTFT"), Column("90 %", min_width=100), Column("TPOT"),
        Column("90 %", min_width=76), Column("tokens/s a device"), Column("90 %", min_width=120),
    )  # fmt: skip
    rows = tuple(
        (
            name, *_within(made[name], "mean_ttft_s", seconds),
            *_within(made[name], "mean_tpot_s", seconds),
            *_within(made[name], "total_tokens_per_s_per_device", number),
        )
        for name in blind
    )  # fmt: skip
    return Table("Predicted, not measured", columns, rows)


def _within(made: Prediction, quantity: str, write: Callable[[float], str]) -> tuple[str, str]:
    low, high = made.interval90[quantity]
    return write((made.predicted or {})[quantity]), f"{write(low)} to {write(high)}"


def _left_out(report: RunsReport) -> tuple[tuple[str, str], ...]:
    refused = [(f"refused: line {b.line} {b.id}", b.problem) for b in report.refused]
    failed = [
        (f"not predicted: {name}", error.removeprefix(f"{name}: "))
        for name, error in report.failed().items()
    ]
    flagged = [
        (f"flagged: {name}", note) for name, notes in report.flagged().items() for note in notes
    ]
    return (*refused, *failed, *flagged)


def _percent(share: float) -> str:
    return NOTHING if math.isnan(share) else f"{100 * share:.1f} %"


def _parity(quantity: str, report: RunsReport) -> "Figure | None":
    made = {each.id: each for each in report.predictions if each.predicted}
    groups: dict[str, list[Beside]] = {family_of(run): [] for run in report.runs}
    for run in report.runs:
        measured, found = truth(run).get(quantity), made.get(run.id)
        if measured and found and found.predicted:
            low, high = found.interval90[quantity]
            beside = Beside(run.id, measured, found.predicted[quantity], low, high)
            groups[family_of(run)].append(beside)
    if not any(groups.values()):
        return None
    return parity_figure(dict(sorted(groups.items())), QUANTITIES[quantity])
