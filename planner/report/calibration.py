"""How wrong a calibration is: tables for the terminal, figures and a page."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from planner.report.bars import OKABE_ITO
from planner.report.checked_page import Verdict, write_checked
from planner.report.pages import Block
from planner.report.style import QUIET, base, seconds_axis
from planner.report.table import Column, Table, key, text
from planner.report.words import seconds
from planner.specs.provenance import BORROWED

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Record = Mapping[str, Any]

FAMILIES = {
    "gemm": "dense products",
    "grouped_gemm": "grouped products",
    "moe_layer": "MoE layers",
    "attention_decode": "decode attention",
    "attention_prefill": "prefill attention",
    "elementwise": "elementwise",
    "collective": "collectives",
    "all_to_all": "all-to-all",
}
SHORT = {"attention_decode": "decode", "attention_prefill": "prefill"}
MOST_DOTS = 5000
"""Points a figure draws; more are thinned evenly by time."""
NOTHING = "\N{EN DASH}"
SHOWN_ERROR = 1.0
"""Relative error at which the residual figure ends."""


class Measured(Protocol):
    """One measured time beside its prediction."""

    @property
    def part(self) -> str:
        """Accelerator."""
        ...

    @property
    def family(self) -> str:
        """Family of operators."""
        ...

    @property
    def dtype(self) -> str:
        """Format."""
        ...

    @property
    def label(self) -> str:
        """Sizes, for a person."""
        ...

    @property
    def measured_s(self) -> float:
        """Measured time. [s]"""
        ...

    @property
    def predicted_s(self) -> float:
        """Predicted time. [s]"""
        ...


def percent(value: float) -> str:
    """A share as ``4.9 %``."""
    return f"{100 * value:.1f} %"


def errors_table(records: Sequence[Record], met: Sequence[bool | None]) -> Table:
    """Errors on held-out points, a goal met or missed in the last column but one."""
    columns = (
        key("part"), text("rows"), key("held out"), Column("points", min_width=100),
        Column("median / p90"), Column("bias", min_width=100), Column("goal"),
        text("source", min_width=118),
    )  # fmt: skip
    rows = tuple(
        (
            str(r["part"]), f"{SHORT.get(r['family'], r['family'])} {r['dtype']}",
            _held_out(r), f"{r['n']:,}",
            f"{100 * r['median_abs_error']:.1f} / {100 * r['p90_abs_error']:.0f} %",
            f"{100 * r['bias']:+.1f} %", {True: "✓", False: "✗", None: ""}[ok], str(r["source"]),
        )
        for r, ok in zip(records, met, strict=True)
    )  # fmt: skip
    note = goals_met(records, met)
    if any(r.get("stored") for r in records):
        note += " Figures stored when the calibration was made; --refit makes them again."
    return Table("Relative error on points that were not fitted", columns, rows, note)


def _held_out(record: Record) -> str:
    """What was held out; of another part's rows whose they are, however narrow the page."""
    split = str(record["split"])
    return f"{split}, on {_part_of(record)}" if split in BORROWED else split


def _part_of(record: Record) -> str:
    """Part that the rows of a record without a part of its own are of."""
    return str(record["source"]).partition(":")[0]


def goals_met(records: Sequence[Record], met: Sequence[bool | None]) -> str:
    """How many goals are met, and what has none, as sentences; empty of no records."""
    if not records:
        return ""
    judged = [ok for ok in met if ok is not None]
    said = [f"{sum(judged):,} of {len(judged):,} goals met."] if judged else ["No goal is set."]
    splits = [str(r["split"]) for r in records]
    if borrowed := sum(split in BORROWED for split in splits):
        said.append(f"Errors on another part, without a goal: {borrowed:,}.")
    if fitted := splits.count("in_sample"):
        said.append(f"Errors on points that were fitted, without a goal: {fitted:,}.")
    return " ".join(said)


