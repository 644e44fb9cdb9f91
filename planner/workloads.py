"""What a described workload amounts to: rates, mean lengths, its busiest window."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from planner.errors import InputError
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


def mean_tokens(length: Length) -> float:
    """Mean of a length distribution, before rounding and cutting. [tokens]"""
    match length:
        case FixedLength():
            return float(length.tokens)
        case UniformLength():
            return (length.low_tokens + length.high_tokens) / 2
        case LognormalLength():
            return length.mean_tokens
        case QuantileLength():
            return sum(length.bin_means_tokens) / len(length.bin_means_tokens)


def mean_square_tokens(length: Length) -> float:
    """Mean square of a length distribution, before rounding and cutting. [tokens^2]"""
    match length:
        case FixedLength():
            return float(length.tokens) ** 2
        case UniformLength():
            low, high = length.low_tokens, length.high_tokens
            return (low * low + low * high + high * high) / 3
        case LognormalLength():
            return min(length.mean_tokens**2 * math.exp(length.sigma**2), length.max_tokens**2)
        case QuantileLength():
            return sum(x * x for x in length.bin_means_tokens) / len(length.bin_means_tokens)


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
        case PoissonArrivals() | GammaArrivals():
            rate = arrivals.requests_per_s
            duration = run.duration_s or (run.requests or math.nan) / rate
            return _constant(workload, rate, duration)
        case ClosedLoopArrivals():
            return _constant(workload, math.nan, math.nan)
        case TraceArrivals():
            n, last = len(arrivals.arrival_s), arrivals.arrival_s[-1]
            span = last - arrivals.arrival_s[0]
            return Traffic(
                n / span if span else math.nan,
                sum(arrivals.input_tokens) / n,
                sum(arrivals.output_tokens) / n,
                span,
                sum(x * x for x in arrivals.input_tokens) / n,
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
