"""Conversations whose prompts grow turn by turn, with the ids of the blocks they share."""

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from planner.errors import InputError
from planner.specs.arrivals import SessionArrivals
from planner.specs.requests import Floats, Integers, PrefixBlocks, RequestTable
from planner.specs.workload import PoissonArrivals, Run, Workload
from planner.workloads.lengths import draw_lengths
from planner.workloads.renewals import cut, renewals

LEAD = 8.0
"""Conversations begin this many mean durations before the run, so that it starts in mid-stream;
0.03 % of conversations last longer."""

Values = TypeVar("Values", Floats, Integers)


def converse(workload: Workload, run: Run) -> RequestTable:
    r"""Requests of conversations, stationary from the first second.

    A conversation has a geometric number of turns with mean :math:`m`.  The prompt of turn
    :math:`k` is :math:`s + \sum_{j<k} (u_j + a_j) + u_k` for a shared prefix :math:`s`, what the
    user adds :math:`u` and answers :math:`a`; its first :math:`(k-1)`-turn part is a prefix that
    turn :math:`k-1` has left in the cache.

    Where turns wait for answers these are the times they would have if answers took no time.

    Returns
    -------
    Requests by time; block ids cover prompt and answer, full blocks only.

    Raises
    ------
    InputError
        Nothing ends the arrivals, or none arrives; even a first turn exceeds the context.
    """
    return conversations(workload, run, LEAD).table


@dataclass(frozen=True, eq=False)
class Conversations:
    """Turns at the times they have if answers take no time, and what follows what."""

    table: RequestTable
    follower: Integers
    """Row of the conversation's next turn, -1: it was the last."""
    first: NDArray[np.bool_]
    """The turn is the first of its conversation here."""
    pause_s: Floats
    """Before the turn. [s]"""
    session: Integers
    """Number of the conversation."""


def conversations(workload: Workload, run: Run, lead: float = 0.0) -> Conversations:
    """Draw the turns of conversations.

    Parameters
    ----------
    lead : conversations begin this many mean durations before the run.

    Raises
    ------
    InputError
        As for :func:`converse`.
    """
    arrivals = workload.arrivals
    assert isinstance(arrivals, SessionArrivals)
    if run.requests is None and run.duration_s is None:
        raise InputError(
            "", "run.requests", "sessions never end; give run.requests or run.duration_s"
        )
    span_s = run.duration_s
    if span_s is None or run.requests is not None:
        assert run.requests is not None
        expected_s = 1.1 * run.requests / (arrivals.sessions_per_s * arrivals.mean_turns)
        span_s = min(expected_s + 10 / arrivals.sessions_per_s, span_s or math.inf)
    while True:
        table, session, pause_s = _drawn(workload, run.seed, span_s, lead)
        enough = run.requests is None or len(table) >= run.requests
        if enough or (run.duration_s is not None and span_s >= run.duration_s):
            table = cut(table, run)
            return _linked(table, session[: len(table)], pause_s[: len(table)])
        span_s *= 2  # the context limit ends conversations early; the same draws, and more


def _linked(table: RequestTable, session: Integers, pause_s: Floats) -> Conversations:
    """Find each turn's next one; rows are in order of time."""
    order = np.argsort(session, kind="stable")
    same = session[order][1:] == session[order][:-1]
    follower = np.full(len(table), -1)
    follower[order[:-1][same]] = order[1:][same]
    first = np.ones(len(table), bool)
    first[order[1:][same]] = False
    return Conversations(table, follower, first, pause_s, session)


def _drawn(
    workload: Workload, seed: int, span_s: float, lead: float
) -> tuple[RequestTable, Integers, Floats]:
    """Every turn that comes in the first ``span_s`` seconds.  A longer span only adds to them."""
    arrivals = workload.arrivals
    assert isinstance(arrivals, SessionArrivals)
    lead_s = lead * arrivals.mean_turns * arrivals.pause_s * (arrivals.mean_turns > 1)
    begins, counts, gaps, groups, prefixes, inputs, outputs = map(
        np.random.default_rng, np.random.SeedSequence(seed).spawn(7)
    )
    begin_s = renewals(
        PoissonArrivals(requests_per_s=arrivals.sessions_per_s),
        Run(duration_s=span_s + lead_s), begins,
    )  # fmt: skip
    turns = counts.geometric(1 / arrivals.mean_turns, len(begin_s))
    session = np.repeat(np.arange(len(turns)), turns)
    first = np.cumsum(turns) - turns
    gap_s = gaps.exponential(arrivals.pause_s, len(session))
    gap_s[first] = 0.0
    arrival_s = begin_s[session] + _running_sum(gap_s, first, session) - lead_s

    group = groups.integers(arrivals.groups, size=len(turns))
    shared = np.zeros(arrivals.groups, np.int64)
    if arrivals.shared_prefix is not None:
        shared = draw_lengths(arrivals.shared_prefix, arrivals.groups, prefixes)
    lengths = workload.lengths[0]
    added = draw_lengths(lengths.input, len(session), inputs)
    answer = draw_lengths(lengths.output, len(session), outputs)
    whole = shared[group][session] + _running_sum(added + answer, first, session)
    if len(first) and (whole[first] > arrivals.max_context_tokens).all():
        raise InputError(
            "", "workload.arrivals.max_context_tokens",
            f"{arrivals.max_context_tokens:,} is less than every first turn; the shortest has "
            f"{int(whole[first].min()):,} tokens",
        )  # fmt: skip
    keep = (whole <= arrivals.max_context_tokens) & (arrival_s >= 0) & (arrival_s < span_s)
    picked = np.flatnonzero(keep)
    picked = picked[np.argsort(arrival_s[picked], kind="stable")]
    sessions = session[picked]
    table = RequestTable(
        arrival_s[picked], (whole - answer)[picked], answer[picked],
        _blocks(arrivals, shared, group[sessions], sessions, whole[picked]),
    )  # fmt: skip
    return table, sessions, gap_s[picked]


def _running_sum(values: Values, first: Integers, session: Integers) -> Values:
    """Sum within each conversation, up to and with each turn."""
    total = np.cumsum(values)
    return total - (total[first] - values[first])[session]


def _blocks(
    arrivals: SessionArrivals, shared: Integers, group: Integers, session: Integers,
    whole: Integers,
) -> PrefixBlocks:  # fmt: skip
    """Ids of full blocks: those of the shared prefix by group, the others by conversation."""
    block = arrivals.block_tokens
    counts = whole // block
    offsets = np.concatenate(([0], np.cumsum(counts)))
    place = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
    common = np.repeat(shared[group] // block, counts)
    per_group = int((shared // block).max()) + 1
    per_session = math.ceil(arrivals.max_context_tokens / block) + 1
    ids = np.where(
        place < common,
        np.repeat(group, counts) * per_group + place,
        arrivals.groups * per_group + np.repeat(session, counts) * per_session + place,
    )
    return PrefixBlocks(block, ids, offsets, covers_answers=True)
