"""One self-contained HTML page: the answer on top, everything it rests on below."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planner import files
from planner.evaluation import Result
from planner.report import answer, bars, pages, risk
from planner.report.pages import Block
from planner.report.words import HOW
from planner.search import Comparison, Plan
from planner.specs.hardware import Reference

if TYPE_CHECKING:
    from jinja2 import Environment
    from plotly.graph_objects import Figure

Answer = Plan | Result | Comparison


def write_html(
    subject: Answer, path: str | Path, references: Mapping[str, Reference] | None = None
) -> Path:
    """Write a page that needs no network; the file appears whole or not at all.

    Parameters
    ----------
    subject : what to report on.
    path : file to write; folders on the way are made.
    references : source key -> where it leads; the shipped ones when not given.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    return write_text(page(subject, references), path)


def write_text(text: str, path: str | Path) -> Path:
    """Write a file that appears whole or not at all; folders on the way are made."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return target


def page(subject: Answer, references: Mapping[str, Reference] | None = None) -> str:
    """The whole page as text."""
    best = pages.best_of(subject)
    known = files.references() if references is None else references
    return rendered(
        _figures(subject),
        pages.blocks(subject),
        title=answer.title(subject),
        scenario=subject.scenario,
        headline=answer.headline(subject, warned=False),
        warning=risk.basis_sentence(subject) if isinstance(subject, Plan) else "",
        good=answer.good_news(subject),
        traffic=answer.traffic_line(best) if best else "",
        tiles=answer.tiles(best) if best else [],
        details=pages.details(subject),
        sources=pages.sources(best, known) if best else (),
        how=sorted(HOW.items()),
        facts=pages.run_facts(subject),
    )


def rendered(figures: "Mapping[str, Figure]", blocks: Sequence[Block], **context: Any) -> str:
    """A page of blocks and their figures; ``context`` holds everything else the page names."""
    from plotly.offline import get_plotlyjs

    return environment().get_template("page.html").render(
        blocks=[drawable(block, figures) for block in blocks],
        figures=script_json({name: figure.to_plotly_json() for name, figure in figures.items()}),
        plotly=trusted(get_plotlyjs()) if figures else "",
        **context,
    )  # fmt: skip


def fragment(subject: Plan | Result) -> str:
    """A piece of a page for notebooks: the answer and its bars, no scripts."""
    best = subject.best if isinstance(subject, Plan) else subject
    return environment().get_template("fragment.html").render(
        title=answer.title(subject),
        headline=answer.headline(subject),
        good=answer.good_news(subject),
        traffic=answer.traffic_line(best) if best else "",
        tiles=answer.tiles(best) if best else [],
        memory=bars.memory_segments(best.replica.memory) if best else (),
        step=bars.step_segments(best.decode) if best else (),
        bound=bars.bound_line(best.decode) if best else "",
        options=pages.options_of(subject),
    )  # fmt: skip


def _figures(subject: Answer) -> "dict[str, Figure]":
    from planner.report.figures import comparison_figures, plan_figures, result_figures

    if isinstance(subject, Comparison):
        return comparison_figures(subject)
    return plan_figures(subject) if isinstance(subject, Plan) else result_figures(subject)


def drawable(block: Block, figures: "Mapping[str, Figure]") -> dict[str, Any]:
    """A block with the heights of the figures it has, so that nothing jumps when they appear."""
    heights = [(n, figures[n].layout.height) for n in block.figures if n in figures]
    return {"block": block, "figures": heights}


def environment() -> "Environment":
    """Templates of the reports."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("planner.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )


def script_json(value: Any) -> str:
    """JSON that nothing can break out of inside a script element."""
    from plotly.utils import PlotlyJSONEncoder

    text = json.dumps(value, cls=PlotlyJSONEncoder)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return trusted(text)


def trusted(text: str) -> str:
    """Mark text as safe: plotly.js itself, and JSON that was escaped for its place."""
    from markupsafe import Markup

    return Markup(text)
