"""Turn a described workload into a stream of requests."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from planner.errors import InputError
from planner.specs.requests import PrefixBlocks
from planner.specs.workload import (
    ClosedLoopArrivals,
    CurveArrivals,
    FixedLength,
    GammaArrivals,
    Length,
    LengthSegment,
    LognormalLength,
    PoissonArrivals,
    QuantileLength,
    Run,
    TraceArrivals,
    UniformLength,
    Workload,
)

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Generator = np.random.Generator

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


Stream = RequestStream | ClosedLoopStream


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
    seeds = np.random.SeedSequence(run.seed).spawn(3)
    if isinstance(arrivals, ClosedLoopArrivals):
        _needs_an_end(run, arrivals.kind)
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
        )
    if isinstance(arrivals, TraceArrivals):
        times = _cut(np.array(arrivals.arrival_s, np.float64), run)
        inputs = np.array(arrivals.input_tokens[: len(times)], np.int64)
        outputs = np.array(arrivals.output_tokens[: len(times)], np.int64)
    else:
        times = _open_loop_times(arrivals, run, np.random.default_rng(seeds[0]))
        inputs, outputs = _lengths_at(times + run.start_s, workload.lengths, seeds[1:])
    if not len(times):
        raise InputError(
            "", "run.duration_s", "no request arrives in this time; give a longer one or a seed"
        )
    return RequestStream(times, inputs, outputs, run.warmup_s, run.warmup_requests)


def _needs_an_end(run: Run, kind: str) -> None:
    if run.requests is None and run.duration_s is None:
        raise InputError(
            "", "run.requests", f"{kind} arrivals never end; give run.requests or run.duration_s"
        )


def _cut(times: Floats, run: Run) -> Floats:
    """Keep what arrives before ``run.duration_s``, at most ``run.requests``."""
    if run.duration_s is not None:
        times = times[times < run.duration_s]
    return times[: run.requests]


def _open_loop_times(
    arrivals: PoissonArrivals | GammaArrivals | CurveArrivals, run: Run, rng: Generator
) -> Floats:
    match arrivals:
        case CurveArrivals():
            return _curve(arrivals, run, rng)
        case PoissonArrivals():
            _needs_an_end(run, arrivals.kind)
            mean_s = 1.0 / arrivals.requests_per_s
            return _renewals(lambda n: rng.exponential(mean_s, n), mean_s, run)
        case GammaArrivals():
            _needs_an_end(run, arrivals.kind)
            mean_s, shape = 1.0 / arrivals.requests_per_s, arrivals.cv**-2
            return _renewals(lambda n: rng.gamma(shape, mean_s / shape, n), mean_s, run)
        case _:
            assert_never(arrivals)


def _renewals(gaps: Callable[[int], Floats], mean_s: float, run: Run) -> Floats:
    """Sum independent gaps until the run is over."""
    if run.requests is not None:
        return _cut(np.cumsum(gaps(run.requests)), run)
    assert run.duration_s is not None
    blocks, last_s = [], 0.0
    while last_s < run.duration_s:
        block = last_s + np.cumsum(gaps(64 + math.ceil((run.duration_s - last_s) / mean_s)))
        blocks.append(block)
        last_s = float(block[-1])
    return _cut(np.concatenate(blocks), run)


def _curve(curve: CurveArrivals, run: Run, rng: Generator) -> Floats:
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
    return _cut(np.concatenate(times), run)


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


def draw_lengths(length: Length, count: int, rng: Generator) -> Integers:
    """Draw ``count`` lengths of at least 1. [tokens]"""
    match length:
        case FixedLength():
            return np.full(count, length.tokens, np.int64)
        case UniformLength():
            return rng.integers(length.low_tokens, length.high_tokens, count, endpoint=True)
        case LognormalLength():
            # the mean of a log-normal is exp(mu + sigma^2 / 2)
            mu = math.log(length.mean_tokens) - length.sigma**2 / 2
            drawn = np.rint(rng.lognormal(mu, length.sigma, count))
            return np.clip(drawn, 1, length.max_tokens).astype(np.int64)
        case QuantileLength():
            bins = np.maximum(1, np.rint(length.bin_means_tokens)).astype(np.int64)
            return bins[rng.integers(len(bins), size=count)]
        case _:
            assert_never(length)


def _endless(length: Length, rng: Generator) -> Iterator[int]:
    while True:
        yield from draw_lengths(length, _BLOCK, rng).tolist()
