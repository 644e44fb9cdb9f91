"""Turn a described workload into a stream of requests."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import assert_never

import numpy as np

from planner.errors import InputError
from planner.specs.requests import Floats, Integers, PrefixBlocks, RequestTable
from planner.specs.workload import (
    ClosedLoopArrivals,
    CurveArrivals,
    GammaArrivals,
    Length,
    LengthSegment,
    PoissonArrivals,
    Run,
    SessionArrivals,
    TraceArrivals,
    WeibullArrivals,
    Workload,
)
from planner.workloads import (
    Conversations,
    conversations,
    cut,
    draw_lengths,
    played,
    renewals,
)
from planner.workloads.sessions import LEAD

_BLOCK = 4096


@dataclass(frozen=True, eq=False)
class RequestStream:
    """Requests whose arrival times are known before the run (open loop)."""

    arrival_s: Floats
    """Since the start of the run, never falling. [s]"""
    input_tokens: Integers
    output_tokens: Integers
    warmup_s: float = 0.0
    """Requests that arrive before this are served but not counted. [s]"""
    warmup_requests: int = 0
    prefixes: PrefixBlocks | None = None
    """Ids of each request's KV blocks, where it is known which prompts start alike."""
    priority: Integers | None = None
    """Class of each request, 0 is served first; None: all alike."""


@dataclass(frozen=True, eq=False)
class ClosedLoopStream:
    """Clients that each wait for their answer: arrival times depend on the service.

    Every simulation of the same stream draws the same lengths in the order of issue.
    """

    concurrency: int
    think_s: float
    requests: int | None
    """Requests sent in all, or None: until ``duration_s``."""
    duration_s: float | None
    lengths: tuple[LengthSegment, ...]
    start_s: float
    seeds: tuple[np.random.SeedSequence, np.random.SeedSequence]
    warmup_s: float = 0.0
    warmup_requests: int = 0
    priority_shares: tuple[float, ...] = ()
    """Of each class, 0 first; empty: all alike."""
    priority_seed: np.random.SeedSequence | None = None

    def drawer(self) -> Callable[[float], tuple[int, int]]:
        """Return a function: time since the start [s] -> (input, output) of the next request."""
        inputs, outputs = (np.random.default_rng(seed) for seed in self.seeds)
        sources = [
            (_endless(segment.input, inputs), _endless(segment.output, outputs))
            for segment in self.lengths
        ]
        starts = [segment.start_s for segment in self.lengths]

        def draw(at_s: float) -> tuple[int, int]:
            segment = int(np.searchsorted(starts, self.start_s + at_s, side="right")) - 1
            source = sources[segment]
            return next(source[0]), next(source[1])

        return draw


@dataclass(frozen=True, eq=False)
class SessionStream:
    """Conversations whose turns are sent when the one before is answered, after a pause."""

    turns: Conversations
    duration_s: float | None
    """Turns that would be sent later are not. [s]"""
    warmup_s: float = 0.0
    warmup_requests: int = 0
    priority: Integers | None = None
    """Class of each turn."""


Stream = RequestStream | ClosedLoopStream | SessionStream


