"""One self-contained page on expert load."""

from pathlib import Path
from types import SimpleNamespace

from planner.evaluation import ExpertReport
from planner.report import expert_tables
from planner.report.answer import Tile
from planner.report.expert_figures import expert_figures
from planner.report.html import rendered, write_text
from planner.report.pages import Block
from planner.report.table import Table, key, text

BALANCED = 1.3
"""Ratio of the hottest to the mean rank up to which a placement counts as good."""


def write_expert_page(report: ExpertReport, path: str | Path) -> Path:
    """Write the page; the file appears whole or not at all.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    return write_text(expert_page(report), path)


def expert_page(report: ExpertReport) -> str:
    """The whole page as text."""
    asked, figures = report.setting.question, expert_figures(report)
    blocks = [
        Block("Where is the load?", ("rank_load",), (expert_tables.summary(report),)),
        Block("Which layers?", ("hottest_rank", "expert_load"), (expert_tables.layers(report),)),
    ]
    drift = expert_tables.rebalancing(report)
    if drift:
        blocks.append(Block("Does it last?", ("rebalancing",), (drift,)))
    facts = (
        ("source", report.setting.name),
        ("model", report.setting.model),
        ("popularity", asked.routing.popularity.kind),
        ("seed", str(asked.routing.seed)),
    )
    return rendered(
        figures,
        blocks,
        title=f"Expert load of {report.setting.model}",
        scenario=SimpleNamespace(name=report.setting.name, notes=""),
        headline=expert_tables.headline(report),
        good=report.after.rank_ratio <= BALANCED,
        traffic="",
        tiles=_tiles(report),
        details=[],
        sources=(),
        how=[("expert load", expert_tables.HOW), ("placement", "planner.routing.placement.place")],
        facts=Table("The run", (key(""), text("")), facts),
    )


def _tiles(report: ExpertReport) -> list[Tile]:
    before, after = report.before, report.after
    how = expert_tables.HOW
    return [
        Tile("hottest rank, no balancing", f"{before.rank_ratio:.2f} x", "the mean", how),
        Tile("hottest rank, balanced", f"{after.rank_ratio:.2f} x", "the mean", how),
        Tile(
            "any placement", f"≥ {after.bound:.2f} x", "expected load",
            "planner.routing.bounds.any_placement_bound",
        ),
    ]  # fmt: skip
