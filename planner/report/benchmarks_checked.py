"""Results of benchmark tools beside their predictions, as a page shows them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from planner.report import own_table
from planner.report.runs_checked import Beside as Point
from planner.report.runs_checked import parity_figure
from planner.report.table import Table
from planner.report.words import PROMISE_METRICS
from planner.validation.own import Beside

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class BenchmarksChecked:
    """Measured and predicted, benchmark by benchmark."""

    rows: tuple[dict[str, Any], ...]
    """A row a quantity; the end of its name is its unit."""
    tables: tuple[Table, ...]
    figure: "Figure"
    median_abs_errors: dict[str, float]
    """``TTFT`` -> median over every statistic of every run."""
    inside: int
    judged: int
    """Measured values with an interval."""


def benchmarks_checked(found: Sequence[Beside]) -> BenchmarksChecked:
    """Set predictions beside what was measured."""
    rows: list[dict[str, Any]] = [
        {
            "benchmark": _name(number, each), "quantity": row.quantity, "measured": row.measured,
            "predicted": row.predicted, "relative_error": row.relative_error,
            "low": row.interval90[0] if row.interval90 else None,
            "high": row.interval90[1] if row.interval90 else None, "inside": row.inside,
        }
        for number, each in enumerate(found, 1)
        for row in each.rows
    ]  # fmt: skip
    kinds = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2e": PROMISE_METRICS["e2e"]}
    groups = {
        word: [row for row in rows if row["quantity"].startswith(f"{kind}_")]
        for kind, word in kinds.items()
    }
    errors = {
        word: sorted(abs(row["relative_error"]) for row in own)
        for word, own in groups.items() if own
    }  # fmt: skip
    judged = [row["inside"] for row in rows if row["inside"] is not None]
    return BenchmarksChecked(
        tuple(rows), tuple(own_table.table(each) for each in found),
        parity_figure({word: [_point(row) for row in own] for word, own in groups.items()}),
        {word: values[len(values) // 2] for word, values in errors.items()},
        sum(judged), len(judged),
    )  # fmt: skip


def _name(number: int, each: Beside) -> str:
    b = each.benchmark
    return f"{number}: {b.tool} {b.label}".strip()


def _point(row: dict[str, Any]) -> Point:
    words = f"{row['benchmark']}, {row['quantity'].removesuffix('_s').replace('_', ' ')}"
    return Point(words, row["measured"], row["predicted"], row["low"], row["high"])
