"""What was read from a trace, before anything is simulated: sentence, tables, figures."""

from typing import TYPE_CHECKING

import numpy as np

from planner.report.bars import OKABE_ITO
from planner.report.style import base, time_unit
from planner.specs.requests import RequestTable

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

BINS = 120


def arrivals_figure(table: RequestTable) -> "Figure":
    """Requests a second over the recorded time."""
    import plotly.graph_objects as go

    last_s = float(table.arrival_s[-1]) if len(table) else 0.0
    size_s, unit = time_unit(last_s)
    figure = base("Requests as recorded", 300, subtitle="arrivals a second, over time")
    edges_s = np.linspace(0.0, max(last_s, 1e-9), min(BINS, max(1, len(table) // 5)) + 1)
    rate = np.histogram(table.arrival_s, edges_s)[0] / np.diff(edges_s)
    figure.add_trace(
        go.Scatter(
            x=((edges_s[1:] + edges_s[:-1]) / 2 / size_s).tolist(), y=rate.tolist(), mode="lines",
            showlegend=False, line={"color": OKABE_ITO["blue"], "width": 2, "shape": "hvh"},
            hovertemplate="%{y:.3g} requests/s<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(title=f"time ({unit})", hoverformat=".3g")
    figure.update_yaxes(title="requests/s", rangemode="tozero")
    return figure


def lengths_figure(table: RequestTable) -> "Figure":
    """Share of requests by prompt and by answer length, on a log scale."""
    import plotly.graph_objects as go

    figure = base("Lengths", 300, 30, "share of requests in each bin of tokens")
    for name, lengths, colour in (
        ("prompt", table.input_tokens, "sky"), ("answer", table.output_tokens, "orange"),
    ):  # fmt: skip
        top = max(2.0, float(lengths.max(initial=1)))
        edges = np.unique(np.geomspace(1.0, top + 1.0, 40).astype(np.int64))
        counts = np.histogram(lengths, edges)[0]
        middles = np.sqrt(edges[1:] * edges[:-1])
        figure.add_trace(
            go.Scatter(
                x=middles.tolist(), y=(100 * counts / max(1, counts.sum())).tolist(), name=name,
                mode="lines", line={"color": OKABE_ITO[colour], "width": 2, "shape": "hvh"},
                hovertemplate="%{y:.2g} % of requests<extra>" + name + "</extra>",
            )
        )  # fmt: skip
    figure.update_xaxes(title="tokens", type="log")
    figure.update_yaxes(title="%", rangemode="tozero")
    return figure
