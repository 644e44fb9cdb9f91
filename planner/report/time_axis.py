"""The axis of time that all figures of a run share: lines, and stretches that are marked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.evaluation import Result
from planner.report.bars import OKABE_ITO
from planner.report.style import time_unit
from planner.serving import Series
from planner.serving.fleet_log import State

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MOST_MARKS = 100
"""Stretches that a figure marks: nearer ones become one."""
ROOM_SHARE = 0.12
"""Of the axis of time, that a stretch needs to be named in its place."""
MARKED = (
    ((State.DOWN,), "a replica failed", "rgba(213,94,0,0.30)"),
    ((State.SLOW,), "a replica slow", "rgba(230,159,0,0.18)"),
    ((State.MAINTENANCE,), "a replica maintained", "rgba(204,121,167,0.32)"),
)
"""States of replicas that every figure shows, and how."""


@dataclass(frozen=True)
class Line:
    """A column as it is drawn."""

    name: str
    values: Sequence[float]
    colour: str
    hover: str
    axis: str = "y"
    dash: str = "solid"
    stack: str = ""
    """Name of the stack of areas it is part of; empty: a line of its own."""


class Over:
    """A result, its series, and the axis of time that all figures share."""

    def __init__(self, result: Result, series: Series) -> None:
        self.result, self.series = result, series
        self.size_s, self.unit = time_unit(float(series.edges_s[-1]))
        edges = series.edges_s / self.size_s
        self.times: list[float] = ((edges[1:] + edges[:-1]) / 2).tolist()
        self.end = float(edges[-1])

    def draw(self, figure: "Figure", lines: Sequence[Line], *, states: bool = True) -> "Figure":
        """Add lines, mark what a reader must know, and set the axis of time.

        Parameters
        ----------
        states : mark when replicas failed, were slow or maintained, too.
        """
        import plotly.graph_objects as go

        for line in lines:
            width = 1 if line.stack else 2
            figure.add_trace(
                go.Scatter(
                    x=self.times, y=line.values, name=line.name, yaxis=line.axis, mode="lines",
                    line={"color": OKABE_ITO[line.colour], "width": width, "dash": line.dash},
                    stackgroup=line.stack or None, hovertemplate=line.hover + "<extra></extra>",
                )
            )  # fmt: skip
        self._uncounted(figure)
        if states:
            self._states(figure)
        figure.update_layout(hovermode="x unified")
        figure.update_xaxes(
            title=f"time since the start of the run ({self.unit})", range=[0, self.end],
            hoverformat=".3g",
        )  # fmt: skip
        return figure

    def _uncounted(self, figure: "Figure") -> None:
        """Grey warm-up and drain, which do not count."""
        counted_s, last_s = self.series.counted_s
        if not self.result.records.counted.all():
            self._shade(figure, 0.0, counted_s / self.size_s, "warm-up")
        self._shade(figure, last_s / self.size_s, self.end, "drain")

    def _shade(self, figure: "Figure", begin: float, end: float, words: str) -> None:
        """Grey a stretch that does not count; named where the word has room."""
        if end <= begin:
            return
        figure.add_shape(
            type="rect", x0=begin, x1=end, y0=0, y1=1, yref="paper", line_width=0, layer="below",
            fillcolor="rgba(128,128,128,0.14)",
        )  # fmt: skip
        if end - begin > ROOM_SHARE * self.end:
            figure.add_annotation(
                x=(begin + end) / 2, y=0.64, yref="paper", yanchor="middle", text=words,
                showarrow=False,
            )  # fmt: skip

    def _states(self, figure: "Figure") -> None:
        """Colour when replicas did not serve as they should."""
        fleet = self.result.records.fleet
        if fleet is None:
            return
        for states, words, colour in MARKED:
            spans = fleet.spans(*states, apart_s=fleet.end_s / MOST_MARKS)
            for begin_s, end_s in spans:
                _band(figure, begin_s / self.size_s, end_s / self.size_s, colour)
            if spans:
                _legend(figure, words, colour)


def _band(figure: "Figure", begin: float, end: float, colour: str) -> None:
    """Colour a stretch; its edge is drawn, so that a short one is seen."""
    figure.add_shape(
        type="rect", x0=begin, x1=end, y0=0, y1=1, yref="paper", layer="below", fillcolor=colour,
        line={"color": colour, "width": 1},
    )  # fmt: skip


def _legend(figure: "Figure", words: str, colour: str) -> None:
    """Say what a colour means."""
    import plotly.graph_objects as go

    figure.add_trace(
        go.Scatter(
            x=[None], y=[None], name=words, mode="markers", hoverinfo="skip",
            marker={"color": colour, "size": 12, "symbol": "square"},
        )
    )  # fmt: skip
