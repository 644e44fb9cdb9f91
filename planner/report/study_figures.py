"""Plotly figures of studies: tornado, indices, cases against one value, where money goes."""

import math
from typing import TYPE_CHECKING, Any

from planner.evaluation import Result
from planner.report.bars import COLOURS as COMPONENT_COLOURS
from planner.report.bars import OKABE_ITO
from planner.report.studies import TITLES
from planner.report.style import INK, base
from planner.search import Move
from planner.study import Account, Sensitivity, Sizing, Table
from planner.study.indices import Swing

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS = tuple(OKABE_ITO.values())
LOW, HIGH = COLOURS[:2]


def tornado(found: Sensitivity) -> "Figure":
    """What each unknown does to the answer on its own, the widest on top."""
    import plotly.graph_objects as go

    swings = found.swings[::-1]
    title = TITLES.get(found.quantity, found.quantity)
    figure = base(f"What moves {title}", 130 + 44 * len(swings), 40)
    for name, colour in (("low", LOW), ("high", HIGH)):
        ends = [getattr(s, f"at_{name}") for s in swings]
        figure.add_trace(
            go.Bar(
                y=[s.path for s in swings], x=[end - found.at_middle for end in ends],
                base=found.at_middle, orientation="h", marker_color=colour,
                name=f"at the {name} end", customdata=ends,
                text=[f"{getattr(s, name):.4g}" for s in swings], textposition="inside",
                hovertemplate="%{y} at %{text}: %{customdata:.4g}<extra></extra>",
            )
        )  # fmt: skip
    figure.add_vline(x=found.at_middle, line_color=INK, line_width=1)
    figure.update_layout(barmode="overlay")
    figure.update_xaxes(title_text=title)
    return figure


def cost_tornado(best: Result, found: tuple[Move, ...]) -> "Figure":
    """What each cause does to the cost of a plan's fleet; those without a bound are left out."""
    swings = tuple(
        Swing(m.name, m.low_factor, m.high_factor, m.low_usd_per_hour, m.high_usd_per_hour)
        for m in found
        if math.isfinite(m.high_usd_per_hour)
    )
    own = best.costs[0].usd_per_hour
    return tornado(Sensitivity(best.scenario, "usd_per_hour", own, swings, (), 0))


def indices(found: Sensitivity) -> "Figure":
    """Share of the variance each unknown accounts for, with intervals."""
    import plotly.graph_objects as go

    rows = found.indices[::-1]
    figure = base("Share of the variance", 130 + 50 * len(rows), 40, "bars: 95 % interval")
    for name, colour in (("total", HIGH), ("first", LOW)):
        values = [getattr(i, name) for i in rows]
        figure.add_trace(
            go.Bar(
                y=[i.path for i in rows], x=values, orientation="h", marker_color=colour,
                name={"first": "alone", "total": "with all it acts with"}[name],
                error_x={
                    "array": [getattr(i, f"{name}_high") - getattr(i, name) for i in rows],
                    "arrayminus": [getattr(i, name) - getattr(i, f"{name}_low") for i in rows],
                    "color": INK, "thickness": 1,
                },
            )
        )  # fmt: skip
    figure.update_layout(barmode="group")
    figure.update_xaxes(title_text="share of the variance")
    return figure


def cases(table: Table, x: str, y: str) -> "Figure":
    """One column against another, a line for every combination of the other values tried."""
    import plotly.graph_objects as go

    others = [path for path in table.varied if path != x]
    lines: dict[tuple[Any, ...], list[tuple[Any, Any]]] = {}
    for row in table.rows:
        if row[y] is not None:
            lines.setdefault(tuple(row[path] for path in others), []).append((row[x], row[y]))
    figure = base(f"{TITLES.get(y, y)} by {x}", 420, 60 if others else 0)
    for number, (labels, points) in enumerate(lines.items()):
        figure.add_trace(
            go.Scatter(
                x=[p[0] for p in points], y=[p[1] for p in points], mode="lines+markers",
                name=", ".join(map(str, labels)), showlegend=bool(others),
                line_color=COLOURS[number % len(COLOURS)],
            )
        )  # fmt: skip
    figure.update_xaxes(title_text=x)
    figure.update_yaxes(title_text=TITLES.get(y, y), rangemode="tozero")
    return figure


def regret(found: Sizing) -> "Figure":
    """Cost and chance of every fleet."""
    import plotly.graph_objects as go

    figure = base("Cost against the chance of keeping every promise", 420)
    figure.add_trace(
        go.Scatter(
            x=[c.mean_usd_per_hour for c in found.choices],
            y=[c.slo_probability for c in found.choices],
            error_y={
                "array": [c.slo_high - c.slo_probability for c in found.choices],
                "arrayminus": [c.slo_probability - c.slo_low for c in found.choices],
                "color": INK, "thickness": 1,
            },
            mode="markers+text", text=[c.name for c in found.choices], textposition="middle right",
            marker={"size": 10, "color": LOW},
        )
    )  # fmt: skip
    figure.update_xaxes(title_text="USD an hour")
    figure.update_yaxes(title_text="share of worlds with every promise kept", tickformat=".0%")
    return figure


def money(found: Account) -> "Figure":
    """Where the headline rent goes: phases, split by component."""
    import plotly.graph_objects as go

    figure = base("Where the money goes", 300, 90, "USD an hour, headline price")
    parts = [part for part in found.parts if part.usd_per_hour]
    for name in dict.fromkeys(part.component for part in parts):
        mine = [part for part in parts if part.component == name]
        figure.add_trace(
            go.Bar(
                y=[part.phase for part in mine], x=[part.usd_per_hour for part in mine],
                orientation="h", name=name.replace("_", " "),
                marker_color=OKABE_ITO[COMPONENT_COLOURS.get(name, "grey")],
                marker_line={"width": 0.5, "color": "white"},
            )
        )  # fmt: skip
    figure.update_layout(barmode="stack")
    figure.update_xaxes(title_text="USD an hour")
    return figure
