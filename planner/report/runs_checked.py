"""Measured runs beside their predictions, as a page shows them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.files.runs import BadRow
from planner.report.bars import OKABE_ITO
from planner.report.style import base
from planner.report.table import Column, Table, key, text
from planner.report.words import NOTHING, seconds
from planner.specs.runs import Run
from planner.validation.predict import Prediction, flags
from planner.validation.summary import truth

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS = ("blue", "orange", "green", "purple")
MOST_BARS = 60
"""Points beyond which a figure leaves intervals out."""
QUANTITIES = {"mean_ttft_s": "mean TTFT", "mean_tpot_s": "mean TPOT"}


@dataclass(frozen=True, slots=True)
class RunRow:
    """One quantity of one run."""

    id: str
    quantity: str
    measured_s: float
    predicted_s: float | None
    low_s: float | None
    """90 % interval."""
    high_s: float | None
    relative_error: float | None
    """``predicted / measured - 1``."""
    note: str


@dataclass(frozen=True)
class RunsChecked:
    """Measured and predicted, run by run."""

    rows: tuple[RunRow, ...]
    refused: tuple[tuple[int, str, str], ...]
    """Line, id, problem."""
    median_abs_errors: dict[str, float]
    figure: "Figure"
    table: Table


def runs_checked(
    runs: Sequence[Run], predictions: Sequence[Prediction], refused: Sequence[BadRow]
) -> RunsChecked:
    """Set predictions beside what was measured."""
    made = {each.id: each for each in predictions}
    rows = [
        _row(run, made[run.id], quantity, measured)
        for run in runs
        for quantity, measured in truth(run).items()
        if quantity in QUANTITIES and run.id in made
    ]
    medians = {}
    for quantity in QUANTITIES:
        errors = sorted(
            abs(r.relative_error) for r in rows
            if r.quantity == quantity and r.relative_error is not None
        )  # fmt: skip
        if errors:
            medians[quantity] = errors[len(errors) // 2]
    return RunsChecked(
        tuple(rows), tuple((bad.line, bad.id, bad.problem) for bad in refused), medians,
        _parity(rows), _table(rows),
    )  # fmt: skip


def _row(run: Run, made: Prediction, quantity: str, measured: float) -> RunRow:
    value = made.predicted.get(quantity) if made.predicted else None
    low, high = made.interval90.get(quantity, (None, None))
    error = value / measured - 1 if value is not None and measured else None
    note = made.error or "; ".join((*flags(run), *made.notes))
    return RunRow(run.id, quantity, measured, value, low, high, error, note)


def _parity(rows: Sequence[RunRow]) -> "Figure":
    return parity_figure({
        QUANTITIES[quantity]: [
            Beside(r.id, r.measured_s, r.predicted_s, r.low_s, r.high_s)
            for r in rows
            if r.quantity == quantity and r.predicted_s
        ]
        for quantity in QUANTITIES
    })  # fmt: skip


@dataclass(frozen=True, slots=True)
class Beside:
    """A measured time and its prediction. [s]"""

    name: str
    measured_s: float
    predicted_s: float
    low_s: float | None
    """90 % interval."""
    high_s: float | None


def parity_figure(
    groups: Mapping[str, Sequence[Beside]], title: str = "Predicted against measured"
) -> "Figure":
    """Predicted times against measured ones, a colour a group; few with 90 % intervals."""
    import plotly.graph_objects as go

    few = sum(map(len, groups.values())) <= MOST_BARS
    figure = base(title, 440, 50, "on the line: exact" + "; bars: 90 % interval" * few)
    for (name, points), colour in zip(groups.items(), COLOURS, strict=False):
        if not points:
            continue
        bars = [_bar(p) for p in points]
        figure.add_trace(
            go.Scatter(
                x=[p.measured_s for p in points], y=[p.predicted_s for p in points],
                mode="markers", name=name, text=[p.name for p in points],
                marker={"color": OKABE_ITO[colour], "size": 9 if few else 5},
                error_y={
                    "array": [above for _, above in bars],
                    "arrayminus": [below for below, _ in bars],
                    "symmetric": False, "thickness": 1, "width": 2, "visible": few,
                },
                hovertemplate="%{text}<br>measured %{x:.4g} s<br>predicted %{y:.4g} s"
                "<extra></extra>",
            )
        )  # fmt: skip
    both = [x for points in groups.values() for p in points for x in (p.measured_s, p.predicted_s)]
    if both:
        line = [min(both), max(both)]
        figure.add_trace(
            go.Scatter(x=line, y=line, mode="lines", name="exact",
                       line={"color": OKABE_ITO["grey"], "width": 1})
        )  # fmt: skip
    figure.update_xaxes(type="log", title="measured (s)")
    figure.update_yaxes(type="log", title="predicted (s)")
    return figure


def _bar(p: Beside) -> tuple[float, float]:
    """From a value to the ends of its interval; nothing where there is none, or no bound."""
    below = 0.0 if p.low_s is None else p.predicted_s - p.low_s
    known = p.high_s is not None and math.isfinite(p.high_s)
    return below, (p.high_s or 0.0) - p.predicted_s if known else 0.0


def _table(rows: Sequence[RunRow]) -> Table:
    cells = tuple(
        (
            row.id, QUANTITIES[row.quantity], seconds(row.measured_s), seconds(row.predicted_s),
            NOTHING if row.low_s is None else f"{seconds(row.low_s)} to {seconds(row.high_s)}",
            NOTHING if row.relative_error is None or math.isnan(row.relative_error)
            else f"{row.relative_error:+.1%}",
            row.note,
        )
        for row in rows
    )  # fmt: skip
    columns = (
        text("run"), key("quantity"), Column("measured"), Column("predicted"),
        Column("90 % interval"), Column("error"), text("note"),
    )  # fmt: skip
    return Table("Runs", columns, cells, how="planner.validation.predict.predict_runs")
