"""Plotly figures of an answer: one idea each, units on the axes, readable by everyone."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from planner.evaluation import Result
from planner.memory import Memory
from planner.report import bars
from planner.report.bars import OKABE_ITO
from planner.report.expert_figures import fleet_figures
from planner.report.load_figures import day
from planner.report.style import INK, QUIET, base, seconds_axis, wrapped
from planner.report.time_figures import time_figures
from planner.report.words import layout, number, promise_name, seconds, share, usd
from planner.search import Comparison, Plan, moves
from planner.step import Step
from planner.units import human

if TYPE_CHECKING:
    from plotly.graph_objects import Figure, Scatter

__all__ = [
    "comparison_figures",
    "device_memory",
    "plan_figures",
    "result_figures",
    "step_parts",
]

Floats = NDArray[np.float64]


def result_figures(result: Result) -> "dict[str, Figure]":
    """Figures of one simulated fleet, by name."""
    figures = {
        "latency": latency(result),
        "memory": memory(result),
        "step": step(result),
    }
    if result.costs:
        figures["cost"] = cost(result)
    if result.day:
        figures["day"] = day(result)
    return figures | time_figures(result) | fleet_figures(result)


def plan_figures(plan: Plan) -> "dict[str, Figure]":
    """Figures of the best fleet, and the frontier of all that were looked at."""
    from planner.report.study_figures import cost_tornado

    figures = {"frontier": frontier(plan)}
    if plan.best and (found := moves(plan.best)):
        figures["moves"] = cost_tornado(plan.best, found)
    return {**result_figures(plan.best), **figures} if plan.best else figures


def comparison_figures(comparison: Comparison) -> "dict[str, Figure]":
    """Cost of each system's best fleet."""
    found = [row.best for row in comparison.rows if row.best and row.best.costs]
    return {"systems": systems(found)} if found else {}


def memory(result: Result) -> "Figure":
    """HBM of one device of each pool by component, against its capacity."""
    names = [use.pool.role if result.apart else "" for use in result.pools]
    pools = zip(names, result.pools, strict=True)
    return memory_stacks({name: use.pool.replica.memory for name, use in pools})


def device_memory(held: Memory) -> "Figure":
    """HBM of one device by component, against its capacity."""
    return memory_stacks({"": held})


def memory_stacks(stacks: Mapping[str, Memory]) -> "Figure":
    """One stack a named kind of device."""
    import plotly.graph_objects as go

    held = tuple(stacks.values())
    limits = " and ".join(dict.fromkeys(human(m.usable_bytes, "bytes") for m in held))
    sizes = " and ".join(dict.fromkeys(human(m.capacity_bytes, "bytes") for m in held))
    figure = base(
        f"HBM of one device: {sizes}", 240 + 50 * len(held), 100,
        f"dotted: the engine may use {limits}",
    )  # fmt: skip
    shown: set[str] = set()
    for name, one in stacks.items():
        for s in bars.memory_segments(one):
            figure.add_trace(
                go.Bar(
                    name=s.label, x=[s.value / 1e9], y=[name], orientation="h",
                    legendgroup=s.label, showlegend=s.label not in shown,
                    marker={
                        "color": s.colour or "rgba(128,128,128,0.12)",
                        "line": {"color": QUIET, "width": 0 if s.colour else 1},
                    },
                    hovertemplate=f"{s.label}: {s.text}, {share(s.share)}<extra></extra>",
                )
            )  # fmt: skip
            shown.add(s.label)
    for usable in dict.fromkeys(one.usable_bytes for one in held):
        figure.add_vline(x=usable / 1e9, line={"color": INK, "width": 1.5, "dash": "dot"})
    figure.update_layout(barmode="stack", bargap=0.3, legend={"traceorder": "normal"})
    top = max(_top(one) for one in held)
    figure.update_xaxes(title="GB (10<sup>9</sup> bytes)", range=[0, top / 1e9])
    figure.update_yaxes(showticklabels=len(held) > 1, showgrid=False, autorange="reversed")
    return figure


def _top(held: Memory) -> float:
    return float(max(held.capacity_bytes, held.fixed_bytes + held.kv_bytes))


