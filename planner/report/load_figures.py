"""Figures of traffic: what came in during the run, and over the whole day."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from planner.evaluation import Result
from planner.report.answer import clock, measured_window
from planner.report.bars import OKABE_ITO
from planner.report.style import base, time_unit
from planner.specs.workload import CurveArrivals
from planner.units import human
from planner.workloads import window_traffic

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

POINTS = 240


def load(result: Result) -> "Figure":
    """Arrivals, and the requests in a slot and in the queue, over the run."""
    import plotly.graph_objects as go

    r = result.records
    size, unit = time_unit(r.end_s)
    edges = np.linspace(0.0, max(r.end_s, 1e-9), POINTS // 4 + 1)
    rate = np.histogram(r.arrival_s, edges)[0] / np.diff(edges)
    times = np.linspace(0.0, r.end_s, POINTS)
    running = _present(r.admitted_s, r.finish_s, times)
    queued = _present(r.arrival_s[~r.rejected], r.admitted_s[~r.rejected], times)
    figure = base("Load over the run", 420, 50, "warm-up and drain are not counted")
    middles = ((edges[1:] + edges[:-1]) / 2 / size).tolist()
    lines = (
        ("arrivals per second", middles, rate, "blue", "y2", "%{y:.3g} arrivals/s"),
        ("running", (times / size).tolist(), running, "green", "y", "%{y:,} running"),
        ("waiting", (times / size).tolist(), queued, "vermillion", "y", "%{y:,} waiting"),
    )
    for name, x, y, colour, axis, hover in lines:
        figure.add_trace(
            go.Scatter(
                x=x, y=y.tolist(), name=name, yaxis=axis, mode="lines",
                line={"color": OKABE_ITO[colour], "width": 2, "shape": "hv"},
                hovertemplate=hover + "<extra></extra>",
            )
        )  # fmt: skip
    start_s, last_s = float(r.arrival_s[r.counted][0]), float(r.arrival_s[-1])
    if (~r.counted).any():
        _shade(figure, 0.0, start_s / size, "warm-up")
    _shade(figure, last_s / size, r.end_s / size, "drain")
    figure.update_layout(
        hovermode="x unified",
        yaxis={"domain": [0, 0.6], "title": "requests", "rangemode": "tozero", "tickformat": ","},
        yaxis2={
            "domain": [0.68, 1], "title": "arrivals/s", "rangemode": "tozero", "anchor": "x",
            "gridcolor": figure.layout.yaxis.gridcolor, "zeroline": False, "automargin": True,
        },
    )  # fmt: skip
    figure.update_xaxes(
        title=f"time since the start of the run ({unit})", range=[0, r.end_s / size]
    )
    return figure


def _present(
    came_s: NDArray[np.float64], left_s: NDArray[np.float64], times: NDArray[np.float64]
) -> NDArray[np.int64]:
    """How many have come and not left at each time."""
    came = np.sort(came_s[np.isfinite(came_s)])
    left = np.sort(left_s[np.isfinite(left_s)])
    return np.searchsorted(came, times, "right") - np.searchsorted(left, times, "right")


def _shade(figure: "Figure", begin: float, end: float, words: str) -> None:
    """Grey a stretch that does not count."""
    if end > begin:
        figure.add_shape(
            type="rect", x0=begin, x1=end, y0=0, y1=1, yref="paper", line_width=0, layer="below",
            fillcolor="rgba(128,128,128,0.14)",
        )  # fmt: skip
        figure.add_annotation(
            x=(begin + end) / 2, y=0.64, yref="paper", yanchor="middle", text=words,
            showarrow=False,
        )  # fmt: skip


def day(result: Result) -> "Figure":
    """Output tokens asked for over the day, and the window that was measured."""
    import plotly.graph_objects as go

    workload = result.scenario.workload
    figure = base("The day's traffic", 420, subtitle="output tokens asked for, by window")
    if workload is None or not isinstance(workload.arrivals, CurveArrivals):
        return figure
    width_s = workload.arrivals.window_s
    windows = [window_traffic(workload, i) for i in range(len(workload.arrivals.requests_per_s))]
    hours = [i * width_s / 3600 for i in range(len(windows) + 1)]
    rates = [w.output_tokens_per_s / 1e3 for w in windows]
    figure.add_trace(
        go.Scatter(
            x=hours, y=[*rates, rates[-1]], mode="lines", showlegend=False,
            line={"color": OKABE_ITO["blue"], "width": 2, "shape": "hv"}, fill="tozeroy",
            fillcolor="rgba(0,114,178,0.15)",
            customdata=[
                [clock(i * width_s), f"{w.requests_per_s:.3g}", f"{w.input_tokens:,.0f}",
                 f"{w.output_tokens:,.0f}", human(w.output_tokens_per_s, "tokens_per_s")]
                for i, w in enumerate([*windows, windows[-1]])
            ],
            hovertemplate="%{customdata[0]}: %{customdata[4]} out<br>%{customdata[1]} requests/s, "
            "mean prompt %{customdata[2]}, mean answer %{customdata[3]} tokens<extra></extra>",
        )
    )  # fmt: skip
    start, end = measured_window(result)
    if end > start:
        late = start / 3600 > hours[-1] * 0.7
        figure.add_vrect(
            x0=start / 3600, x1=end / 3600, fillcolor=OKABE_ITO["orange"], opacity=0.5,
            line_width=0, annotation={"text": f"measured: {clock(start)} to {clock(end)}"},
            annotation_position="top left" if late else "top right",
        )  # fmt: skip
    marks = list(range(0, round(hours[-1]) + 1, 3 if hours[-1] <= 24 else 12))
    figure.update_xaxes(
        title="time of day", tickvals=marks, ticktext=[clock(3600 * h) for h in marks],
        range=[0, hours[-1]],
    )  # fmt: skip
    figure.update_yaxes(title="output asked for (1,000 tokens/s)", rangemode="tozero")
    return figure
