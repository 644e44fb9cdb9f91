"""What a described workload amounts to: rates, mean lengths, its busiest window."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_never

from planner.errors import InputError
from planner.specs.requests import RequestTable
from planner.specs.workload import (
    ClosedLoopArrivals,
    CurveArrivals,
    GammaArrivals,
    LengthSegment,
    PoissonArrivals,
    Run,
    SessionArrivals,
    TraceArrivals,
    WeibullArrivals,
    Workload,
)
from planner.workloads.lengths import mean_square_tokens, mean_tokens
from planner.workloads.sessions import converse
from planner.workloads.trace import played


@dataclass(frozen=True, slots=True)
class Traffic:
    """Mean traffic of a stretch of a workload."""

    requests_per_s: float
    input_tokens: float
    """Mean prompt. [tokens]"""
    output_tokens: float
    """Mean answer. [tokens]"""
    duration_s: float
    square_input_tokens: float
    """Mean of the squared prompt, which causal attention costs. [tokens^2]"""

    @property
    def requests(self) -> float:
        """Expected requests."""
        return self.requests_per_s * self.duration_s

    @property
    def input_tokens_per_s(self) -> float:
        """Prompt tokens arriving. [tokens/s]"""
        return self.requests_per_s * self.input_tokens

    @property
    def output_tokens_per_s(self) -> float:
        """Answer tokens asked for. [tokens/s]"""
        return self.requests_per_s * self.output_tokens


def segment_at(workload: Workload, time_s: float) -> LengthSegment:
    """Lengths in force at a time of day."""
    return [s for s in workload.lengths if s.start_s <= time_s][-1]


def window_traffic(workload: Workload, number: int) -> Traffic:
    """Traffic of one window of a curve."""
    arrivals = workload.arrivals
    if not isinstance(arrivals, CurveArrivals):
        raise InputError("", "run.window", "only a curve of rates has windows")
    if not 0 <= number < len(arrivals.requests_per_s):
        last = len(arrivals.requests_per_s) - 1
        raise InputError("", "run.window", f"{number} is not a window; the curve has 0 to {last}")
    lengths = segment_at(workload, number * arrivals.window_s)
    return Traffic(
        arrivals.requests_per_s[number],
        mean_tokens(lengths.input),
        mean_tokens(lengths.output),
        arrivals.window_s,
        mean_square_tokens(lengths.input),
    )


def peak_window(workload: Workload, by: str) -> int:
    """Number of the busiest window: ``peak_output`` (output tokens) or ``peak_requests``."""
    arrivals = workload.arrivals
    if not isinstance(arrivals, CurveArrivals):
        raise InputError("", "run.window", "only a curve of rates has a busiest window")
    windows = [window_traffic(workload, i) for i in range(len(arrivals.requests_per_s))]
    if by == "peak_requests":
        return max(range(len(windows)), key=lambda i: windows[i].requests_per_s)
    return max(range(len(windows)), key=lambda i: windows[i].output_tokens_per_s)


def resolve_run(workload: Workload, run: Run) -> Run:
    """Turn a wish for a window into start, warm-up and duration."""
    if run.window is None:
        return run
    number = peak_window(workload, run.window) if isinstance(run.window, str) else run.window
    window = window_traffic(workload, number)
    start_s = number * window.duration_s
    warmup_s = min(run.warmup_s, start_s)
    return run.model_copy(
        update={
            "window": None,
            "start_s": start_s - warmup_s,
            "warmup_s": warmup_s,
            "duration_s": warmup_s + window.duration_s,
        }
    )


def measured_traffic(workload: Workload, run: Run) -> Traffic:
    """Traffic of the part of a run that counts (a window, or the whole)."""
    arrivals = workload.arrivals
    match arrivals:
        case CurveArrivals():
            run = resolve_run(workload, run)
            begin_s = run.start_s + run.warmup_s
            end_s = math.inf if run.duration_s is None else run.start_s + run.duration_s
            return _stretch(workload, begin_s, end_s)
        case PoissonArrivals() | GammaArrivals() | WeibullArrivals():
            rate = arrivals.requests_per_s
            duration = run.duration_s or (run.requests or math.nan) / rate
            return _constant(workload, rate, duration)
        case ClosedLoopArrivals():
            return _constant(workload, math.nan, math.nan)
        case TraceArrivals():
            return _of_rows(played(arrivals, run), run)
        case SessionArrivals():
            return _of_rows(converse(workload, run), run)
        case _:
            assert_never(arrivals)


def _of_rows(table: RequestTable, run: Run) -> Traffic:
    """Traffic of the very rows a run sends, warm-up included."""
    last_s = float(table.arrival_s[-1])
    span_s = last_s - float(table.arrival_s[0]) if run.duration_s is None else run.duration_s
    return Traffic(
        len(table) / span_s if span_s else math.nan,
        float(table.input_tokens.mean()),
        float(table.output_tokens.mean()),
        span_s,
        float((table.input_tokens.astype(float) ** 2).mean()),
    )


def whole_curve(workload: Workload) -> Traffic:
    """Traffic of a whole curve: the day."""
    arrivals = workload.arrivals
    if not isinstance(arrivals, CurveArrivals):
        raise InputError("", "workload.arrivals", "only a curve of rates describes a day")
    return _stretch(workload, 0.0, math.inf)


def _stretch(workload: Workload, begin_s: float, end_s: float) -> Traffic:
    """Traffic of a curve between two times of day, as far as the curve goes."""
    arrivals = workload.arrivals
    assert isinstance(arrivals, CurveArrivals)
    windows = [window_traffic(workload, i) for i in range(len(arrivals.requests_per_s))]
    lengths_s = [
        max(0.0, min(end_s, (i + 1) * w.duration_s) - max(begin_s, i * w.duration_s))
        for i, w in enumerate(windows)
    ]
    weights = [w.requests_per_s * s for w, s in zip(windows, lengths_s, strict=True)]
    requests, duration_s = sum(weights), sum(lengths_s)
    if not requests:  # nothing arrives: lengths as if something did
        weights = lengths_s if duration_s else [1.0] * len(windows)

    def mean(values: Iterable[float]) -> float:
        return sum(n * v for n, v in zip(weights, values, strict=True)) / sum(weights)

    return Traffic(
        requests / duration_s if duration_s else 0.0,
        mean(w.input_tokens for w in windows),
        mean(w.output_tokens for w in windows),
        duration_s,
        mean(w.square_input_tokens for w in windows),
    )


def _constant(workload: Workload, requests_per_s: float, duration_s: float) -> Traffic:
    lengths = workload.lengths[0]
    return Traffic(
        requests_per_s,
        mean_tokens(lengths.input),
        mean_tokens(lengths.output),
        duration_s,
        mean_square_tokens(lengths.input),
    )
