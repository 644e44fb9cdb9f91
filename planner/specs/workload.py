"""What traffic a scenario asks for: how requests arrive, and how long they are."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from planner.specs.arrivals import (
    Arrivals,
    ClosedLoopArrivals,
    CurveArrivals,
    GammaArrivals,
    PoissonArrivals,
    Rate,
    SessionArrivals,
    TraceArrivals,
    WeibullArrivals,
)
from planner.specs.base import Count, Spec
from planner.specs.lengths import (
    FixedLength,
    Length,
    LognormalLength,
    QuantileLength,
    UniformLength,
)

__all__ = [
    "Arrivals", "ClosedLoopArrivals", "CurveArrivals", "FixedLength", "GammaArrivals", "Length",
    "LengthSegment", "LognormalLength", "PoissonArrivals", "QuantileLength", "Run",
    "SessionArrivals", "Slo", "TraceArrivals", "UniformLength", "WeibullArrivals", "Workload",
]  # fmt: skip


class LengthSegment(Spec):
    """Lengths that hold from a time of day on."""

    start_s: Annotated[float, Field(ge=0)] = 0.0
    input: Length
    output: Length


class Workload(Spec):
    """One stream of requests."""

    title: str = ""
    source: str = ""
    arrivals: Arrivals
    lengths: tuple[LengthSegment, ...] = ()
    """By time of day, the first from 0; empty only with a trace, which brings its own."""
    cached_input_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of every prompt already in the KV cache: not computed again, but held and read."""
    priority_shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()
    """Share of requests of each priority class, class 0 first, which is served first; of
    conversations the share of conversations.  Empty: all alike, or as a trace says."""
    notes: str = ""

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.priority_shares and abs(sum(self.priority_shares) - 1) > 1e-6:
            raise ValueError(f"priority_shares must add up to 1, got {sum(self.priority_shares):g}")
        return self

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        if isinstance(self.arrivals, TraceArrivals):
            if self.lengths:
                raise ValueError("a trace brings its own lengths; remove lengths")
        elif not self.lengths:
            raise ValueError("lengths is missing; give at least one {input, output} pair")
        if isinstance(self.arrivals, SessionArrivals) and len(self.lengths) > 1:
            raise ValueError("sessions take one pair of lengths, the same all day")
        starts = [segment.start_s for segment in self.lengths]
        if starts and (starts[0] != 0 or starts != sorted(set(starts))):
            raise ValueError("lengths must start at start_s 0 and rise")
        return self


class Run(Spec):
    """How much of the workload is simulated, and which requests count."""

    requests: Count | None = None
    """Stop arrivals after this many requests."""
    duration_s: Rate | None = None
    """Stop arrivals after this time."""
    horizon_s: Rate | None = None
    """Stop serving at this time, whatever is unanswered; None: serve to the last answer, or of an
    open loop to the last arrival if the queue grows without bound by then."""
    window: Literal["peak_output", "peak_requests"] | Annotated[int, Field(ge=0)] | None = None
    """Measure one window of a curve: by its number, or the busiest by output tokens or requests.
    Its predecessors of ``warmup_s`` run before it."""
    start_s: Annotated[float, Field(ge=0)] = 0.0
    """Time of day at which a curve starts."""
    warmup_s: Annotated[float, Field(ge=0)] = 0.0
    """Requests that arrive before this are served but not counted."""
    warmup_requests: Annotated[int, Field(ge=0)] = 0
    """The first requests, served but not counted."""
    seed: Annotated[int, Field(ge=0)] = 1


class Slo(Spec):
    """Latency promises.  A limit that is absent is not promised. [s]"""

    ttft_p50_s: Rate | None = None
    ttft_p90_s: Rate | None = None
    ttft_p95_s: Rate | None = None
    ttft_p99_s: Rate | None = None
    tpot_p50_s: Rate | None = None
    tpot_p90_s: Rate | None = None
    tpot_p95_s: Rate | None = None
    tpot_p99_s: Rate | None = None
    e2e_p50_s: Rate | None = None
    e2e_p90_s: Rate | None = None
    e2e_p95_s: Rate | None = None
    e2e_p99_s: Rate | None = None
