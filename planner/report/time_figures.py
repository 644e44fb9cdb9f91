"""Figures of a run over time: requests, tokens, how full pools were, how late, what failed."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from planner.evaluation import Result
from planner.report.bars import OKABE_ITO
from planner.report.style import base
from planner.report.time_axis import Line, Over
from planner.report.words import seconds
from planner.serving.metrics import request_limits
from planner.serving.series import BINS, FEWEST, REPLICA_STATES, PoolSeries

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Floats = NDArray[np.float64]

FEWEST_BINS = 6
"""Of the figures of percentiles and shares, whose bins must hold some requests each."""
POOL_COLOURS = {
    "both": ("blue", "orange"), "prefill": ("sky", "yellow"), "decode": ("blue", "orange"),
}  # fmt: skip
STATE_COLOURS = {
    "serving": "green", "slow": "orange", "draining": "sky", "starting": "yellow",
    "failed": "vermillion", "maintained": "purple",
}  # fmt: skip


def time_figures(result: Result) -> "dict[str, Figure]":
    """Every figure over time, by name: load, tokens, use, late; replicas, cache where there are."""
    over = Over(result, result.series())
    bins = max(FEWEST_BINS, len(result.records.arrival_s) // (3 * FEWEST))
    coarse = over if bins >= BINS else Over(result, result.series(bins))
    found = {"load": load(over), "tokens": tokens(over), "use": use(over), "late": late(coarse)}
    if result.records.fleet is not None:
        found["replicas"] = replicas(over)
    if result.records.prefix is not None:
        found["cache"] = cache(coarse)
    return found


def load(over: Over) -> "Figure":
    """Arrivals, and the requests in a slot and in the queue, over the run."""
    s = over.series
    figure = base("Load over the run", 420, 50, "grey: warm-up and drain, not counted")
    lines = [
        Line("arrivals per second", s.arrivals_per_s.tolist(), "blue", "%{y:.3g} arrivals/s",
              "y2"),
        Line("running", s.running.tolist(), "green", "%{y:,.3~g} running"),
        Line("waiting", s.queued.tolist(), "vermillion", "%{y:,.3~g} waiting"),
    ]  # fmt: skip
    if over.result.apart:
        lines.append(
            Line("between the pools", s.between_pools.tolist(), "purple",
                  "%{y:,.3~g} between the pools")
        )  # fmt: skip
    return _two(over.draw(figure, lines), ("requests", "arrivals/s"))


def tokens(over: Over) -> "Figure":
    """Tokens computed and produced per second."""
    s = over.series
    figure = base("Tokens per second", 420, 50, "prompts computed above, answers produced below")
    lines = (
        Line("input tokens/s", s.input_tokens_per_s.tolist(), "sky", "%{y:,.4~s} in/s", "y2"),
        Line("output tokens/s", s.output_tokens_per_s.tolist(), "blue", "%{y:,.4~s} out/s"),
    )
    return _two(over.draw(figure, lines), ("output /s", "input /s"), ".2~s")


def use(over: Over) -> "Figure":
    """Share of time in steps and of the KV cache in use, by pool."""
    changes = over.result.records.fleet is not None
    whose = " of the replicas that serve" if changes else ""
    figure = base(
        "How full the fleet was", 380, 50, f"share of time in steps, share of KV in use{whose}"
    )
    lines = []
    for pool, whole in zip(over.series.pools, over.result.pools, strict=True):
        each = whole.pool.replica.memory.kv_capacity_tokens * whole.pool.replicas
        present = _present_share(pool, whole.pool.replicas)
        front = f"{pool.role}: " if over.result.apart else ""
        shares = (pool.busy_share / present, pool.kv_tokens / each / present)
        busy, cache = ((100 * np.minimum(x, 1.0)).tolist() for x in shares)
        colours = POOL_COLOURS[pool.role]
        lines += [
            Line(f"{front}busy", busy, colours[0], "%{y:.0f} % busy"),
            Line(f"{front}KV cache", cache, colours[1], "%{y:.1f} % of KV", dash="dash"),
        ]
    over.draw(figure, lines)
    figure.update_yaxes(title="%", range=[0, 105])
    return figure


def _present_share(pool: PoolSeries, replicas: int) -> Floats:
    """Replicas with requests over those there can be; ``nan`` where there are none."""
    if not pool.replicas:
        return np.ones(len(pool.busy_share))
    present = sum(pool.replicas[state] for state in ("serving", "slow", "draining"))
    found: Floats = np.where(present > 0, present / replicas, math.nan)
    return found


def late(over: Over) -> "Figure":
    """95th percentile of TTFT by time of arrival, and what is promised."""
    limit_s = request_limits(over.result.scenario.slo).get("ttft")
    values = over.series.ttft_p95_s
    figure = base(
        "First token by time of arrival", 340, 30,
        "95th percentile of the requests that arrive in each bin of at least 20",
    )  # fmt: skip
    over.draw(figure, (Line("TTFT p95", values.tolist(), "blue", "TTFT p95 %{y:.3g} s"),))
    figure.update_yaxes(title="s", rangemode="tozero")
    if limit_s is not None:
        figure.add_hline(
            y=limit_s, line={"color": OKABE_ITO["vermillion"], "width": 1.5, "dash": "dot"},
            annotation={"text": f"promised: {seconds(limit_s)}"}, annotation_position="top left",
        )  # fmt: skip
    return figure


def replicas(over: Over) -> "Figure":
    """Replicas that are paid for by what they do, and what a policy or a schedule decided."""
    figure = base(
        "Replicas over the run", 420, 70, "stacked; marks: decisions of the policy or plan"
    )
    pools = over.series.pools[::-1]
    lines = [
        Line(f"{pool.role}: {state}" if over.result.apart else state, pool.replicas[state].tolist(),
             STATE_COLOURS[state], f"%{{y:.3~g}} {state}", axis, stack=pool.role)
        for axis, pool in zip(("y", "y2"), pools, strict=False)
        for state in REPLICA_STATES
        if pool.replicas[state].any()
    ]  # fmt: skip
    over.draw(figure, lines, states=False)
    _decisions(figure, over)
    if over.result.apart:
        return _two(figure, tuple(pool.role for pool in pools))
    figure.update_yaxes(title="replicas", rangemode="tozero")
    return figure


def _decisions(figure: "Figure", over: Over) -> None:
    """A mark for every decision on how many replicas there are."""
    import plotly.graph_objects as go

    fleet = over.result.records.fleet
    pools = len(over.series.pools)
    for number in range(pools):
        made = [one for one in (fleet.scalings if fleet else ()) if one.pool == number]
        if not made:
            continue
        figure.add_trace(
            go.Scatter(
                x=[one.time_s / over.size_s for one in made], y=[one.after for one in made],
                yaxis="y" if number == pools - 1 else "y2", mode="markers", name="decision",
                marker={"color": OKABE_ITO["blue"], "size": 7, "symbol": "diamond"},
                text=[f"{one.reason}: {one.before} to {one.after}" for one in made],
                hovertemplate="%{text}<extra></extra>",
            )
        )  # fmt: skip


def cache(over: Over) -> "Figure":
    """Share of prompt tokens that prefix caches, and the store behind them, held."""
    s = over.series
    figure = base("Prompt tokens found in caches", 340, 50, "of those admitted in each bin")
    lines = [
        Line(name, (100 * values).tolist(), colour, "%{y:.1f} % " + name, stack="found")
        for name, values, colour in (
            ("in the replica's memory", s.found_share, "green"),
            ("loaded from the store", s.loaded_share, "orange"),
        )
        if values is not None and np.nansum(values)
    ]
    over.draw(figure, lines)
    figure.update_layout(showlegend=True)
    figure.update_yaxes(title="%", rangemode="tozero")
    return figure


def _two(figure: "Figure", titles: Sequence[str], tickformat: str = ",") -> "Figure":
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
