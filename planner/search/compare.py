"""The same question asked of several systems."""

from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any

from planner.errors import PlannerError
from planner.evaluation import Result
from planner.search.effort import Effort
from planner.search.intervals import plan_intervals
from planner.search.plan import Plan, plan
from planner.specs.scenario import Hardware, Scenario

ONE_ANSWER = Effort(in_full=3, probed=1, alternatives=1)
"""A row shows a system's cheapest fleet alone: the first three by estimate that may be as cheap
are sized, and one more is asked whether it is cheaper."""


@dataclass(frozen=True)
class Row:
    """One system's answer, or why it has none."""

    hardware: Hardware
    plan: Plan | None
    refusal: str

    @property
    def best(self) -> Result | None:
        """The cheapest fleet on this system that keeps every promise."""
        return self.plan.best if self.plan else None


@dataclass(frozen=True)
class Comparison:
    """Systems side by side, cheapest first; those without an answer last."""

    scenario: Scenario
    rows: tuple[Row, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"scenario": self.scenario.name, "systems": [_row_dict(row) for row in self.rows]}


def compare(scenario: Scenario, executor: Executor | None = None) -> Comparison:
    """Plan ``scenario`` on each of its systems.

    Parameters
    ----------
    executor : runs the systems side by side (any ``concurrent.futures.Executor``); one after the
        other without it.  The answer is the same.
    """
    each = executor.map if executor else map
    rows = list(each(partial(_row, scenario), scenario.hardware))
    return Comparison(scenario, tuple(sorted(rows, key=_usd_per_hour)))


def _row(scenario: Scenario, hardware: Hardware) -> Row:
    try:
        found = plan_intervals(
            plan(scenario.model_copy(update={"hardware": (hardware,)}), effort=ONE_ANSWER)
        )
    except PlannerError as error:
        return Row(hardware, None, str(error))
    if found.best is None:
        last = found.rejections[-1]
        return Row(hardware, found, f"{last.label}: {last.limit}; {last.advice}")
    return Row(hardware, found, "")


def _usd_per_hour(row: Row) -> tuple[bool, float]:
    best = row.best
    if best is None:
        return True, 0.0
    return False, best.costs[0].usd_per_hour if best.costs else float(best.devices) * 1e6


def _row_dict(row: Row) -> dict[str, Any]:
    return {
        "system": row.hardware.system.name,
        "fits": row.best is not None,
        "refusal": row.refusal or None,
        "best": row.best.to_dict() if row.best else None,
    }
