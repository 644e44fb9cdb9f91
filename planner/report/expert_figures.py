"""Expert load as figures: ranks and layers without and with load balancing."""

from typing import TYPE_CHECKING

import numpy as np

from planner.evaluation import ExpertReport, Result, expert_report, experts_of
from planner.report.bars import OKABE_ITO
from planner.report.style import INK, base

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SCALE = ((0.0, "#0072B2"), (0.25, "#56B4E9"), (0.5, "#F0E442"), (0.75, "#E69F00"), (1.0, "#D55E00"))
"""Blue for idle ranks, yellow for the mean, red for hot ones: told apart by colour-blind readers,
and by lightness around the mean."""
HOTTEST = 4.0
"""Largest ratio the colours tell apart; hotter ranks look the same."""


def expert_figures(report: ExpertReport) -> "dict[str, Figure]":
    """Figures by name: heat map of ranks and layers, hottest rank by layer, experts by load."""
    figures = {
        "rank_load": rank_load(report),
        "hottest_rank": hottest_rank(report),
        "expert_load": expert_shares(report),
    }
    if report.rebalancing:
        figures["rebalancing"] = rebalancing(report)
    return figures


def fleet_figures(result: Result) -> "dict[str, Figure]":
    """Heat map of a fleet whose scenario has routing; nothing where every rank is alike."""
    report = fleet_load(result)
    return {} if report is None else {"rank_load": rank_load(report)}


def fleet_load(result: Result) -> ExpertReport | None:
    """Expert load of a fleet's layout in steps of its size; None where every rank is alike."""
    hot = result.replica.step.hot
    if hot is None or hot.load is None:
        return None
    laid_out = result.scenario.model_copy(update={"deployment": result.replica.pool})
    return expert_report(experts_of(laid_out))


def rank_load(report: ExpertReport) -> "Figure":
    """Load of every rank of every layer over the layer's mean, before and after balancing."""
    import plotly.graph_objects as go

    layers = len(report.expert_load)
    height = 190 + 2 * max(180, min(330, 6 * layers))
    figure = base(
        "Load of each expert rank, layer by layer", height, 40,
        "expected tokens of a rank over the mean rank of its layer",
    )  # fmt: skip
    for at, (words, load) in enumerate(
        (("no load balancing", report.before), ("load balancing", report.after))
    ):
        name = "" if not at else "2"
        shown = np.log2(np.clip(load.rank_load, 1 / HOTTEST, HOTTEST))
        figure.add_trace(
            go.Heatmap(
                z=shown.round(4).tolist(), zmin=-np.log2(HOTTEST), zmax=np.log2(HOTTEST),
                colorscale=[list(stop) for stop in SCALE], showscale=not at,
                xaxis=f"x{name}", yaxis=f"y{name}",
                customdata=load.rank_load.round(3).tolist(),
                hovertemplate=f"{words}<br>MoE layer %{{y}}, rank %{{x}}: "
                "%{customdata:.2f} x the mean<extra></extra>",
                colorbar={
                    "title": {"text": "times the mean", "side": "right"}, "thickness": 12,
                    "tickvals": [-2, -1, 0, 1, 2], "ticktext": ["0.25", "0.5", "1", "2", "4+"],
                    "outlinewidth": 0,
                },
            )
        )  # fmt: skip
        figure.add_annotation(
            text=f"<b>{words}</b>: {load.local_slots} slots a rank,<br>"
            f"hottest rank {load.rank_ratio:.2f} x the mean", align="left",
            x=0, xref="paper", xanchor="left", y=1.0 if not at else 0.42, yref="paper",
            yanchor="bottom", showarrow=False, font={"color": INK},
        )  # fmt: skip
    axis = {"title": "MoE layer", "autorange": "reversed"}
    figure.update_layout(
        xaxis={"anchor": "y", "matches": "x2", "showticklabels": False},
        yaxis={"domain": [0.58, 1.0], **axis},
        xaxis2={"anchor": "y2", "title": "rank", "automargin": True},
        yaxis2={"domain": [0.0, 0.42], "automargin": True, **axis},
    )
    figure.update_layout(margin={"t": 112})
    return figure


