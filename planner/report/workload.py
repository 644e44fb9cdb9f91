"""A workload in the terminal: rates, lengths, and what prompts share."""

import math
from typing import TYPE_CHECKING

from planner.report.ink import Page
from planner.report.table import Column, Table, key
from planner.report.words import NOTHING, number, seconds, share
from planner.serving import WorkloadReport
from planner.units import human
from planner.workloads import Summary

if TYPE_CHECKING:
    from rich.console import Console

HOW = "planner.workloads.describe.describe"


def print_workload(report: WorkloadReport, console: "Console") -> None:
    """Print what was read or drawn."""
    page, summary = Page(console), report.summary
    page.headline(report.title or report.kind, sentence(summary), None)
    for table in workload_tables(report):
        page.table(table)
    for line in (*summary.notes, *([f"source: {report.source}"] if report.source else [])):
        page.put(f"  {line}")


def workload_tables(report: WorkloadReport) -> tuple[Table, ...]:
    """Arrivals, lengths, and reuse where it is known."""
    summary = report.summary
    reuse = (_reuse(report),) if summary.reuse is not None else ()
    return (_arrivals(summary), _lengths(summary), *reuse)


def sentence(summary: Summary) -> str:
    """What was read or drawn, in one sentence."""
    words = f"{summary.requests:,} requests ({summary.format})"
    if summary.duration_s:
        words += f" in {seconds(summary.duration_s)}"
    words += (
        f", prompts of {summary.input_tokens.mean:,.0f} and answers of "
        f"{summary.output_tokens.mean:,.0f} tokens on average"
    )
    if summary.reuse is not None:
        words += f"; {100 * summary.reuse.token_share:.1f} % of prompt tokens repeat"
    return words


def _arrivals(summary: Summary) -> Table:
    if not summary.duration_s:
        return Table("Arrivals", (key("times"),), (("none",),))
    columns = (
        Column("requests/s"), Column("busiest minute"), Column("CV of gaps"),
        Column("dispersion a minute", min_width=70), Column("same time", min_width=84),
        Column("input tokens/s", min_width=84), Column("output tokens/s", min_width=84),
    )  # fmt: skip
    row = (
        _digits(summary.requests_per_s), _digits(summary.busiest_minute_requests_per_s),
        _digits(summary.gap_cv), _digits(summary.minute_dispersion),
        share(summary.same_time_share), _digits(summary.input_tokens_per_s),
        _digits(summary.output_tokens_per_s),
    )  # fmt: skip
    note = "1 is Poisson, more is bursty: CV of gaps; variance over mean of requests a minute."
    return Table("Arrivals", columns, (row,), note, HOW)


def _lengths(summary: Summary) -> Table:
    columns = (
        key("tokens"), Column("mean"), Column("CV", min_width=60), Column("min", min_width=70),
        Column("p50"), Column("p90"), Column("p99"), Column("max"),
    )  # fmt: skip
    rows = tuple(
        (
            name, _digits(of.mean), _digits(of.cv), number(of.minimum), _digits(of.p50),
            _digits(of.p90), _digits(of.p99), number(of.maximum),
        )
        for name, of in (("input", summary.input_tokens), ("output", summary.output_tokens))
    )  # fmt: skip
    return Table("Lengths", columns, rows, how=HOW)


def _reuse(report: WorkloadReport) -> Table:
    reuse = report.summary.reuse
    assert reuse is not None
    columns = (key("one cache of"), Column("blocks found"), Column("prompt tokens found"))
    sizes = [(human(tokens, "tokens"), found) for tokens, found in report.caches]
    rows = tuple(
        (size, f"{100 * found.block_share:.1f} %", f"{100 * found.token_share:.1f} %")
        for size, found in (*sizes, ("no limit", reuse))
    )
    note = (
        f"{reuse.blocks:,} blocks of {report.summary.block_tokens} tokens; least recently used "
        "goes first; requests one after the other."
    )
    return Table("Prefix reuse", columns, rows, note, "planner.serving.prefix_cache.replay")


def _digits(value: float) -> str:
    """Three digits, whole above 100."""
    if math.isnan(value):
        return NOTHING
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
