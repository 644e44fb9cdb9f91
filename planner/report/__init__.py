"""Answers for people: terminal, figures, self-contained HTML.

Rich, plotly and jinja2 are imported by the functions that need them, never here.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from planner.evaluation import Result
from planner.search import Plan

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from plotly.graph_objects import Figure

__all__ = ["PlanReport", "Report"]


@dataclass(frozen=True)
class Report(Result):
    """A simulated fleet that draws itself: everything of ``Result``, figures, a notebook page."""

    @classmethod
    def of(cls, result: Result) -> Self:
        """Take over a result."""
        return cls(**{field.name: getattr(result, field.name) for field in fields(Result)})

    def figures(self) -> "dict[str, Figure]":
        """Plotly figures by name: memory, step, latency, load, cost, day where there is one."""
        from planner.report.figures import result_figures

        return result_figures(self)

    def requests(self) -> "dict[str, NDArray[Any]]":
        """Columns of the run, a row a request (``pandas.DataFrame(report.requests())``)."""
        from planner.report.request_log import request_columns

        return request_columns(self.records)

    def write_requests(self, path: str | Path) -> Path:
        """Write every request as ``.csv``, ``.csv.gz`` or ``.parquet``."""
        from planner.report.request_log import write_requests

        return write_requests(self.records, path)

    def _repr_html_(self) -> str:
        from planner.report.html import fragment

        return fragment(self)


@dataclass(frozen=True)
class PlanReport(Plan):
    """A plan that draws itself; ``best`` and ``options`` are reports."""

    best: Report | None

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """Take over a plan."""
        values = {field.name: getattr(plan, field.name) for field in fields(Plan)}
        options = tuple(Report.of(result) for result in plan.options)
        kept = {id(old): new for old, new in zip(plan.options, options, strict=True)}
        best = plan.best and (kept.get(id(plan.best)) or Report.of(plan.best))
        return cls(**{**values, "options": options, "best": best})

    def figures(self) -> "dict[str, Figure]":
        """Plotly figures by name: those of the best fleet, and the frontier of all."""
        from planner.report.figures import plan_figures

        return plan_figures(self)

    def _repr_html_(self) -> str:
        from planner.report.html import fragment

        return fragment(self)