def expert_load_map(report: ExpertReport) -> "Figure":
    """Load of every expert of every layer over the layer's mean."""
    import plotly.graph_objects as go

    load = report.expert_load / report.expert_load.mean(axis=1, keepdims=True)
    figure = base(
        "Load of each expert, layer by layer", 170 + max(180, min(330, 6 * len(load))), 0,
        "expected tokens of an expert over the mean expert of its layer",
    )  # fmt: skip
    figure.add_trace(
        go.Heatmap(
            z=np.log2(np.clip(load, 1 / HOTTEST, HOTTEST)).round(3).tolist(),
            zmin=-np.log2(HOTTEST), zmax=np.log2(HOTTEST),
            colorscale=[list(stop) for stop in SCALE], customdata=load.round(3).tolist(),
            hovertemplate="MoE layer %{y}, expert %{x}: %{customdata:.2f} x the mean"
            "<extra></extra>",
            colorbar={
                "title": {"text": "times the mean", "side": "right"}, "thickness": 12,
                "tickvals": [-2, -1, 0, 1, 2], "ticktext": ["0.25", "0.5", "1", "2", "4+"],
                "outlinewidth": 0,
            },
        )
    )  # fmt: skip
    figure.update_xaxes(title="expert", showgrid=False)
    figure.update_yaxes(title="MoE layer", autorange="reversed", showgrid=False)
    return figure


def hottest_rank(report: ExpertReport) -> "Figure":
    """Hottest rank over the mean by layer."""
    import plotly.graph_objects as go

    asked = report.setting.question
    figure = base(
        "How hot the hottest rank is, by layer", 360, 40,
        f"EP{asked.ep}, steps of {asked.tokens:,} tokens; chance included",
    )  # fmt: skip
    layers = list(range(len(report.expert_load)))
    for words, load, colour in (
        ("no load balancing", report.before, "vermillion"),
        ("load balancing", report.after, "blue"),
    ):
        figure.add_trace(
            go.Scatter(
                x=layers, y=load.imbalance_by_layer.round(4).tolist(), name=words, mode="lines",
                line={"color": OKABE_ITO[colour], "width": 2, "shape": "hvh"},
                hovertemplate=f"{words}, layer %{{x}}: %{{y:.2f}}<extra></extra>",
            )
        )  # fmt: skip
    figure.update_xaxes(title="MoE layer")
    figure.update_yaxes(title="hottest rank / mean", rangemode="tozero")
    return figure


def expert_shares(report: ExpertReport) -> "Figure":
    """Experts of a layer from the most to the least popular: median and range over layers."""
    import plotly.graph_objects as go

    falling = -np.sort(-report.expert_load, axis=1)
    ratio = falling / falling.mean(axis=1, keepdims=True)
    low, middle, high = np.quantile(ratio, (0.1, 0.5, 0.9), axis=0)
    x = list(range(1, ratio.shape[1] + 1))
    figure = base(
        "Experts from the most to the least popular", 360, 40,
        "line: middle layer; band: eight of ten layers",
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=x + x[::-1], y=[*high.round(4), *low[::-1].round(4)], fill="toself", mode="none",
            fillcolor="rgba(0,114,178,0.2)", showlegend=False, hoverinfo="skip",
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=x, y=middle.round(4).tolist(), mode="lines", showlegend=False,
            line={"color": OKABE_ITO["blue"], "width": 2},
            hovertemplate="expert number %{x}: %{y:.2f} x the mean<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(title="expert of a layer, by popularity")
    figure.update_yaxes(title="tokens / mean expert", rangemode="tozero")
    return figure


def rebalancing(report: ExpertReport) -> "Figure":
    """Hottest rank by window: first placement kept, and renewed every few windows."""
    import plotly.graph_objects as go

    figure = base("When load drifts", 360, 40, "expected load; a window is a recorded period")
    if report.rebalancing is None:
        return figure
    kept, renewed = report.rebalancing
    past = "window" if report.every == 1 else f"{report.every} windows"
    for words, found, colour in (
        ("first placement kept", kept, "vermillion"),
        (f"placement renewed from the {past} before", renewed, "blue"),
    ):
        figure.add_trace(
            go.Scatter(
                x=list(range(1, len(found.imbalance) + 1)), y=found.imbalance.round(4).tolist(),
                name=words, mode="lines+markers",
                line={"color": OKABE_ITO[colour], "width": 2},
                hovertemplate=f"{words}, window %{{x}}: %{{y:.2f}}<extra></extra>",
            )
        )  # fmt: skip
    figure.update_xaxes(title="window", dtick=1)
    figure.update_yaxes(title="hottest rank / mean", rangemode="tozero")
    return figure
