"""Play a trace: choose rows, stretch time, scale the number of requests, fill a horizon.

Copies and further passes of a trace are other people saying other things: their block ids are
renamed, so that they share prefixes among themselves and never with the original.  Reuse is
thereby never invented; a prefix that all users share in truth (a system prompt) is counted too
low in copies.
"""

import math
from dataclasses import replace

import numpy as np

from planner.errors import InputError
from planner.specs.arrivals import TraceArrivals
from planner.specs.requests import Floats, Integers, RequestTable
from planner.specs.workload import PoissonArrivals, Run
from planner.workloads.renewals import cut, renewals


def rows(arrivals: TraceArrivals) -> RequestTable:
    """Every recorded request, as read or as written in the scenario."""
    if arrivals.table is not None:
        return arrivals.table
    if arrivals.file is not None:
        raise InputError(
            "", "workload.arrivals.file", f"{arrivals.file!r} was not read; use load_scenario"
        )
    return RequestTable(
        np.array(arrivals.arrival_s, np.float64),
        np.array(arrivals.input_tokens, np.int64),
        np.array(arrivals.output_tokens, np.int64),
    )


def played(arrivals: TraceArrivals, run: Run) -> RequestTable:
    """Rows of a trace as a run sends them, from its first second on.

    The draws (thinning, copies, resampling) follow from ``run.seed``.

    Raises
    ------
    InputError
        No request is left, or the file has no times and no rate was given.
    """
    rng = np.random.default_rng(np.random.SeedSequence(run.seed).spawn(3)[0])
    recorded = rows(arrivals)
    if arrivals.requests_per_s is None and not recorded.timed:
        raise InputError(
            "", "workload.arrivals.requests_per_s",
            f"is missing; {arrivals.file} has lengths but no times",
        )  # fmt: skip
    table, period_s = _chosen(arrivals, recorded)
    if arrivals.requests_per_s is not None:
        return _at_rate(arrivals.requests_per_s, table, run, rng)
    period_s *= arrivals.time_scale
    table = _moved(table, table.arrival_s * arrivals.time_scale)
    table = _scaled(arrivals, table, period_s, rng)
    if arrivals.horizon_s is not None:
        table = _filled(arrivals, table, period_s, rng)
    return cut(table, run)


def _chosen(arrivals: TraceArrivals, table: RequestTable) -> tuple[RequestTable, float]:
    """Rows in the wanted ranges, and how long a stretch of time they stand for. [s]"""
    last_s = float(table.arrival_s[-1])
    # a recording of n requests stands for n mean gaps, one more than lie between them
    whole_s = last_s * len(table) / max(1, len(table) - 1)
    period_s = (whole_s if arrivals.to_s is None else min(whole_s, arrivals.to_s)) - arrivals.from_s
    keep = (table.arrival_s >= arrivals.from_s) & (
        table.arrival_s < (math.inf if arrivals.to_s is None else arrivals.to_s)
    )
    for lengths, bounds in (
        (table.input_tokens, arrivals.input_range_tokens),
        (table.output_tokens, arrivals.output_range_tokens),
    ):
        if bounds:
            keep &= (lengths >= bounds[0]) & (lengths <= bounds[1])
    if not keep.any():
        raise InputError(
            "", "workload.arrivals",
            f"no request of the trace is in the chosen range; it has {len(table):,} over "
            f"{last_s:,.6g} s, prompts of {table.input_tokens.min():,} to "
            f"{table.input_tokens.max():,} tokens, answers of {table.output_tokens.min():,} to "
            f"{table.output_tokens.max():,}",
        )  # fmt: skip
    if keep.all() and not arrivals.from_s:
        return table, period_s
    table = table.take(np.flatnonzero(keep))
    return _moved(table, table.arrival_s - arrivals.from_s), period_s


def _moved(table: RequestTable, arrival_s: Floats) -> RequestTable:
    return RequestTable(
        arrival_s, table.input_tokens, table.output_tokens, table.prefixes,
        priority=table.priority,
    )  # fmt: skip


def _scaled(
    arrivals: TraceArrivals, table: RequestTable, period_s: float, rng: np.random.Generator
) -> RequestTable:
    """Thin or copy; a copy is shifted as a whole and wraps around the end of the period."""
    whole, rest = divmod(arrivals.rate_scale, 1.0)
    everything = np.arange(len(table))
    parts = [everything] * int(whole)
    if rest:
        parts.append(np.flatnonzero(rng.random(len(table)) < rest))
    if len(parts) == 1 and len(parts[0]) == len(table):
        return table
    times = []
    for number, part in enumerate(parts):
        shift_s = rng.uniform(0, min(arrivals.copy_shift_s, period_s)) if number else 0.0
        moved = table.arrival_s[part] + shift_s
        times.append(np.where(moved < period_s, moved, moved - period_s) if shift_s else moved)
    return _joined(table, parts, times)


def _filled(
    arrivals: TraceArrivals, table: RequestTable, period_s: float, rng: np.random.Generator
) -> RequestTable:
    """Repeat whole passes, or blocks drawn at random, until the horizon."""
    horizon_s, block_s = arrivals.horizon_s, arrivals.resample_block_s
    assert horizon_s is not None
    if not period_s:
        raise InputError(
            "", "workload.arrivals.horizon_s", "cannot be filled: all requests arrive at once"
        )
    if block_s is None:
        starts, block_s = [0.0] * math.ceil(horizon_s / period_s), period_s
    else:
        blocks = int(period_s / block_s + 1e-9)
        if not blocks:
            raise InputError(
                "", "workload.arrivals.resample_block_s",
                f"must be at most the {period_s:,.6g} s of the trace, got {block_s:g}",
            )  # fmt: skip
        drawn = rng.integers(blocks, size=math.ceil(horizon_s / block_s))
        starts = (drawn * block_s).tolist()
    parts, times = [], []
    for number, start_s in enumerate(starts):
        first, last = np.searchsorted(table.arrival_s, (start_s, start_s + block_s)).tolist()
        moved = table.arrival_s[first:last] - start_s + number * block_s
        inside = moved < horizon_s
        parts.append(np.arange(first, last)[inside])
        times.append(moved[inside])
    return _joined(table, parts, times)


def _at_rate(
    requests_per_s: float, table: RequestTable, run: Run, rng: np.random.Generator
) -> RequestTable:
    """Poisson arrivals; rows in order, pass after pass, where they share prefixes, else drawn."""
    times = renewals(PoissonArrivals(requests_per_s=requests_per_s), run, rng)
    count = len(times)
    if table.prefixes is None:
        return cut(_moved(table.take(rng.integers(len(table), size=count)), times), run)
    passes = [np.arange(min(len(table), count - begin)) for begin in range(0, count, len(table))]
    sent = np.split(times, np.cumsum([len(part) for part in passes])[:-1])
    return cut(_joined(table, passes, sent), run)


def _joined(table: RequestTable, parts: list[Integers], times: list[Floats]) -> RequestTable:
    """One table of several takes of the same rows, by time; each take has block ids of its own."""
    picked = np.concatenate(parts)
    arrival_s = np.concatenate(times)
    joined = table.take(picked)
    prefixes = joined.prefixes
    if prefixes is not None and len(prefixes.ids):
        names = int(prefixes.ids.max()) + 1
        take = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        ids = prefixes.ids + names * np.repeat(take, np.diff(prefixes.offsets))
        prefixes = replace(prefixes, ids=ids)
    order = np.argsort(arrival_s, kind="stable")
    return RequestTable(
        arrival_s, joined.input_tokens, joined.output_tokens, prefixes, priority=joined.priority
    ).take(order)  # fmt: skip
