"""What a workload sends, drawn or read, and what caches of several sizes would find in it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from planner.serving.arrivals import (
    ClosedLoopStream,
    RequestStream,
    SessionStream,
    Stream,
    generate,
)
from planner.serving.prefix_cache import replay
from planner.specs.requests import RequestTable
from planner.specs.workload import CurveArrivals, Run, TraceArrivals, Workload
from planner.workloads import Reuse, Summary, describe, resolve_run
from planner.workloads.trace import rows

DRAWN = 100_000
"""Requests drawn of a workload that never ends, where the run names no number."""
MOST_BLOCKS = 2_000_000
"""Blocks up to which caches are replayed: above, only the unlimited one is counted."""


@dataclass(frozen=True, slots=True)
class WorkloadReport:
    """A workload in numbers."""

    title: str
    source: str
    kind: str
    summary: Summary
    caches: tuple[tuple[float, Reuse], ...]
    """Capacity of a single cache [tokens], and what it would find."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "title": self.title,
            "source": self.source,
            "kind": self.kind,
            **self.summary.to_dict(),
            "caches": [
                {"capacity_tokens": tokens, "hit_block_share": reuse.block_share,
                 "hit_token_share": reuse.token_share}
                for tokens, reuse in self.caches
            ],
        }  # fmt: skip


def describe_workload(workload: Workload, run: Run) -> WorkloadReport:
    """Draw or play a workload and sum it up.

    Raises
    ------
    InputError
        No request is left or arrives.
    """
    table = _requests(workload, resolve_run(workload, run))
    summary = describe(table)
    capacities: list[float] = []
    if table.prefixes is not None and len(table.prefixes.ids) <= MOST_BLOCKS:
        kept = len(np.unique(table.prefixes.ids)) * table.prefixes.block_tokens
        smallest = int(table.input_tokens.max())
        capacities = [float(10**p) for p in range(4, 13) if smallest <= 10**p < kept]
    caches = tuple(
        (tokens, replay(table.prefixes, table.input_tokens, tokens))
        for tokens in capacities
        if table.prefixes is not None
    )
    return WorkloadReport(workload.title, workload.source, workload.arrivals.kind, summary, caches)


def _requests(workload: Workload, run: Run) -> RequestTable:
    """Requests of a run as a table; of a closed loop the lengths alone."""
    arrivals = workload.arrivals
    notes: tuple[str, ...] = (f"drawn, seed {run.seed}",)
    if isinstance(arrivals, TraceArrivals):
        recorded = rows(arrivals)
        if arrivals.requests_per_s is None and not recorded.timed:
            return recorded
        if arrivals.requests_per_s is not None and run.requests is None and run.duration_s is None:
            run = run.model_copy(update={"requests": len(recorded)})
        played = _open(generate(workload, run))
        return replace(played, format=recorded.format, notes=recorded.notes)
    never_ends = not isinstance(arrivals, CurveArrivals)
    if never_ends and run.requests is None and run.duration_s is None:
        run = run.model_copy(update={"requests": DRAWN})
        notes = (f"never ends: {DRAWN:,} requests drawn, seed {run.seed}",)
    stream = generate(workload, run)
    if isinstance(stream, ClosedLoopStream):
        return _closed(stream, notes)
    if isinstance(stream, SessionStream):
        notes = (*notes, "times as if answers took none: turns wait for them")
    return replace(_open(stream), format=arrivals.kind, notes=notes)


def _open(stream: Stream) -> RequestTable:
    if isinstance(stream, SessionStream):
        return stream.turns.table
    assert isinstance(stream, RequestStream)
    return RequestTable(
        stream.arrival_s, stream.input_tokens, stream.output_tokens, stream.prefixes
    )


def _closed(stream: ClosedLoopStream, notes: tuple[str, ...]) -> RequestTable:
    draw = stream.drawer()
    pairs = np.array([draw(0.0) for _ in range(stream.requests or DRAWN)], np.int64)
    return RequestTable(
        np.zeros(len(pairs)), pairs[:, 0], pairs[:, 1], None, False, "closed_loop",
        notes=(*notes, f"{stream.concurrency:,} clients: arrivals follow from the service"),
    )  # fmt: skip
