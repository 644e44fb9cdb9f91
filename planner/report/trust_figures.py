"""How far predictions are off, as figures."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from planner.report.bars import OKABE_ITO
from planner.report.calibration import FAMILIES
from planner.report.style import INK, QUIET, base, wrapped
from planner.validation.published import FAR, Verdict

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SPLITS = {"fitted": "sky", "held_out": "vermillion", "unfitted": "blue"}
WORDS = {
    "fitted": "fitted", "held_out": "held out of a fit", "unfitted": "never part of a fit",
    "interpolation": "other sizes", "shape": "other shapes", "ep_degree": "other EP degrees",
    "part": "other parts", "elsewhere": "such transfers, on another part",
    "assumed": "assumed shares, on other parts", "in_sample": "fitted points",
}  # fmt: skip
MOST_CLAIMS = 40


def held_out(records: Sequence[Mapping[str, Any]]) -> "Figure":
    """Median errors of one part by rows and split."""
    import plotly.graph_objects as go

    rows = sorted({(r["family"], r["dtype"]) for r in records}, reverse=True)
    labels = {row: f"{FAMILIES.get(row[0], row[0])},<br>{wrapped(row[1], 20)}" for row in rows}
    splits = [s for s in WORDS if any(r["split"] == s for r in records)]
    figure = base(
        "Median error of kernels that were not fitted", 130 + 58 * len(rows), 60,
        "predicted over measured, minus one, without its sign; bars to the 90th percentile",
    )  # fmt: skip
    colours = [OKABE_ITO[c] for c in ("blue", "orange", "green", "purple", "grey")]
    for split, colour in zip(splits, colours, strict=False):
        own = [r for r in records if r["split"] == split]
        figure.add_trace(
            go.Scatter(
                x=[100 * r["median_abs_error"] for r in own],
                y=[labels[r["family"], r["dtype"]] for r in own], mode="markers",
                name=WORDS[split], marker={"color": colour, "size": 9},
                error_x={
                    "type": "data", "symmetric": False, "thickness": 1, "width": 3,
                    "array": [100 * (r["p90_abs_error"] - r["median_abs_error"]) for r in own],
                    "arrayminus": [0.0] * len(own),
                },
                customdata=[_hover(r) for r in own],
                hovertemplate="%{customdata}<extra></extra>",
            )
        )  # fmt: skip
    figure.update_xaxes(title="error (%)", rangemode="tozero")
    figure.update_yaxes(ticksuffix=" ")
    return figure


def _hover(r: Mapping[str, Any]) -> str:
    return (
        f"{r['family']} {r['dtype']}, {WORDS.get(r['split'], r['split'])}: {r['n']:,} points"
        f"<br>median {100 * r['median_abs_error']:.1f} %, p90 {100 * r['p90_abs_error']:.0f} %, "
        f"bias {100 * r['bias']:+.1f} %<br>{wrapped(str(r['source']), 60)}"
    )


def published(verdicts: Sequence[Verdict]) -> "Figure":
    """Signed error of every published figure, one line a claim, the worst claims first."""
    import plotly.graph_objects as go

    known = [v for v in verdicts if v.relative_error is not None]
    worst: dict[str, float] = {}
    for v in known:
        worst[v.claim] = max(worst.get(v.claim, 0.0), abs(v.relative_error or 0.0))
    claims = sorted(worst, key=lambda name: worst[name])[-MOST_CLAIMS:]
    figure = base(
        "Predictions beside published figures", 150 + 34 * len(claims), 60,
        f"predicted over published, minus one; dotted: off by a factor {FAR:g}",
    )  # fmt: skip
    for split, colour in SPLITS.items():
        own = [v for v in known if v.split == split and v.claim in worst and v.claim in claims]
        if own:
            figure.add_trace(
                go.Scatter(
                    x=[100 * (v.relative_error or 0.0) for v in own],
                    y=[wrapped(v.claim, 48) for v in own], mode="markers", name=WORDS[split],
                    marker={"color": OKABE_ITO[colour], "size": 8, "opacity": 0.75},
                    customdata=[
                        f"{wrapped(v.conditions, 60)}<br>{v.quantity}: published {v.value:.4g}, "
                        f"predicted {v.predicted:.4g} ({v.relative_error:+.0%})"
                        f"<br>{wrapped(v.source, 60)}"
                        for v in own
                    ],
                    hovertemplate="%{customdata}<extra></extra>",
                )
            )  # fmt: skip
    figure.add_vline(x=0, line={"color": INK, "width": 1})
    for factor in (FAR, 1 / FAR):
        figure.add_vline(x=100 * (factor - 1), line={"color": QUIET, "width": 1, "dash": "dot"})
    figure.update_xaxes(title="error (%)")
    figure.update_yaxes(
        ticksuffix=" ", categoryorder="array", categoryarray=[wrapped(c, 48) for c in claims]
    )
    return figure
