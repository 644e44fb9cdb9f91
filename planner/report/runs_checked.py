"""Measured runs beside their predictions, as a page shows them."""

import math
from collections.abc import Sequence
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
    import plotly.graph_objects as go

    figure = base("Predicted against measured", 440, 50, "on the line: exact; bars: 90 % interval")
    known = [(r, r.predicted_s) for r in rows if r.predicted_s]
    for quantity, colour in zip(QUANTITIES, ("blue", "orange"), strict=True):
        own = [(r, value) for r, value in known if r.quantity == quantity]
        if not own:
            continue
        figure.add_trace(
            go.Scatter(
                x=[r.measured_s for r, _ in own], y=[value for _, value in own], mode="markers",
                name=QUANTITIES[quantity], text=[r.id for r, _ in own],
                marker={"color": OKABE_ITO[colour], "size": 9},
                error_y={
                    "array": [(r.high_s or value) - value for r, value in own],
                    "arrayminus": [value - (r.low_s or value) for r, value in own],
                    "symmetric": False, "thickness": 1, "width": 2,
                },
                hovertemplate="%{text}<br>measured %{x:.4g} s<br>predicted %{y:.4g} s"
                "<extra></extra>",
            )
        )  # fmt: skip
    ends = [x for r, value in known for x in (r.measured_s, value)]
    if ends:
        line = [min(ends), max(ends)]
        figure.add_trace(
            go.Scatter(x=line, y=line, mode="lines", name="exact",
                       line={"color": OKABE_ITO["grey"], "width": 1})
        )  # fmt: skip
    figure.update_xaxes(type="log", title="measured (s)")
    figure.update_yaxes(type="log", title="predicted (s)")
    return figure


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
