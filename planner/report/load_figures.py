"""Figure of traffic: what came in over the whole day."""

from typing import TYPE_CHECKING

from planner.evaluation import Result
from planner.report.answer import clock, measured_window
from planner.report.bars import OKABE_ITO
from planner.report.style import base
from planner.specs.workload import CurveArrivals
from planner.units import human
from planner.workloads import window_traffic

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


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
