"""Figures of a run over time: requests, tokens, how full the pools were, how late answers were."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from planner.evaluation import Result
from planner.report.bars import OKABE_ITO
from planner.report.style import base, time_unit
from planner.report.words import seconds
from planner.serving import Series
from planner.serving.metrics import request_limits
from planner.serving.series import BINS, FEWEST

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

FEWEST_BINS = 6
"""Of the figure of percentiles, whose bins must hold some requests each."""
POOL_COLOURS = {
    "both": ("blue", "orange"), "prefill": ("sky", "yellow"), "decode": ("blue", "orange"),
}  # fmt: skip


def time_figures(result: Result) -> "dict[str, Figure]":
    """Every figure over time, by name: load, tokens, use, late."""
    over = _Over(result, result.series())
    bins = max(FEWEST_BINS, len(result.records.arrival_s) // (3 * FEWEST))
    coarse = over if bins >= BINS else _Over(result, result.series(bins))
    return {"load": load(over), "tokens": tokens(over), "use": use(over), "late": late(coarse)}


@dataclass(frozen=True)
class _Line:
    """A column as it is drawn."""

    name: str
    values: Sequence[float]
    colour: str
    hover: str
    axis: str = "y"
    dash: str = "solid"


class _Over:
    """A result, its series, and the axis of time that all figures share."""

    def __init__(self, result: Result, series: Series) -> None:
        self.result, self.series = result, series
        self.size_s, self.unit = time_unit(float(series.edges_s[-1]))
        edges = series.edges_s / self.size_s
        self.times: list[float] = ((edges[1:] + edges[:-1]) / 2).tolist()
        self.end = float(edges[-1])

    def draw(self, figure: "Figure", lines: Sequence[_Line]) -> "Figure":
        """Add lines, grey what does not count, and set the axis of time."""
        import plotly.graph_objects as go

        for line in lines:
            figure.add_trace(
                go.Scatter(
                    x=self.times, y=line.values, name=line.name, yaxis=line.axis, mode="lines",
                    line={"color": OKABE_ITO[line.colour], "width": 2, "dash": line.dash},
                    hovertemplate=line.hover + "<extra></extra>",
                )
            )  # fmt: skip
        self._marks(figure)
        figure.update_layout(hovermode="x unified")
        figure.update_xaxes(
            title=f"time since the start of the run ({self.unit})", range=[0, self.end],
            hoverformat=".3g",
        )  # fmt: skip
        return figure

    def _marks(self, figure: "Figure") -> None:
        """What a reader must know of a stretch of time: warm-up and drain do not count."""
        counted_s, last_s = self.series.counted_s
        if not self.result.records.counted.all():
            _shade(figure, 0.0, counted_s / self.size_s, "warm-up")
        _shade(figure, last_s / self.size_s, self.end, "drain")


def load(over: _Over) -> "Figure":
    """Arrivals, and the requests in a slot and in the queue, over the run."""
    s = over.series
    figure = base("Load over the run", 420, 50, "warm-up and drain are not counted")
    lines = [
        _Line("arrivals per second", s.arrivals_per_s.tolist(), "blue", "%{y:.3g} arrivals/s",
              "y2"),
        _Line("running", s.running.tolist(), "green", "%{y:,.3~g} running"),
        _Line("waiting", s.queued.tolist(), "vermillion", "%{y:,.3~g} waiting"),
    ]  # fmt: skip
    if over.result.apart:
        lines.append(
            _Line("between the pools", s.between_pools.tolist(), "purple",
                  "%{y:,.3~g} between the pools")
        )  # fmt: skip
    return _two(over.draw(figure, lines), ("requests", "arrivals/s"))


def tokens(over: _Over) -> "Figure":
    """Tokens computed and produced per second."""
    s = over.series
    figure = base("Tokens per second", 420, 50, "prompts computed above, answers produced below")
    lines = (
        _Line("input tokens/s", s.input_tokens_per_s.tolist(), "sky", "%{y:,.4~s} in/s", "y2"),
        _Line("output tokens/s", s.output_tokens_per_s.tolist(), "blue", "%{y:,.4~s} out/s"),
    )
    return _two(over.draw(figure, lines), ("output tokens/s", "input tokens/s"), ".2~s")


def use(over: _Over) -> "Figure":
    """Share of time in steps and of the KV cache in use, by pool."""
    figure = base("How full the fleet was", 380, 50, "share of time in steps, share of KV in use")
    lines = []
    for pool, whole in zip(over.series.pools, over.result.pools, strict=True):
        each = whole.pool.replica.memory.kv_capacity_tokens * whole.pool.replicas
        front = f"{pool.role}: " if over.result.apart else ""
        busy, cache = POOL_COLOURS[pool.role]
        lines += [
            _Line(f"{front}busy", (100 * pool.busy_share).tolist(), busy, "%{y:.0f} % busy"),
            _Line(f"{front}KV cache", (100 * pool.kv_tokens / each).tolist(), cache,
                  "%{y:.1f} % of KV", dash="dash"),
        ]  # fmt: skip
    over.draw(figure, lines)
    figure.update_yaxes(title="%", range=[0, 105])
    return figure


def late(over: _Over) -> "Figure":
    """95th percentile of TTFT by time of arrival, and what is promised."""
    limit_s = request_limits(over.result.scenario.slo).get("ttft")
    values = over.series.ttft_p95_s
    figure = base(
        "First token by time of arrival", 340, 30,
        "95th percentile of the requests that arrive in each bin of at least 20",
    )  # fmt: skip
    over.draw(figure, (_Line("TTFT p95", values.tolist(), "blue", "TTFT p95 %{y:.3g} s"),))
    figure.update_yaxes(title="s", rangemode="tozero")
    if limit_s is not None:
        figure.add_hline(
            y=limit_s, line={"color": OKABE_ITO["vermillion"], "width": 1.5, "dash": "dot"},
            annotation={"text": f"promised: {seconds(limit_s)}"}, annotation_position="top left",
        )  # fmt: skip
    return figure


def _two(figure: "Figure", titles: tuple[str, str], tickformat: str = ",") -> "Figure":
    """Two panels above each other with one axis of time."""
    grid: dict[str, Any] = {
        "rangemode": "tozero", "gridcolor": figure.layout.yaxis.gridcolor, "zeroline": False,
        "automargin": True, "tickformat": tickformat,
    }  # fmt: skip
    figure.update_layout(
        yaxis={**grid, "domain": [0, 0.6], "title": titles[0]},
        yaxis2={**grid, "domain": [0.68, 1], "title": titles[1], "anchor": "x"},
    )
    return figure


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