def step(result: Result) -> "Figure":
    """Where the time of a decode step goes."""
    return step_parts(result.decode, "A decode step at the mean load")


def step_parts(d: Step, name: str) -> "Figure":
    """Where the time of a step goes, and how far it is from the speed of light."""
    import plotly.graph_objects as go

    segments = bars.step_segments(d)[::-1]
    light = f"speed of light: {seconds(d.bound_s)} ({d.bound_by}), the step takes "
    figure = base(
        f"{name}: {seconds(d.time_s)}", 140 + 28 * len(segments),
        subtitle=f"{light}{d.time_s / d.bound_s:.2g} times that" if d.bound_s else "",
    )  # fmt: skip
    figure.add_trace(
        go.Bar(
            x=[s.value * 1e3 for s in segments], orientation="h",
            y=[s.label if s.value > 0 else f"{s.label}<br>{s.text}" for s in segments],
            marker={"color": [s.colour for s in segments]},
            text=[f"{s.text} · {s.note}" if s.value > 0 else "" for s in segments],
            textposition="outside",
            cliponaxis=False, showlegend=False,
            customdata=[[s.text, share(s.share), s.note] for s in segments],
            hovertemplate="%{y}: %{customdata[0]}, %{customdata[1]} of the step"
            "<br>mostly set by %{customdata[2]}<extra></extra>",
        )
    )  # fmt: skip
    longest = max(s.value for s in segments) * 1e3
    figure.update_xaxes(title="time (ms)", range=[min(0, segments[0].value * 1e3), longest * 2.2])
    figure.update_yaxes(showgrid=False, ticksuffix=" ")
    return figure


def latency(result: Result) -> "Figure":
    """Share of requests that were at least as fast: TTFT, TPOT, E2E, with their promises."""
    import plotly.graph_objects as go

    r = result.records
    gaps = np.where(r.output_tokens > 1, r.output_tokens - 1.0, np.nan)
    curves = (
        ("ttft", "first token (TTFT)", r.first_token_s - r.arrival_s),
        ("tpot", "per output token (TPOT)", (r.finish_s - r.first_token_s) / gaps),
        ("e2e", "whole answer (E2E)", r.finish_s - r.arrival_s),
    )
    figure = base("How late answers were", 400, 50, "share of requests that were as fast or faster")
    spans: list[float] = []
    for metric, label, values in curves:
        counted: Floats = values[r.counted & np.isfinite(values)]
        if not len(counted):
            continue
        shares = _shares(len(counted))
        times = np.maximum(np.quantile(counted, shares), 1e-6)
        spans += [float(times[0]), float(times[-1])]
        figure.add_trace(
            go.Scatter(
                x=times.tolist(), y=(100 * shares).tolist(), name=label, mode="lines",
                line={"color": _CURVES[metric], "width": 2.5},
                customdata=[seconds(t) for t in times.tolist()],
                hovertemplate="%{y:.1f} % within %{customdata}<extra>" + label + "</extra>",
            )
        )  # fmt: skip
    spans += [p.limit_s for p in result.metrics.promises]
    seconds_axis(figure, spans, "latency (log scale)")
    figure.update_yaxes(title="requests within (%)")
    _promise_lines(figure, result)
    return figure


def _shares(count: int) -> Floats:
    """Shares to draw a curve at: dense in the tail, none finer than the sample."""
    body = np.linspace(0, 0.9, 181)
    tail = 1 - np.geomspace(0.1, max(1e-4, 1 / count), 60)
    return np.concatenate([body, tail])


def _promise_lines(figure: "Figure", result: Result) -> None:
    """A line up to the share that is promised; the curve must pass it on the left."""
    previous, row = -math.inf, 0
    for p in sorted(result.metrics.promises, key=lambda promise: promise.limit_s):
        metric, percent = p.name.removesuffix("_s").split("_p")
        figure.add_shape(
            type="line", x0=p.limit_s, x1=p.limit_s, y0=0, y1=int(percent),
            line={"color": _CURVES[metric], "width": 1.5, "dash": "dot"},
        )  # fmt: skip
        here = math.log10(p.limit_s)
        row, previous = (row + 1 if here - previous < 2.0 else 0), here
        figure.add_annotation(
            x=here, y=101 + 7 * row, yanchor="bottom", showarrow=False,
            text=f"{promise_name(p.name)} ≤ {seconds(p.limit_s)}",
        )  # fmt: skip
    rows = 1 + len(result.metrics.promises) // 2
    figure.update_yaxes(range=[0, 102 + 7 * rows], tickvals=[0, 20, 40, 60, 80, 100])


