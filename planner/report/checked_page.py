"""One self-contained page on how wrong predictions are: a verdict, figures, tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from planner.report.html import drawable, environment, script_json, trusted, write_text
from planner.report.pages import Block

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class Verdict:
    """What stands on top of the page."""

    title: str
    about: str
    """What was checked, in a word or two."""
    sentence: str
    good: bool | None
    """None where nothing was judged."""


def write_checked(
    verdict: Verdict, blocks: Sequence[Block], figures: "Mapping[str, Figure]", path: str | Path
) -> Path:
    """Write a page that needs no network; the file appears whole or not at all.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    from plotly.offline import get_plotlyjs

    page = environment().get_template("checked.html").render(
        title=verdict.title,
        verdict=verdict,
        blocks=[drawable(block, figures) for block in blocks],
        figures=script_json({name: f.to_plotly_json() for name, f in figures.items()}),
        plotly=trusted(get_plotlyjs()) if figures else "",
    )  # fmt: skip
    return write_text(page, path)
