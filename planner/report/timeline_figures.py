"""Figures of one simulated step: who does what when, the longest path, and what is busy."""

from typing import TYPE_CHECKING

from planner.evaluation import TimelineResult
from planner.report.bars import OKABE_ITO
from planner.report.style import base
from planner.report.words import seconds, share
from planner.step.timeline import Bar, Stream

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

STAGES = {
    "attention_in": ("attention: projections", "green"),
    "attention_core": ("attention: core", "yellow"),
    "attention_out": ("attention: output", "sky"),
    "router": ("router", "grey"),
    "dispatch": ("dispatch", "orange"),
    "experts": ("routed experts", "blue"),
    "combine": ("combine", "vermillion"),
    "dispatch_sms": ("dispatch: sending, receiving", "orange"),
    "combine_sms": ("combine: sending, receiving", "vermillion"),
    "shared_up": ("shared expert", "purple"),
    "shared_down": ("shared expert", "purple"),
    "dense layers": ("dense layers", "green"),
    "collectives": ("collectives", "sky"),
    "head and drafts": ("output head, drafts", "yellow"),
    "host": ("host", "grey"),
}
"""Stages in words, and their colours."""

RESOURCES: dict[Stream, str] = {
    "compute": "compute",
    "scale_up": "scale-up link",
    "scale_out": "scale-out network",
    "host": "host",
}
MICRO = ("", "/")
"""Pattern of a micro-batch."""
ROW_HEIGHT = 46
HEIGHT, LEAST_HEIGHT = 0.72, 0.12
"""Height of a bar over its row's, and the least of that which is drawn."""


def gantt(result: TimelineResult) -> "Figure":
    """Streams of the slowest and the fastest rank over the layers that were kept."""
    import plotly.graph_objects as go

    bars = result.timeline.bars
    shown = [bar for bar in bars if bar.layer >= 0]
    start_s = min(bar.start_s for bar in shown)
    span_s = max(bar.end_s for bar in shown) - start_s
    used = {bar.stream for bar in bars}
    rows = [
        _row(result, rank, stream)
        for rank in dict.fromkeys(bar.rank for bar in bars)
        for stream in RESOURCES
        if stream in used
    ]
    cut = any(bar.micro_batch for bar in bars)
    figure = base(
        f"A few expert layers of a {result.phase} step, from layer {shown[0].layer + 1} on",
        170 + ROW_HEIGHT * len(rows), 62,
        f"{'plain: micro-batch A, hatched: B; ' * cut}gaps: idle; "
        "height: share of a transfer in which this link is in use",
    )  # fmt: skip
    for label, colour in dict.fromkeys(STAGES.values()):
        own = [bar for bar in bars if STAGES[bar.name][0] == label]
        if not own:
            continue
        figure.add_trace(
            go.Bar(
                name=label, orientation="h", width=[_height(bar) for bar in own],
                x=[1e3 * (bar.end_s - bar.start_s) for bar in own],
                base=[1e3 * (bar.start_s - start_s) for bar in own],
                y=[_row(result, bar.rank, bar.stream) for bar in own],
                marker={
                    "color": OKABE_ITO[colour],
                    "line": {"color": "rgba(128,128,128,0.9)", "width": 0.6},
                    "pattern": {
                        "shape": [MICRO[bar.micro_batch] for bar in own], "fillmode": "overlay",
                        "fgcolor": "rgba(0,0,0,0.55)", "size": 6, "solidity": 0.25,
                    },
                },
                customdata=[_hover(bar) for bar in own],
                hovertemplate="%{customdata}<extra></extra>",
            )
        )  # fmt: skip
    figure.update_layout(barmode="overlay", legend={"traceorder": "normal"})
    for bar in bars:
        if bar.start_s >= start_s + span_s:
            figure.add_annotation(
                x=1e3 * span_s, y=_row(result, bar.rank, bar.stream), xanchor="right",
                text=f"{seconds(bar.busy_s)} at the step's end \N{RIGHTWARDS ARROW}",
                showarrow=False,
            )  # fmt: skip
    figure.update_xaxes(title="ms since the first", range=[0, 1.01e3 * span_s])
    figure.update_yaxes(
        categoryorder="array", categoryarray=rows[::-1], showgrid=False, ticksuffix=" "
    )
    return figure


def _height(bar: Bar) -> float:
    """Of a row, so that the area of a link's bars is the time for which it is in use."""
    return HEIGHT * max(LEAST_HEIGHT, min(1.0, bar.busy_s / (bar.end_s - bar.start_s)))


def _row(result: TimelineResult, rank: int, stream: Stream) -> str:
    word = "slowest" if rank == result.timeline.slowest_rank else "rank"
    return f"{word} {rank}: {RESOURCES[stream]}"


def _hover(bar: Bar) -> str:
    where = f", layer {bar.layer + 1}, micro-batch {'AB'[bar.micro_batch]}"
    took_s = bar.end_s - bar.start_s
    whole = bar.busy_s > (1 - 1e-9) * took_s
    return (
        f"{STAGES[bar.name][0]}{where if bar.layer >= 0 else ''}: {seconds(took_s)}"
        f"{'' if whole else f', {RESOURCES[bar.stream]} in use for {seconds(bar.busy_s)}'}"
    )


def critical(result: TimelineResult) -> "Figure":
    """Time of each stage along the longest path."""
    import plotly.graph_objects as go

    found = result.timeline
    totals: dict[tuple[str, str], float] = {}
    for name, time_s in found.critical.items():
        totals[STAGES[name]] = totals.get(STAGES[name], 0.0) + time_s
    ordered = sorted(totals.items(), key=lambda item: item[1])
    figure = base(
        f"The longest path through the step: {seconds(found.time_s)}", 130 + 28 * len(ordered),
        subtitle="what is hidden behind other work is not on it",
    )  # fmt: skip
    figure.add_trace(
        go.Bar(
            x=[1e3 * time_s for _, time_s in ordered], y=[label for (label, _), _ in ordered],
            orientation="h", showlegend=False, cliponaxis=False, textposition="outside",
            marker={"color": [OKABE_ITO[colour] for (_, colour), _ in ordered]},
            text=[f"{seconds(t)} · {share(t / found.time_s)}" for _, t in ordered],
            hovertemplate="%{y}: %{text}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(title="time (ms)", range=[0, 1.7e3 * ordered[-1][1]])
    figure.update_yaxes(showgrid=False, ticksuffix=" ")
    return figure


def busy(result: TimelineResult) -> "Figure":
    """Share of the step that each resource works, mean over ranks."""
    import plotly.graph_objects as go

    shares = [(RESOURCES[name], value) for name, value in result.timeline.busy.items()][::-1]
    figure = base("How busy each resource is", 130 + 34 * len(shares), subtitle="mean over ranks")
    figure.add_trace(
        go.Bar(
            x=[100 * value for _, value in shares], y=[name for name, _ in shares],
            orientation="h", showlegend=False, cliponaxis=False, textposition="outside",
            marker={"color": OKABE_ITO["sky"]}, text=[share(value) for _, value in shares],
            hovertemplate="%{y}: %{text} of the step<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(title="% of the step", range=[0, 112], tickvals=[0, 25, 50, 75, 100])
    figure.update_yaxes(showgrid=False, ticksuffix=" ")
    return figure


def timeline_figures(result: TimelineResult) -> "dict[str, Figure]":
    """All of them, by name."""
    figures = {"critical": critical(result), "busy": busy(result)}
    return {"gantt": gantt(result), **figures} if result.timeline.bars else figures