def shares_table(laws: Mapping[str, Any], title: str) -> Table:
    """Fitted shares by family and format; of a curve the highest."""
    columns = (
        key("law"), Column("compute"), Column("memory"), Column("floor"), key("blend"),
        Column("a step of depth"),
    )  # fmt: skip
    rows = tuple(
        (
            name, percent(law.compute_share), percent(law.memory_share), seconds(law.floor_s),
            law.blend, seconds(law.depth_s) if law.depth_s else "",
        )
        for name, law in laws.items()
    )  # fmt: skip
    return Table(title, columns, rows, "Shares of the peaks; of a curve the highest.")


def worst_table(points: Sequence[Measured]) -> Table:
    """Points that predictions are farthest from."""
    columns = (
        key("part"), text("rows"), text("sizes"), Column("measured"), Column("predicted"),
        Column("error"),
    )  # fmt: skip
    rows = tuple(
        (
            p.part, f"{SHORT.get(p.family, p.family)} {p.dtype}", p.label, seconds(p.measured_s),
            seconds(p.predicted_s), f"{100 * (p.predicted_s / p.measured_s - 1):+.0f} %",
        )
        for p in points
    )  # fmt: skip
    return Table("Worst points", columns, rows, "Fitted points included." if rows else "")


def compared_table(records: Sequence[Record]) -> Table:
    """Two sources side by side."""
    columns = (
        key("family"), key("format"), text("a"), text("b"), Column("points"),
        Column("b over a"), Column("p10"), Column("p90"),
    )  # fmt: skip
    rows = tuple(
        (
            str(r["family"]), str(r["dtype"]), str(r["a"]), str(r["b"]), f"{r['n']:,}",
            f"{r['median_ratio']:.3f}", f"{r['p10_ratio']:.3f}", f"{r['p90_ratio']:.3f}",
        )
        for r in records
    )  # fmt: skip
    note = "" if rows else "The sources have no point in common."
    return Table("Times of the same points", columns, rows, note)


def parity(points: Sequence[Measured]) -> "Figure":
    """Predicted over measured time, both logarithmic, a colour a family."""
    import plotly.graph_objects as go

    figure = base(
        "Predicted and measured kernel times", 520, 60, "on the line: right; dotted: 20 % off"
    )
    spans = [t for p in points for t in (p.measured_s, p.predicted_s)]
    ends = [min(spans) / 1.3, max(spans) * 1.3]
    for factor, dash in ((1.0, "solid"), (1.2, "dot"), (1 / 1.2, "dot")):
        figure.add_trace(
            go.Scatter(
                x=ends, y=[factor * e for e in ends], mode="lines", showlegend=False,
                hoverinfo="skip", line={"color": QUIET, "width": 1, "dash": dash},
            )
        )  # fmt: skip
    for name, group, colour in _families(points):
        figure.add_trace(_dots(name, group, colour, [p.predicted_s for p in group], go.Scatter))
    figure.update_layout(legend_itemsizing="constant")
    seconds_axis(figure, spans, "measured")
    marks = figure.layout.xaxis
    figure.update_yaxes(
        type="log", title="predicted", tickvals=marks.tickvals, ticktext=marks.ticktext,
        range=marks.range,
    )  # fmt: skip
    return figure


def residuals(points: Sequence[Measured]) -> "Figure":
    """Relative error over measured time."""
    import plotly.graph_objects as go

    figure = base(
        "Where predictions are off", 420, 60, "predicted over measured, minus one; short times left"
    )
    for name, group, colour in _families(points):
        errors = [min(SHOWN_ERROR, p.predicted_s / p.measured_s - 1) for p in group]
        figure.add_trace(_dots(name, group, colour, errors, go.Scatter))
    figure.update_layout(legend_itemsizing="constant")
    seconds_axis(figure, [p.measured_s for p in points], "measured")
    figure.update_yaxes(title="error", tickformat="+.0%", range=[-SHOWN_ERROR, SHOWN_ERROR * 1.05])
    figure.add_hline(y=0, line={"color": QUIET, "width": 1})
    return figure