def generate(workload: Workload, run: Run) -> Stream:
    """Draw the requests of a run.

    Arrivals, prompt lengths and answer lengths have a random stream each, spawned from
    ``run.seed``: a change of lengths leaves the arrival times alone.

    Returns
    -------
    A stream; its times count from the start of the run. [s]

    Raises
    ------
    InputError
        Nothing ends the arrivals, or no request arrives at all.
    """
    arrivals = workload.arrivals
    seeds = np.random.SeedSequence(run.seed).spawn(4)
    shares = workload.priority_shares
    if isinstance(arrivals, ClosedLoopArrivals):
        if run.requests is None and run.duration_s is None:
            raise InputError(
                "", "run.requests",
                "closed_loop arrivals never end; give run.requests or run.duration_s",
            )  # fmt: skip
        return ClosedLoopStream(
            concurrency=arrivals.concurrency,
            think_s=arrivals.think_s,
            requests=run.requests,
            duration_s=run.duration_s,
            lengths=workload.lengths,
            start_s=run.start_s,
            seeds=(seeds[1], seeds[2]),
            warmup_s=run.warmup_s,
            warmup_requests=run.warmup_requests,
            priority_shares=shares,
            priority_seed=seeds[3],
        )
    match arrivals:
        case TraceArrivals():
            table = played(arrivals, run)
        case SessionArrivals() if arrivals.mean_think_s is not None:
            turns = conversations(workload, run)
            return SessionStream(
                turns, run.duration_s, run.warmup_s, run.warmup_requests,
                _classes(shares, turns.session, seeds[3]),
            )  # fmt: skip
        case SessionArrivals():
            turns = conversations(workload, run, LEAD)
            table = replace(turns.table, priority=_classes(shares, turns.session, seeds[3]))
        case CurveArrivals():
            times = _curve(arrivals, run, np.random.default_rng(seeds[0]))
            table = _with_lengths(times, workload, run, seeds[1:3])
        case PoissonArrivals() | GammaArrivals() | WeibullArrivals():
            times = renewals(arrivals, run, np.random.default_rng(seeds[0]))
            table = _with_lengths(times, workload, run, seeds[1:3])
        case _:
            assert_never(arrivals)
    classes = table.priority
    if classes is None:
        classes = _classes(shares, np.arange(len(table)), seeds[3])
    return RequestStream(
        table.arrival_s, table.input_tokens, table.output_tokens,
        run.warmup_s, run.warmup_requests, table.prefixes, classes,
    )  # fmt: skip


def _classes(
    shares: tuple[float, ...], who: Integers, seed: np.random.SeedSequence
) -> Integers | None:
    """Draw a class for everybody, the same for all that somebody sends; None: all alike."""
    if not shares:
        return None
    drawn = np.random.default_rng(seed).random(int(who.max(initial=0)) + 1)
    return np.minimum(np.searchsorted(np.cumsum(shares), drawn, "right"), len(shares) - 1)[who]


def _with_lengths(
    times: Floats, workload: Workload, run: Run, seeds: list[np.random.SeedSequence]
) -> RequestTable:
    lengths = _lengths_at(times + run.start_s, workload.lengths, seeds)
    return cut(RequestTable(times, *lengths), run)


def _curve(curve: CurveArrivals, run: Run, rng: np.random.Generator) -> Floats:
    """Poisson counts and uniform order statistics in each window, from ``run.start_s`` on."""
    width_s = curve.window_s
    end_s = len(curve.requests_per_s) * width_s
    if run.start_s >= end_s:
        raise InputError(
            "",
            "run.start_s",
            f"must be before the end of the curve at {end_s:g} s, got {run.start_s:g}",
        )
    if run.duration_s is not None:
        end_s = min(end_s, run.start_s + run.duration_s)
    times = []
    for window, rate in enumerate(curve.requests_per_s):
        low_s = max(run.start_s, window * width_s)
        high_s = min(end_s, (window + 1) * width_s)
        if high_s > low_s:
            count = rng.poisson(rate * (high_s - low_s))
            times.append(np.sort(rng.uniform(low_s, high_s, count)) - run.start_s)
    return np.concatenate(times)[: run.requests]


def _lengths_at(
    time_of_day_s: Floats,
    segments: tuple[LengthSegment, ...],
    seeds: list[np.random.SeedSequence],
) -> tuple[Integers, Integers]:
    inputs, outputs = (np.random.default_rng(seed) for seed in seeds)
    starts = [segment.start_s for segment in segments]
    counts = np.bincount(
        np.searchsorted(starts, time_of_day_s, side="right") - 1, minlength=len(starts)
    ).tolist()
    pairs = list(zip(segments, counts, strict=True))
    return (
        np.concatenate([draw_lengths(segment.input, count, inputs) for segment, count in pairs]),
        np.concatenate([draw_lengths(segment.output, count, outputs) for segment, count in pairs]),
    )


def _endless(length: Length, rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield from draw_lengths(length, _BLOCK, rng).tolist()
