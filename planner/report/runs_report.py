"""Measured runs beside predictions: a table for the terminal, a page with parity plots."""

import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from planner.files.runs import BadRow
from planner.report.words import number, seconds
from planner.specs.runs import Run
from planner.validation.explain import Explanation, lines
from planner.validation.predict import Prediction
from planner.validation.setup import family_of
from planner.validation.summary import truth

NAMES = {
    "mean_tpot_s": "TPOT",
    "mean_ttft_s": "TTFT",
    "total_tokens_per_s_per_device": "tokens/s",
}
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;"
    "background:#fff;color:#111}table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    "td,th{padding:.2rem .7rem;border-bottom:1px solid #ddd;text-align:left}"
)

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
"""Okabe-Ito: told apart with any colour vision."""


def print_runs(
    rows: list[dict[str, Any]], refused: Sequence[BadRow], flagged: dict[str, tuple[str, ...]],
    console: Console,
) -> None:  # fmt: skip
    """Print errors by group, then the runs that were refused or flagged."""
    table = Table(title="Predicted against measured", title_justify="left")
    rows = [row for row in rows if row["n"] or row["coverage_share"] < 1]
    for head in ("by", "group", "quantity"):
        table.add_column(head)
    for head in ("runs", "covered", "|error|", "p90", "bias", "in 90 %"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["by"], row["group"], NAMES[row["quantity"]], str(row["n"]),
            *(_percent(row[key]) for key in
              ("coverage_share", "median_abs_error", "p90_abs_error", "bias", "inside_share")),
        )  # fmt: skip
    if rows:
        console.print(table)
    for bad in refused:
        console.print(f"refused: line {bad.line} {bad.id}: {bad.problem}", markup=False)
    for name, notes in flagged.items():
        for note in notes:
            console.print(f"flagged: {name}: {note}", markup=False)


def print_predicted(
    runs: Sequence[Run], predictions: Sequence[Prediction], console: Console
) -> None:
    """Print what is predicted for the runs that nobody measured; nothing where there are none."""
    made = {each.id: each for each in predictions if each.predicted}
    blind = [run.id for run in runs if run.measured is None and run.id in made]
    if not blind:
        return
    table = Table(title="Predicted, not measured (below: 90 % interval)", title_justify="left")
    table.add_column("run", overflow="fold", min_width=20)
    for head in ("TTFT", "TPOT", "tokens/s a device"):
        table.add_column(head, justify="right", no_wrap=True)
    for name in blind:
        table.add_row(
            name,
            _within(made[name], "mean_ttft_s", seconds),
            _within(made[name], "mean_tpot_s", seconds),
            _within(made[name], "total_tokens_per_s_per_device", number),
        )
    console.print(table)


def _within(made: Prediction, quantity: str, write: Callable[[float], str]) -> str:
    low, high = made.interval90[quantity]
    return f"{write((made.predicted or {})[quantity])}\n{write(low)} to {write(high)}"


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.1f} %"


def write_runs_html(
    path: Path, runs: Sequence[Run], predictions: Sequence[Prediction], rows: list[dict[str, Any]],
    explained: Sequence[Explanation] = (),
) -> None:  # fmt: skip
    """Write a self-contained page: parity plots, errors by group, the worst runs explained."""
    import plotly.io as pio

    names = ("mean_tpot_s", "mean_ttft_s")
    figures = [
        pio.to_html(_parity(name, runs, predictions), full_html=False, include_plotlyjs=not i)
        for i, name in enumerate(names)
    ]
    title = "Predicted against measured"
    path.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style><h1>{title}</h1>{''.join(figures)}{_table(rows)}"
        f"{_explained(explained)}</html>",
        "utf-8",
    )


def _explained(found: Sequence[Explanation]) -> str:
    if not found:
        return ""
    items = "".join(
        f"<details><summary>{escape(each.run.id)}</summary><ul>"
        + "".join(f"<li>{escape(line)}</li>" for line in lines(each))
        + "</ul></details>"
        for each in found
    )
    return f"<h2>Furthest off</h2>{items}"


def _parity(name: str, runs: Sequence[Run], predictions: Sequence[Prediction]) -> Any:
    import plotly.graph_objects as go

    made = {each.id: each for each in predictions}
    figure = go.Figure()
    low, high = float("inf"), 0.0
    for colour, family in enumerate(sorted({family_of(run) for run in runs})):
        points = []
        for run in runs:
            given, value = made.get(run.id), truth(run).get(name)
            if family_of(run) == family and given and given.predicted and value:
                points.append((value, given.predicted[name], run.id))
        if not points:
            continue
        x, y, text = zip(*points, strict=True)
        low, high = min(low, *x, *y), max(high, *x, *y)
        figure.add_scatter(
            x=x, y=y, text=text, mode="markers", name=family,
            marker={"color": COLOURS[colour % len(COLOURS)], "size": 6, "opacity": 0.7},
            hovertemplate="%{text}<br>measured %{x:.4g} s<br>predicted %{y:.4g} s",
        )  # fmt: skip
    figure.add_scatter(
        x=[low, high], y=[low, high], mode="lines", name="exact", line={"color": "#888", "width": 1}
    )
    figure.update_xaxes(type="log", title=f"measured {NAMES[name]} [s]")
    figure.update_yaxes(type="log", title=f"predicted {NAMES[name]} [s]")
    figure.update_layout(template="plotly_white", height=520, width=640)
    return figure


def _table(rows: list[dict[str, Any]]) -> str:
    keys = ("coverage_share", "median_abs_error", "p90_abs_error", "bias", "inside_share")
    heads = (
        "by",
        "group",
        "quantity",
        "runs",
        "covered",
        "median |error|",
        "p90",
        "bias",
        "in 90 %",
    )
    lines = [
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in (
            row["by"], row["group"], NAMES[row["quantity"]], row["n"],
            *(_percent(row[key]) for key in keys))) + "</tr>"
        for row in rows
    ]  # fmt: skip
    head = "".join(f"<th>{h}</th>" for h in heads)
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"