def _families(points: Sequence[Measured]) -> list[tuple[str, list[Measured], str]]:
    names = [name for name in FAMILIES if any(p.family == name for p in points)]
    step = -(-len(points) // MOST_DOTS)
    points = sorted(points, key=lambda p: p.measured_s)[::step]
    colours = [colour for name, colour in OKABE_ITO.items() if name not in ("grey", "yellow")]
    return [
        (FAMILIES[name], [p for p in points if p.family == name], colours[i % len(colours)])
        for i, name in enumerate(names)
    ]


def _dots(name: str, group: Sequence[Measured], colour: str, y: Sequence[float], kind: Any) -> Any:
    return kind(
        name=name, x=[p.measured_s for p in group], y=y, mode="markers",
        marker={"color": colour, "size": 4, "opacity": 0.55},
        text=[f"{p.part} {p.dtype}<br>{p.label}" for p in group],
        hovertemplate="%{text}<br>measured %{x:.3g} s<extra></extra>",
    )  # fmt: skip


def write_calibration_html(
    records: Sequence[Record],
    met: Sequence[bool | None],
    points: Sequence[Measured],
    worst: Sequence[Measured],
    path: str | Path,
) -> Path:
    """Write tables and figures as one page that needs no network.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    figures = {"parity": parity(points), "residuals": residuals(points)} if points else {}
    judged = [ok for ok in met if ok is not None]
    parts = ", ".join(dict.fromkeys(str(r["part"]) for r in records))
    good = all(judged) if judged else None
    said = goals_met(records, met).removesuffix(".") if records else "no rows held out"
    verdict = Verdict("How wrong the calibration is", parts, said, good)
    blocks = [Block("Held-out points", tuple(figures), (errors_table(records, met),))]
    blocks += [Block("Furthest off", tables=(worst_table(worst),))] if worst else []
    return write_checked(verdict, blocks, figures, path)


WIDTH = re.compile(r"_(64|192|256)\b")
"""How a kernel's name says the width of its heads; others are of the usual one."""
USUAL_WIDTH = 128


def errors_markdown(records: Sequence[Record]) -> str:
    """Held-out errors as the table of ``docs/calibration.md``: one row a part and format.

    Widths of heads share a row, narrow ones first.  Shares that were assumed have no rows of the
    part, hence no line.
    """
    cells: dict[tuple[str, str, str], dict[str, dict[int, list[str]]]] = {}
    for r in records:
        found = WIDTH.search(r["dtype"])
        key = (r["part"], r["family"], WIDTH.sub("", r["dtype"]))
        words = f"{100 * r['median_abs_error']:.1f} / {100 * r['p90_abs_error']:.0f}"
        of_split = cells.setdefault(key, {}).setdefault(r["split"], {})
        of_split.setdefault(int(found[1]) if found else USUAL_WIDTH, []).append(words)
    lines = ["| part | rows | interpolation | shape | EP | part |", "|---|---|---|---|---|---|"]
    for (part, family, dtype), row in cells.items():
        if set(row) == {"assumed"}:
            continue
        widths = sorted({width for of_split in row.values() for width in of_split})
        said = [
            _of_widths(row.get(split, {}), widths)
            for split in ("interpolation", "shape", "ep_degree", "part")
        ]
        if said[0] == NOTHING and "in_sample" in row:
            said[0] = _of_widths(row["in_sample"], widths) + " (in sample)"
        heads = f" ({', '.join(map(str, widths))})" if widths != [USUAL_WIDTH] else ""
        lines.append(f"| {part} | {family} {dtype}{heads} | {' | '.join(said)} |")
    return "\n".join(lines) + "\n"


def _of_widths(cell: Mapping[int, Sequence[str]], widths: Sequence[int]) -> str:
    """Errors of one split, a width that was not held out left as a dash."""
    if not cell:
        return NOTHING
    return " · ".join(" · ".join(cell.get(width, (NOTHING,))) for width in widths)
