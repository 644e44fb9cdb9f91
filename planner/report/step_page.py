"""One steady step, rank by rank: as a page, and as lines for the terminal."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.evaluation import SteadyResult, TimelineResult
from planner.report import bars, tables
from planner.report.interval_tables import steady_intervals
from planner.report.pages import Block
from planner.report.table import Column, Table, key, text
from planner.report.timeline_figures import RESOURCES, STAGES, timeline_figures
from planner.report.words import HOW, plural, seconds, share
from planner.units import human


@dataclass(frozen=True)
class StepAnswer:
    """A steady decode step, and the timeline of a decode or prefill step."""

    steady: SteadyResult
    timeline: TimelineResult

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**self.steady.to_dict(), "timeline": self.timeline.to_dict()}


def path_table(result: TimelineResult) -> Table:
    """Longest path by stage."""
    found = result.timeline
    totals: dict[str, float] = {}
    for name, time_s in found.critical.items():
        word = STAGES[name][0]
        totals[word] = totals.get(word, 0.0) + time_s
    rows = tuple(
        (word, seconds(time_s), share(time_s / found.time_s))
        for word, time_s in sorted(totals.items(), key=lambda item: -item[1])
    )
    columns = (key("stage"), Column("time"), Column("share"))
    title = f"Longest path of a {result.phase} step over {plural(found.ranks, 'device')}"
    return Table(title, columns, rows, how=HOW["timeline"])


def busy_line(result: TimelineResult) -> str:
    """How busy each resource is, and how far the closed form is from the simulation."""
    found = result.timeline
    busy = ", ".join(f"{RESOURCES[name]} {share(value)}" for name, value in found.busy.items())
    off = result.closed_form_s / found.time_s - 1
    return (
        f"Busy, mean over ranks: {busy}. The event loop's closed form takes "
        f"{seconds(result.closed_form_s)} ({off:+.1%})."
    )


def write_step_html(answer: StepAnswer, path: str | Path) -> Path:
    """Write the page of one step, which needs no network.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    target = Path(path)
    page = step_page(answer)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page, encoding="utf-8")
    return target


def step_page(answer: StepAnswer) -> str:
    """The whole page as text."""
    from plotly.offline import get_plotlyjs

    from planner.report.html import environment, script_json, trusted

    found = answer.timeline
    figures = timeline_figures(found)
    return environment().get_template("page.html").render(
        title=found.scenario.title or found.scenario.name,
        scenario=found.scenario,
        headline=_headline(found),
        good=True,
        traffic="",
        tiles=[],
        blocks=[
            {"block": b, "figures": [(n, figures[n].layout.height) for n in b.figures]}
            for b in (*_blocks(found, tuple(figures)), _sure(answer))
        ],
        details=_details(answer),
        sources=(),
        how=sorted(HOW.items()),
        facts=_facts(found),
        figures=script_json({name: figure.to_plotly_json() for name, figure in figures.items()}),
        plotly=trusted(get_plotlyjs()),
    )  # fmt: skip


def _headline(found: TimelineResult) -> str:
    pool, system = found.replica.pool, found.replica.hardware.system
    per_node = found.tokens_per_s_per_device * system.devices_per_node
    return (
        f"A {found.phase} step takes {seconds(found.timeline.time_s)} on {system.title}, "
        f"{pool.parallelism.label()}, overlap {pool.overlap.replace('_', ' ')}: "
        f"{human(per_node, 'tokens_per_s')} a node."
    )


def _blocks(found: TimelineResult, figures: tuple[str, ...]) -> list[Block]:
    gantt = Block(
        "Who does what, when?", ("gantt",), notes=(busy_line(found),), how=HOW["timeline"]
    )
    path = Block("What is the step waiting for?", ("critical", "busy"), (path_table(found),))
    return [gantt, path] if "gantt" in figures else [path]


def _sure(answer: StepAnswer) -> Block:
    return Block("How sure is that?", (), (steady_intervals(answer.steady),))


def _details(answer: StepAnswer) -> list[Block]:
    step, taken = answer.steady.step, answer.timeline.assumptions
    numbers, stated = tables.assumptions(taken), tables.statements(taken)
    count = f"{plural(len(numbers.rows), 'number')} not confirmed, "
    return [
        Block(
            f"Assumptions: {count}{len(stated)} taken for granted", (), (numbers,),
            bullets=stated, how=HOW["assumptions"],
        ),
        Block(
            "Every op of the decode step", (), (tables.ops("Decode step", step, HOW["step"]),),
            (bars.bound_line(step) + ".",),
        ),
    ]  # fmt: skip


def _facts(found: TimelineResult) -> Table:
    rows = (
        ("scenario", found.scenario.name),
        ("seed", str(found.scenario.run.seed)),
        ("model", f"{found.scenario.model.title} ({found.scenario.model.hf_id})"),
        ("system", found.replica.hardware.system.title),
        ("step", found.phase),
    )
    return Table("The run", (key(""), text("")), rows)
