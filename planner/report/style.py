"""What all figures share: quiet axes, no background, one type, readable on light and dark."""

import html
import math
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

INK = "#7a7a7a"
"""Text: 4.3 : 1 on white and 4.2 : 1 on near-black; pages with a theme of their own replace it."""
QUIET = "rgba(128,128,128,0.45)"
GRID = "rgba(128,128,128,0.18)"
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"

TIMES = (
    1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0,
    120.0, 300.0, 600.0, 1800.0, 3600.0, 10800.0, 36000.0,
)  # fmt: skip
"""Marks that people read on an axis of times. [s]"""


def base(title: str, height: int, legend: int = 0, subtitle: str = "") -> "Figure":
    """An empty figure in the house style, with room for a legend of so many pixels below."""
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.update_layout(
        template="none",
        title={
            "text": title, "x": 0, "xref": "container", "y": 1, "yref": "container",
            "yanchor": "top", "pad": {"t": 8}, "font": {"size": 16},
            "subtitle": {"text": subtitle, "font": {"size": 13, "color": INK}},
        },
        font={"family": FONT, "size": 13, "color": INK},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        height=height,
        margin={"l": 8, "r": 16, "t": 66, "b": 44 + legend},
        legend={"orientation": "h", "x": 0, "yref": "container", "y": 0, "yanchor": "bottom"},
        hoverlabel={"align": "left"},
    )  # fmt: skip
    axis = {
        "gridcolor": GRID, "linecolor": QUIET, "zeroline": False, "automargin": True,
        "title": {"standoff": 8},
    }  # fmt: skip
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure


MARK_SHARE = 0.1
"""Part of an axis that two of its marks are apart at least, so that their words do not touch."""


def seconds_axis(figure: "Figure", spans: list[float], title: str) -> None:
    """Give the x axis a log scale of times with marks like ``50 ms`` and ``2 min``."""
    from planner.report.words import seconds

    low, high = min(spans) / 1.3, max(spans) * 1.3
    apart, marks = (high / low) ** MARK_SHARE, list[float]()
    for time in TIMES:
        if low <= time <= high and (not marks or time >= apart * marks[-1]):
            marks.append(time)
    figure.update_xaxes(
        type="log", title=title, tickvals=marks, ticktext=[seconds(t) for t in marks],
        range=[math.log10(low), math.log10(high)],
    )  # fmt: skip


def time_unit(span_s: float) -> tuple[float, str]:
    """Unit that a stretch of time is read in, and its seconds.

    >>> time_unit(40.0), time_unit(900.0), time_unit(86400.0)
    ((1.0, 's'), (60.0, 'min'), (3600.0, 'h'))
    """
    for size, name in ((3600.0, "h"), (60.0, "min")):
        if span_s >= 3 * size:
            return size, name
    return 1.0, "s"


def wrapped(words: str, width: int = 26) -> str:
    """Words for a figure: broken into lines, and nothing in them taken for markup.

    >>> wrapped("SemiAnalysis: owning <hyperscaler>", 20)
    'SemiAnalysis: owning<br>&lt;hyperscaler&gt;'
    """
    return "<br>".join(html.escape(line) for line in textwrap.wrap(words, width))
