"""A user's own benchmark beside its prediction, in the terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from planner.report.ink import Page
from planner.report.interval_tables import between
from planner.report.table import Column, Table, key
from planner.report.words import number, seconds, share
from planner.validation.own import Beside, Row

if TYPE_CHECKING:
    from rich.console import Console


def print_beside(found: Sequence[Beside], console: "Console") -> None:
    """Print every run: quantities, errors, what was taken for granted."""
    page = Page(console)
    for each in found:
        page.table(table(each))


def table(each: Beside) -> Table:
    """One run."""
    b = each.benchmark
    load = f"{b.concurrency} clients" if b.concurrency and not b.requests_per_s else "all at once"
    if b.requests_per_s:
        load = f"{b.requests_per_s:.3g} requests/s"
    title = (
        f"{b.tool} {b.label}".strip() + f": {b.requests} requests, {load}, "
        f"{b.input_tokens:.0f} in, {b.output_tokens:.0f} out"
    )
    columns = (
        key("quantity"), Column("measured"), Column("predicted"), Column("error"),
        Column("90 % interval", min_width=72), key("inside"),
    )  # fmt: skip
    inside = [r.inside for r in each.rows if r.inside is not None]
    note = f"{sum(inside)} of {len(inside)} measured values are inside the interval."
    return Table(title, columns, tuple(_cells(r) for r in each.rows), " ".join([note, *each.notes]))


def _cells(row: Row) -> tuple[str, ...]:
    def write(value: float) -> str:
        return number(round(value, 1)) if row.quantity.endswith("_per_s") else seconds(value)

    error = f"{'+' if row.relative_error >= 0 else '-'}{share(abs(row.relative_error))}"
    within = between(row.interval90, write) if row.interval90 else ""
    return (
        _words(row.quantity), write(row.measured),
        write(row.predicted), error, within, {True: "✓", False: "✗", None: ""}[row.inside],
    )  # fmt: skip


def _words(quantity: str) -> str:
    """``ttft_p95_s`` as ``ttft p95``, ``requests_per_s`` as ``requests/s``."""
    return quantity.replace("_per_s", "/s").removesuffix("_s").replace("_", " ")
