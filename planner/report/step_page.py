"""One steady step, rank by rank: as a page, and as lines for the terminal."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.evaluation import SteadyResult, TimelineResult
from planner.evaluation.result import step_dict
from planner.evaluation.timeline import Phase
from planner.report import bars, tables
from planner.report.interval_tables import steady_intervals, timeline_intervals
from planner.report.pages import Block
from planner.report.table import Column, Table, key, text
from planner.report.timeline_figures import RESOURCES, STAGES, timeline_figures
from planner.report.words import HOW, plural, seconds, share
from planner.step import Step
from planner.units import human


@dataclass(frozen=True)
class StepAnswer:
    """The timeline of a step, and of a decode step its capacities."""

    steady: SteadyResult | None
    """None for a prefill step."""
    timeline: TimelineResult

    @property
    def step(self) -> Step:
        """The step in closed form."""
        return self.steady.step if self.steady else self.timeline.step

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        found = self.timeline
        if self.steady is not None:
            return {**self.steady.to_dict(), "timeline": found.to_dict()}
        return {
            "scenario": found.scenario.name,
            "label": found.replica.pool.parallelism.label(),
            "step": step_dict(found.step),
            "memory": found.replica.memory.to_dict(),
            "timeline": found.to_dict(),
        }


def sure_table(answer: StepAnswer) -> Table:
    """The step and its rates with 90 % intervals."""
    if answer.steady is None:
        return timeline_intervals(answer.timeline)
    return steady_intervals(answer.steady)


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


def prefill_line(found: TimelineResult) -> str:
    """What a prefill step computes, and how fast."""
    pool, system = found.replica.pool, found.replica.hardware.system
    return (
        f"{human(found.tokens_per_s_per_node, 'tokens_per_s')} a node, "
        f"{human(found.tokens_per_s_per_device, 'tokens_per_s')} a device: a prefill step of "
        f"{plural(found.rank_tokens, 'token')} a rank, in prompts of "
        f"{plural(found.context_tokens, 'token')}, takes {seconds(found.timeline.time_s)} on "
        f"{system.title}, {pool.parallelism.label()}, overlap {pool.overlap.replace('_', ' ')}, "
        f"{pool.weights} weights, {pool.kv} KV."
    )


def busy_line(result: TimelineResult) -> str:
    """How busy each resource is, and how far the closed form is from the simulation."""
    found = result.timeline
    busy = ", ".join(f"{RESOURCES[name]} {share(value)}" for name, value in found.busy.items())
    off = result.closed_form_s / found.time_s - 1
    return (
        f"Busy, mean over ranks: {busy}; traffic over either level {share(found.network_share)}, "
        f"waiting for slower ranks {share(found.waiting_share)}. "
        f"The event loop's closed form takes {seconds(result.closed_form_s)} ({off:+.1%})."
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
    if found.phase == "prefill":
        return prefill_line(found)
    pool, system = found.replica.pool, found.replica.hardware.system
    return (
        f"A {found.phase} step takes {seconds(found.timeline.time_s)} on {system.title}, "
        f"{pool.parallelism.label()}, overlap {pool.overlap.replace('_', ' ')}: "
        f"{human(found.tokens_per_s_per_node, 'tokens_per_s')} a node."
    )


def _blocks(found: TimelineResult, figures: tuple[str, ...]) -> list[Block]:
    gantt = Block(
        "Who does what, when?", ("gantt",), notes=(busy_line(found),), how=HOW["timeline"]
    )
    path = Block("What is the step waiting for?", ("critical", "busy"), (path_table(found),))
    return [gantt, path] if "gantt" in figures else [path]


def _sure(answer: StepAnswer) -> Block:
    return Block("How sure is that?", (), (sure_table(answer),))


def _details(answer: StepAnswer) -> list[Block]:
    step, phase, taken = answer.step, answer.timeline.phase, answer.timeline.assumptions
    numbers, stated = tables.assumptions(taken), tables.statements(taken)
    count = f"{plural(len(numbers.rows), 'number')} not confirmed, "
    return [
        Block(
            f"Assumptions: {count}{len(stated)} taken for granted", (), (numbers,),
            bullets=stated, how=HOW["assumptions"],
        ),
        Block(
            f"Every op of the {phase} step", (),
            (tables.ops(f"{phase.capitalize()} step", step, ops_how(phase)),),
            (bars.bound_line(step) + ".",),
        ),
    ]  # fmt: skip


def ops_how(phase: Phase) -> str:
    """Where the ops of a step are computed."""
    return HOW["prefill" if phase == "prefill" else "step"]


def _facts(found: TimelineResult) -> Table:
    rows = (
        ("scenario", found.scenario.name),
        ("seed", str(found.scenario.run.seed)),
        ("model", f"{found.scenario.model.title} ({found.scenario.model.hf_id})"),
        ("system", found.replica.hardware.system.title),
        ("step", found.phase),
    )
    return Table("The run", (key(""), text("")), rows)