_CURVES = {"ttft": OKABE_ITO["blue"], "tpot": OKABE_ITO["orange"], "e2e": OKABE_ITO["green"]}


def cost(result: Result) -> "Figure":
    """What the fleet costs an hour at every named price."""
    import plotly.graph_objects as go

    ordered = sorted(result.costs, key=lambda c: -c.usd_per_hour)
    headline = result.costs[0]
    figure = base(
        "What the fleet costs an hour",
        140 + 27 * len(ordered),
        subtitle="and a million output tokens; dark: the headline price",
    )
    names = [f"{c.price.provider}, {c.price.term}" for c in ordered]
    twice = {name for name in names if names.count(name) > 1}
    labels = [
        wrapped(f"{name}, {c.price.retrieved}" if name in twice else name)
        for name, c in zip(names, ordered, strict=True)
    ]
    dear = ordered[0].usd_per_hour
    figure.add_trace(
        go.Bar(
            x=[c.usd_per_hour for c in ordered], y=labels, orientation="h", showlegend=False,
            marker={"color": [OKABE_ITO["blue" if c is headline else "sky"] for c in ordered]},
            text=[
                f"{usd(c.usd_per_hour)} · {usd(c.usd_per_million_output_tokens)}/M"
                for c in ordered
            ],
            textposition="outside", cliponaxis=False,
            customdata=[
                [usd(c.usd_per_hour), usd(c.usd_per_day), usd(c.usd_per_million_input_tokens),
                 usd(c.usd_per_million_output_tokens), c.price.retrieved,
                 f"${float(c.price.usd_per_device_hour):,.2f}"]
                for c in ordered
            ],
            hovertemplate="%{y}<br>%{customdata[5]} a device-hour, read %{customdata[4]}"
            "<br>%{customdata[0]} an hour, %{customdata[1]} a day"
            "<br>a million tokens: %{customdata[2]} in, %{customdata[3]} out<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(title="USD an hour", range=[0, dear * 1.9], rangemode="tozero")
    figure.update_yaxes(ticksuffix=" ", showgrid=False)
    return figure


def frontier(plan: Plan) -> "Figure":
    """Nodes against time per output token: simulated fleets, and estimates of the others."""
    import plotly.graph_objects as go

    figure = base(
        "Fewer nodes or faster tokens", 420, 50,
        "simulated: from mean to p95; estimated: mean",
    )  # fmt: skip
    node = plan.scenario.hardware[0].system.devices_per_node
    guesses = [(label, e) for label, e in plan.estimates if math.isfinite(e.devices)]
    figure.add_trace(
        go.Scatter(
            x=[e.tpot_s * 1e3 for _, e in guesses], y=[e.devices / node for _, e in guesses],
            name="estimated in closed form", mode="markers",
            marker={"color": OKABE_ITO["grey"], "symbol": "circle-open", "size": 8},
            text=[wrapped(label, 60) for label, _ in guesses],
            hovertemplate="%{text}<br>estimate: %{y:.3g} nodes, mean TPOT %{x:.1f} ms"
            "<extra></extra>",
        )
    )  # fmt: skip
    sides = {id(r): _side(r, plan.options) for r in plan.options}
    for chosen, fleets in ((False, plan.options[1:]), (True, plan.options[:1])):
        if fleets:
            figure.add_trace(_fleets(fleets, [sides[id(r)] for r in fleets], chosen))
    limit = plan.scenario.slo.tpot_p95_s
    tpots = [e.tpot_s for _, e in guesses] + [r.metrics.tpot_s.p95 for r in plan.options]
    tpots += [r.metrics.tpot_s.mean for r in plan.options]
    if limit:
        tpots.append(limit)
        figure.add_vline(
            x=limit * 1e3, line={"color": OKABE_ITO["orange"], "width": 1.5, "dash": "dot"},
            annotation={"text": f"TPOT p95 ≤ {seconds(limit)} "}, annotation_position="top left",
        )  # fmt: skip
    if tpots:
        margin = (max(tpots) - min(tpots)) * 0.08 or max(tpots) * 0.1
        ends = [1e3 * (min(tpots) - margin), 1e3 * (max(tpots) + margin)]
        figure.update_xaxes(range=ends)
    figure.update_xaxes(title="time per output token (ms)")
    figure.update_yaxes(title="nodes", rangemode="tozero")
    if plan.options:
        # estimates many times as large would press the fleets that do into one line
        most = SHOWN * max(r.devices for r in plan.options) / node
        if max((e.devices / node for _, e in guesses), default=0.0) > most:
            figure.update_yaxes(range=[0.0, most])
    return figure


SHOWN = 3
"""The frontier is drawn up to so many times the largest fleet that keeps its promises."""


def _side(result: Result, options: tuple[Result, ...]) -> str:
    """Put a label under its point when another fleet stands closely above it."""
    tpots = [r.metrics.tpot_s.p95 for r in options]
    near = 0.25 * (max(tpots) - min(tpots)) or math.inf
    crowded = any(
        r.nodes > result.nodes and abs(r.metrics.tpot_s.p95 - result.metrics.tpot_s.p95) <= near
        for r in options
    )
    return "bottom center" if crowded else "top center"


def _fleets(fleets: tuple[Result, ...], sides: list[str], chosen: bool) -> "Scatter":
    """Simulated fleets at their p95, each with a line from its mean."""
    import plotly.graph_objects as go

    tpots = [r.metrics.tpot_s for r in fleets]
    colour = OKABE_ITO["vermillion" if chosen else "blue"]
    return go.Scatter(
        x=[t.p95 * 1e3 for t in tpots], y=[r.nodes for r in fleets],
        name="chosen" if chosen else "simulated",
        mode="markers+text", text=[r.replica.pool.parallelism.label() for r in fleets],
        textposition=sides,
        marker={
            "color": colour, "size": 15 if chosen else 11,
            "symbol": "star" if chosen else "circle",
        },
        error_x={
            "type": "data", "symmetric": False, "array": [0.0] * len(fleets), "width": 3,
            "arrayminus": [(t.p95 - t.mean) * 1e3 for t in tpots], "color": colour,
            "thickness": 1.2,
        },
        customdata=[
            [wrapped(layout(r), 60), number(r.nodes), seconds(r.metrics.tpot_s.mean),
             seconds(r.metrics.tpot_s.p95), seconds(r.metrics.ttft_s.p95)]
            for r in fleets
        ],
        hovertemplate="%{customdata[0]}<br>%{customdata[1]} nodes"
        "<br>TPOT mean %{customdata[2]}, p95 %{customdata[3]}"
        "<br>TTFT p95 %{customdata[4]}<extra></extra>",
    )  # fmt: skip


def systems(found: list[Result]) -> "Figure":
    """Cost an hour of each system's best fleet."""
    import plotly.graph_objects as go

    ordered = sorted(found, key=lambda r: -r.costs[0].usd_per_hour)
    figure = base("What the cheapest fleet on each system costs an hour", 130 + 30 * len(ordered))
    figure.add_trace(
        go.Bar(
            x=[r.costs[0].usd_per_hour for r in ordered],
            y=[wrapped(r.replica.hardware.system.title) for r in ordered], orientation="h",
            marker={"color": OKABE_ITO["blue"]}, showlegend=False, cliponaxis=False,
            text=[f"{usd(r.costs[0].usd_per_hour)} · {number(r.nodes)} nodes" for r in ordered],
            textposition="outside",
            customdata=[[layout(r), r.devices, seconds(r.metrics.tpot_s.p95)] for r in ordered],
            hovertemplate="%{y}<br>%{customdata[1]} devices, %{customdata[0]}"
            "<br>TPOT p95 %{customdata[2]}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(title="USD an hour", range=[0, ordered[0].costs[0].usd_per_hour * 1.35])
    figure.update_yaxes(ticksuffix=" ", showgrid=False)
    return figure
