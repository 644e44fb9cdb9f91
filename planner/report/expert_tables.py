"""Expert load in words and tables, in the terminal and on a page."""

from typing import TYPE_CHECKING

from planner.evaluation import ExpertReport
from planner.report.ink import Page
from planner.report.table import Column, Table, key
from planner.report.words import seconds
from planner.units import human

if TYPE_CHECKING:
    from rich.console import Console

HOW = "planner.routing.load.expert_load"
SHOWN_LAYERS = 6


def headline(report: ExpertReport) -> str:
    """The answer in a sentence."""
    before, after = report.before, report.after
    return (
        f"The hottest expert rank gets {before.rank_ratio:.2f} times the mean; "
        f"load balancing brings that to {after.rank_ratio:.2f}"
    )


def summary(report: ExpertReport) -> Table:
    """Without and with load balancing, side by side."""
    before, after = report.before, report.after
    rows = [
        ("placement", before.policy, after.policy),
        ("expert slots", str(before.placement.slots), str(after.placement.slots)),
        ("  of them copies", str(before.redundant), str(after.redundant)),
        ("slots a rank", str(before.local_slots), str(after.local_slots)),
        ("hottest rank / mean", f"{before.rank_ratio:.3f}", f"{after.rank_ratio:.3f}"),
        ("  95 % of steps below", f"{before.rank_ratio_p95:.3f}", f"{after.rank_ratio_p95:.3f}"),
        ("  no placement can be below", f"{before.bound:.3f}", f"{after.bound:.3f}"),
        ("  none with these copies", f"{before.copies_bound:.3f}", f"{after.copies_bound:.3f}"),
        ("hottest slot / mean", f"{before.slot_ratio:.2f}", f"{after.slot_ratio:.2f}"),
        ("slots touched, hottest rank", f"{before.touched_hot:.2f}", f"{after.touched_hot:.2f}"),
        ("slots touched, mean rank", f"{before.touched_mean:.2f}", f"{after.touched_mean:.2f}"),
    ]  # fmt: skip
    asked = report.setting.question
    alike = asked.tokens_per_prompt
    prompts = f" in prompts of {alike:,} that choose alike" if alike > 1 else ""
    note = (
        f"EP{asked.ep}, {asked.tokens:,} tokens of all ranks a step{prompts}, top "
        f"{asked.moe.top_k} of {asked.moe.experts} experts, {len(report.expert_load)} layers; "
        "means over layers and steps; bounds are of expected load and so many slots"
    )
    columns = (key(""), Column("no balancing"), Column("balanced"))
    return Table("Expert load", columns, tuple(rows), note, HOW)


def layers(report: ExpertReport) -> Table:
    """The layers that load balancing matters most to."""
    before, after = report.before.imbalance_by_layer, report.after.imbalance_by_layer
    worst = before.argsort()[::-1][:SHOWN_LAYERS]
    rows = tuple(
        (
            str(layer), f"{before[layer]:.2f}", f"{after[layer]:.2f}",
            str(int(report.before.rank_load[layer].argmax())),
            str(int(report.expert_load[layer].argmax())),
        )
        for layer in worst
    )  # fmt: skip
    columns = (
        Column("MoE layer"), Column("no balancing"), Column("balanced"), Column("hottest rank"),
        Column("hottest expert"),
    )  # fmt: skip
    return Table("Hottest layers, hottest rank over mean", columns, rows)


def rebalancing(report: ExpertReport) -> Table | None:
    """What renewing the placement gains and moves, where load changes."""
    if report.rebalancing is None:
        return None
    kept, renewed = report.rebalancing
    rows = tuple(
        (
            str(window + 1), f"{kept.imbalance[window]:.3f}", f"{renewed.imbalance[window]:.3f}",
            human(float(renewed.moved_bytes[window]), "bytes"),
            human(float(renewed.moved_bytes_max_rank[window]), "bytes"),
        )
        for window in range(len(kept.imbalance))
    )  # fmt: skip
    time_s = report.rebalance_s
    note = (
        "expected load; placements are made afresh and their ranks renamed so that most experts "
        "stay: engines that move experts one by one may move less"
    )
    if time_s is None:
        note += "; how long it takes is not known, as no link is"
    elif time_s:
        note += f"; the busiest rank fetches for {seconds(time_s)} at the link's stated rate"
    columns = (
        Column("window"), Column("placement kept"), Column(_renewed(report.every)),
        Column("moved"),
        Column("by busiest rank"),
    )  # fmt: skip
    return Table("When load drifts, hottest rank over mean", columns, rows, note)


def _renewed(every: int) -> str:
    """Heading of the placement that is renewed."""
    return "renewed" if every == 1 else f"renewed every {every}"


def tables(report: ExpertReport) -> list[Table]:
    """Every table of the report."""
    found = [summary(report), layers(report)]
    drift = rebalancing(report)
    return [*found, drift] if drift else found


def print_experts(report: ExpertReport, console: "Console") -> None:
    """Print expert load without and with load balancing."""
    page = Page(console)
    page.headline(f"{report.setting.name}: {report.setting.model}", headline(report), None)
    for table in tables(report):
        page.table(table)
